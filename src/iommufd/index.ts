export { ERRNO, type Errno, errnoName, errnoNumber, HostError, hostError, refusalOf } from "./errors.js";
export { isIommufdDevice, type IommufdDevice } from "./host-device.js";
export { HostObserver, observeHost, type HostCallFailure } from "./observed-host.js";
export { descriptorOf, traceHost } from "./traced-host.js";
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
} from "./types.js";
export * from "./uapi.js";
