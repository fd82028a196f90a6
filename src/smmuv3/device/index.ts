export { type AcceleratedFeatures, BATCH_REFUSED, type SmmuBackend, type SmmuForBackend, UNFINISHED } from "./backend.js";
export { type SmmuCounters, SmmuV3, type SmmuV3Options } from "./device.js";
export { DEFAULT_PROPERTIES, idRegisters, type SmmuProperties } from "./id-registers.js";
export type { InterruptLine, MsiWriter, SmmuInterruptLines } from "./interrupts.js";
export { SoftwareIommuOps } from "./iommu-ops.js";
