/** Host files: what they say, checked. It is what loads zod, and no more than a file that is checked needs it. */
export {
  DEFAULT_DOORBELL,
  describeHost,
  hostFileJsonSchema,
  loadHostDescription,
  SMMU_ERRATA,
  type BarDescription,
  type FunctionDescription,
  type HostDescription,
  type HostDescriptionInput,
  type MemoryDescription,
  type SmmuDescription,
  type SmmuErratum,
} from "./host-description.js";
export { unitOfRegisters, VTD_ERRATA, type VtdDescription, type VtdErratum } from "./vtd-description.js";
export type { AmdDescription, HugepagesDescription, NumaDescription, PortDescription, ReservedDescription } from "./host-facts.js";
