export { FunctionMap } from "./function-map.js";
export { BarMapper, barPieces } from "./bar-mapper.js";
export { PciBridge, type BridgeOptions, type BridgeWindow } from "./bridge.js";
export { PciBus, type BusRules, type PciTopology } from "./bus.js";
export {
  addAccessControl,
  addAri,
  addAts,
  addCapability,
  addErrorReporting,
  addExpressCapability,
  addExtendedCapability,
  addPasid,
  addPowerManagement,
  addSerialNumber,
  addSubsystemIds,
  CAP_EXPRESS,
  CAP_MSI,
  CAP_MSIX,
  CAP_POWER_MANAGEMENT,
  CAP_SUBSYSTEM,
  CAP_VENDOR,
  EXT_CAP_ACS,
  EXT_CAP_AER,
  EXT_CAP_ARI,
  EXT_CAP_ATS,
  EXT_CAP_PASID,
  EXT_CAP_SERIAL_NUMBER,
  ExpressType,
  findCapability,
  findExtendedCapability,
  removeCapability,
  type ExpressOptions,
} from "./capabilities.js";
export { className, PCI_CLASSES } from "./class-names.js";
export { ConfigSpace } from "./config-space.js";
export { GpexHostBridge, NUMA_NODE_UNASSIGNED, PxbPcie, type PxbPcieOptions } from "./expander.js";
export {
  COMMAND_BUS_MASTER,
  COMMAND_INTX_DISABLE,
  COMMAND_MEMORY,
  PciFunction,
  formatBdf,
  type Bar,
  type ConfigRegisters,
  type FunctionKind,
  type PciIdentity,
} from "./function.js";
export { FunctionLevelReset } from "./function-reset.js";
export { iommuPath, sharersOf, type HostIommuDevice, type IommuOps, type IommuPath, type ViommuFlags } from "./iommu.js";
export { MsiCapability, type MsiOptions } from "./msi-capability.js";
export { MsixCapability, type MsixOptions } from "./msix-capability.js";
export { ConventionalPciBridge, type ConventionalBridgeOptions, I82801b11Bridge } from "./conventional-bridge.js";
export { Ioh3420 } from "./ioh3420.js";
export { PciePciBridge, type PciePciBridgeOptions } from "./pcie-pci-bridge.js";
export { ECAM_BYTES, PciRoot, type PciRootOptions } from "./pci-root.js";
export { plugFunction, setupIommu, unplugFunction, type PlugOptions } from "./plug.js";
export { HotplugPort, PcieRootPort, X3130Upstream, Xio3130Downstream, type PortOptions, type SlotPortOptions } from "./ports.js";
export type { ResourceReserve } from "./resource-reserve.js";
export { Slot, type SlotOptions } from "./slot.js";
