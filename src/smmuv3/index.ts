export type { AcceleratedFeatures, SmmuBackend, SmmuForBackend } from "./backend.js";
export { type SmmuCounters, SmmuV3, type SmmuV3Options } from "./device.js";
export { DEFAULT_PROPERTIES, idRegisters, type SmmuProperties } from "./id-registers.js";
export type { InterruptLine, MsiWriter, SmmuInterruptLines } from "./interrupts.js";
export { SoftwareIommuOps } from "./iommu-ops.js";
export { SmmuAcceleration, type FunctionTable } from "./acceleration.js";
export type { AccelerationProperties } from "./accel-offer.js";
export { AcceleratedIommuOps, sharedPassthroughSpace } from "./accel-ops.js";
export { checkHostServes, featuresOfHost, hostIdRegisters } from "./compatibility.js";
