export type { VtdBackend } from "./device/backend.js";
export { capabilityRegister, DEFAULT_VTD_PROPERTIES, extendedCapabilityRegister, type VtdProperties } from "./device/capabilities.js";
export { type VtdCounters, VtdDevice, type VtdDeviceOptions } from "./device/device.js";
export type { MessageSender } from "./device/event-message.js";
export { VtdAcceleration, type VtdFunctionAccount } from "./accel/acceleration.js";
export { checkHostServes } from "./accel/compatibility.js";
export type { VtdFunctionTable } from "./accel/function.js";
