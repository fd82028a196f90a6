export { ERRNO, type Errno, errnoName, errnoNumber, HostError, hostError, refusalOf } from "./errors.js";
export type { EventStream, FaultStream, HostEvent } from "./events.js";
export type { BatchAccount, HostCachedEntry, HostFacts, HostFunctionFacts, HostInspector, HostIommuFacts, HostUnit, ObjectAccount, TableAccount } from "./inspector.js";
export { type Host, type HostFunction, VTD_FAULT_BYTES, type VtdFaultSource } from "./host.js";
export { type DirtySource, isIommufdDevice, type IommufdDevice } from "./host-device.js";
export { mapSourceOf } from "./map-source.js";
export { ARM_SMMUV3_INVALIDATE_BLOCK } from "./iommufd.js";
export type {
  CopyRequest,
  DirtyBitmapRequest,
  HwInfo,
  HwInfoRequest,
  HwptAllocRequest,
  InvalidateRequest,
  InvalidateResult,
  Iommufd,
  IovaRange,
  MapRequest,
  MapSource,
  VdeviceRequest,
  VeventqRequest,
  ViommuRequest,
} from "./iommufd.js";
export { FIRMWARE_WANTS_DIRECT, leavesDmaToVfio, notViable, VIABLE_GROUP, WALKS_INCOHERENTLY } from "./dma-owner.js";
export type { RawIoctl, RawPointer } from "./raw-ioctl.js";
export * from "./uapi.js";
export type { DeviceInfo, FeatureRequest, HotResetDevice, IrqInfo, MappedArea, RegionArea, RegionFile, RegionInfo, RegionMapping, VfioDevice } from "./vfio.js";
