/** Finds the firmware's tables through the port and describes the machine from them. */
import type { FirmwareTables, MachinePort } from "../../port/index.js";
import { GuestFailure } from "../failure.js";
import { describeFromAcpi } from "./acpi.js";
import type { FirmwareDescription, PciWindow } from "./description.js";
import { DEVICE_TREE_HEADER_BYTES, deviceTreeBytes, parseDeviceTree } from "./device-tree.js";
import { describeFromDeviceTree } from "./from-device-tree.js";

/**
 * Reads the description. Where there are both tables the device tree is taken unless ACPI is asked for, as
 * Linux does on arm64 without `acpi=force`. Throws GuestFailure where there is no table of the kind asked for.
 * `early`: the buses have no numbers yet, and a machine that makes ACPI tables only once shows its tree alone.
 */
export async function readFirmware(port: MachinePort, prefer: "dt" | "acpi" | undefined, early = false): Promise<FirmwareDescription> {
  const tables = await port.firmware();
  const tree = tables.deviceTree === null ? null : await readDeviceTree(port, tables.deviceTree);
  if (early && tables.acpiRoot === null && tree !== null) {
    return tree;
  }
  if (tables.memoryMap !== undefined && tables.acpiRoot !== null) {
    return describeFromAcpi((address, length) => port.readMemory(address, length), tables.acpiRoot, describePc(tables));
  }
  if (prefer === "acpi" || tree === null) {
    if (tables.acpiRoot === null) {
      const without = prefer === "acpi" ? "ACPI is asked for and the machine has no RSDP" : "the machine has neither a device tree nor an RSDP";
      throw new GuestFailure(tables.missing === undefined ? without : `${without}: ${tables.missing}`);
    }
    return describeFromAcpi((address, length) => port.readMemory(address, length), tables.acpiRoot, tree);
  }
  return tree;
}

async function readDeviceTree(port: MachinePort, address: number): Promise<FirmwareDescription> {
  const length = deviceTreeBytes(await port.readMemory(address, DEVICE_TREE_HEADER_BYTES));
  if (length === null) {
    throw new GuestFailure(`no device tree at 0x${address.toString(16)}`);
  }
  const root = parseDeviceTree(await port.readMemory(address, length));
  return describeFromDeviceTree(root, [{ base: address, size: length }]);
}

/** What a PC's firmware tells besides its tables. Without MCFG the host bridge is behind I/O ports. */
function describePc(tables: FirmwareTables): FirmwareDescription {
  const map = tables.memoryMap ?? [];
  const windows = (tables.pciWindows ?? []).map(
    ({ base, size }): PciWindow => ({ kind: base < 2 ** 32 ? "mem32" : "mem64", prefetchable: base >= 2 ** 32, cpuBase: base, pciBase: base, size }),
  );
  return {
    source: "acpi",
    ram: map.filter((range) => range.type === 1),
    occupied: map.filter((range) => range.type !== 1),
    smmus: [],
    dmar: null,
    hostBridges: [{ name: "segment 0", segment: 0, ecamBase: null, busStart: 0, busEnd: 255, windows, streamMaps: [], msiMaps: [], ats: false }],
    msi: null,
    reservedWindows: [],
  };
}
