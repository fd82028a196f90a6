export { buildAcpi, buildMcfg, type AcpiImage } from "./acpi.js";
export { type Oem } from "./acpi-table.js";
export type {
  FirmwareDescription,
  InterruptHardware,
  PciHostDescription,
  RootBusDescription,
  SmmuDescription,
} from "./description.js";
export { buildDeviceTree } from "./device-tree.js";
export { buildIort } from "./iort.js";
