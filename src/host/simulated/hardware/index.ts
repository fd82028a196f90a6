export {
  describeHost,
  hostFileJsonSchema,
  iommuOf,
  loadHostDescription,
  requesterIdOf,
  SMMU_ERRATA,
  sourceIdOf,
  type BarDescription,
  type FunctionDescription,
  type HostDescription,
  type HostDescriptionInput,
  type MemoryDescription,
  type SmmuDescription,
  type SmmuErratum,
} from "./host-description.js";
export { capabilityRegisters } from "./vtd/capability-registers.js";
export { VTD_ERRATA, type VtdDescription, type VtdErratum } from "./vtd/vtd-description.js";
export { PhysicalMemory, type MemoryRange } from "./physical-memory.js";
export type { UnitCounters } from "./unit.js";
export { HardwareSmmu } from "./smmu/smmu.js";
export type { HardwareIommu, InvalidationTarget } from "./iommu.js";
export { HardwareVtd, INVALIDATION_TIMEOUT } from "./vtd/vtd.js";
export { HardwareFunction, type DmaCounters, type MsiTarget } from "./function.js";
export { SimulatedHardware } from "./hardware.js";
export * from "../../../dma-engine/index.js";
