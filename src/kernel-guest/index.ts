export { type KernelFiles, readKernelFiles } from "./files.js";
export { sharedMemory } from "../linux/index.js";
export { tablesFor } from "./platforms.js";
export { type KernelEnd, KernelGuest, type KernelOptions, type KernelReport } from "./session.js";
