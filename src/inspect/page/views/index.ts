/** The page's views of a machine: a component each, of what the page gives to all (`ViewProps`). */
export { CachesView } from "./caches.js";
export { NumbersView } from "./numbers.js";
export { QueuesView } from "./queues.js";
export { RecordingBar } from "./recording-bar.js";
export { TimelineView } from "./timeline.js";
export { tidy, type Query, type Questions, type RecordingPosition, type ViewClient, type ViewProps } from "./view.js";
export { WalkView } from "./walk.js";
