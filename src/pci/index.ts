export { PciBus, type BusRules } from "./bus.js";
export { ConfigSpace } from "./config-space.js";
export { PciFunction, formatBdf, type Bar, type FunctionKind, type PciIdentity } from "./function.js";
export { iommuPath, type HostIommuDevice, type IommuOps, type IommuPath, type ViommuFlags } from "./iommu.js";
