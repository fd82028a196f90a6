export { EndpointDmaEngine } from "./dma-engine.js";
export { type GuestNews, PvpanicByte, PvpanicPci } from "./pvpanic.js";
export { Edu, type EduOptions } from "./edu.js";
export { EmulatedEndpoint, ENGINE_CAPABILITY_MARK, type EndpointCounters, type EndpointOptions } from "./endpoint.js";
export { E1000e, EngineEndpoint, VirtioBlkPci, VirtioNetPci, type E1000eOptions, type VirtioOptions } from "./endpoint-models.js";
export { describeSpace, type SpaceSummary } from "./describe-space.js";
export { barsOf, type InertBar, InertFunction, type InertOptions, type InertSpace } from "./inert-function.js";
export { Nvme, type NvmeDrive, type NvmeEndpointOptions } from "./nvme.js";
export {
  IommuTestdev,
  TESTDEV_BAD_ATTRIBUTES,
  TESTDEV_BAD_LENGTH,
  TESTDEV_BUSY,
  TESTDEV_IDLE,
  TESTDEV_MISMATCH,
  TESTDEV_NOT_ARMED,
  TESTDEV_READ_FAILED,
  TESTDEV_WRITE_FAILED,
  type IommuTestdevOptions,
} from "./iommu-testdev.js";
