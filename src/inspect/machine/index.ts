/** A running machine as an inspector looks at it. Loaded when it is asked for. */
export { mapOfHost } from "./map.js";
export { inspectMachine } from "./source.js";
export { functionNames } from "./map.js";
