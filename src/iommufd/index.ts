export { ERRNO, type Errno, errnoName, errnoNumber, HostError, hostError, refusalOf } from "./errors.js";
export { isIommufdDevice, type IommufdDevice } from "./host-device.js";
export { ARM_SMMUV3_INVALIDATE_BLOCK } from "./iommufd.js";
export type {
  EventStream,
  Host,
  HostFunction,
  HwInfo,
  HwptAllocRequest,
  InvalidateRequest,
  InvalidateResult,
  Iommufd,
  IovaRange,
  IrqTrigger,
  MapRequest,
  VfioDevice,
} from "./iommufd.js";
export * from "./uapi.js";
