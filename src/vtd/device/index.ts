export type { BackendProgress, VtdBackend, VtdForBackend } from "./backend.js";
export { capabilityRegister, DEFAULT_VTD_PROPERTIES, extendedCapabilityRegister, type VtdProperties } from "./capabilities.js";
export { type VtdCounters, VtdDevice, type VtdDeviceOptions } from "./device.js";
export type { MessageSender } from "./event-message.js";
