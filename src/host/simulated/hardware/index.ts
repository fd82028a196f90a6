export {
  describeHost,
  hostFileJsonSchema,
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
export { PhysicalMemory, type MemoryRange } from "./physical-memory.js";
export { HardwareSmmu, type SmmuCounters } from "./smmu/smmu.js";
export type { HardwareIommu, InvalidationTarget } from "./iommu.js";
export { HardwareFunction, type DmaCounters, type MsiTarget } from "./function.js";
export { SimulatedHardware } from "./hardware.js";
export * from "../../../dma-engine/index.js";
