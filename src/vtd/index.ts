export type { VtdBackend } from "./backend.js";
export { capabilityRegister, DEFAULT_VTD_PROPERTIES, extendedCapabilityRegister, type VtdProperties } from "./capabilities.js";
export { type VtdCounters, VtdDevice, type VtdDeviceOptions } from "./device.js";
export type { MessageSender } from "./event-message.js";
export { VtdAcceleration, type VtdFunctionAccount } from "./acceleration.js";
export { checkHostServes } from "./compatibility.js";
export type { VtdFunctionTable } from "./passthrough-function.js";
