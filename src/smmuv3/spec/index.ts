export * from "./fields.js";
export * from "./registers.js";
export * from "./ste.js";
export * from "./cd.js";
export * from "./commands.js";
export * from "./events.js";
