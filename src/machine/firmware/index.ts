export { buildAcpi, buildMcfg, buildX86Acpi, type AcpiImage } from "./acpi.js";
export { type Oem } from "./acpi-table.js";
export type {
  FirmwareDescription,
  InterruptHardware,
  KernelBoot,
  PlacedFunction,
  PciHostDescription,
  RootBusDescription,
  SmmuDescription,
} from "./description.js";
export { buildDmar } from "./dmar.js";
export type { DsdtDescription } from "./dsdt.js";
export type { HostBridgeDescription } from "./host-bridge.js";
export { buildEfi, type EfiImage } from "./efi.js";
export { buildStubTree } from "./device-tree.js";
export type { AcpiHardware } from "./fadt.js";
export { buildMadt } from "./madt.js";
export type { PlacedTables } from "./placed-tables.js";
export { loaderFiles } from "./table-loader.js";
export type { RemappingDescription, ScopeDescription, X86Description } from "./x86-description.js";
export { buildDeviceTree } from "./device-tree.js";
export { buildIort } from "./iort.js";
export type { NumaDescription } from "./numa.js";
