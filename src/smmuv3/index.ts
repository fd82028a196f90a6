export type { AcceleratedFeatures, SmmuBackend, SmmuForBackend } from "./device/backend.js";
export { type SmmuCounters, SmmuV3, type SmmuV3Options } from "./device/device.js";
export { DEFAULT_PROPERTIES, idRegisters, type SmmuProperties } from "./device/id-registers.js";
export type { InterruptLine, MsiWriter, SmmuInterruptLines } from "./device/interrupts.js";
export { SoftwareIommuOps } from "./device/iommu-ops.js";
export { SmmuAcceleration, type FunctionTable } from "./accel/acceleration.js";
export type { AccelerationProperties } from "./accel/offer.js";
export { AcceleratedIommuOps, sharedPassthroughSpace } from "./accel/iommu-ops.js";
export { checkHostServes, featuresOfHost, hostIdRegisters } from "./accel/compatibility.js";
