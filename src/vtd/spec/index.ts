export * from "./registers.js";
export * from "./tables.js";
export * from "./descriptors.js";
export * from "./faults.js";
export * from "./interrupts.js";
