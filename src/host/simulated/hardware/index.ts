export { capabilityRegisters } from "./vtd/capability-registers.js";
export { PhysicalMemory, type MemoryRange } from "./physical-memory.js";
export type { UnitCounters } from "./unit.js";
export { HardwareSmmu } from "./smmu/smmu.js";
export type { HardwareIommu, InvalidationTarget } from "./iommu.js";
export { HardwareVtd, INVALIDATION_TIMEOUT } from "./vtd/vtd.js";
export { HardwareFunction, type DmaCounters, type MsiTarget } from "./function.js";
export { SimulatedHardware } from "./hardware.js";
export * from "../../../dma-engine/index.js";
