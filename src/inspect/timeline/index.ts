/** What happens in a machine, row by row, and how much of it. */
export { ROWS_LIMIT, Timeline, timelineOf } from "./timeline.js";
export { numbersOf, type OutsideCounts } from "./numbers.js";
