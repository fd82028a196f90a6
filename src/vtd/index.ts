/** The VT-d unit of a machine: the device, and the acceleration of its passed-through functions. */
export * from "./accel/index.js";
export * from "./device/index.js";
