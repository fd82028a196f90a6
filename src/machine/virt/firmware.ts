/** The firmware's tables of the virt board: what they describe, and where they are put. */
import { buildAcpi, buildDeviceTree, type FirmwareDescription, type PlacedTables } from "../firmware/index.js";
import type { VirtBoard } from "./board.js";
import { MSI_WINDOW, VIRT, VIRT_SPI } from "./map.js";

/** GICv2's CPU interface (hw/arm/virt.c, VIRT_GIC_CPU). */
const GICV2_CPU_INTERFACE = { base: 0x0801_0000, size: 0x1_0000 };

/** The description as buses are numbered now. */
export function describeFirmware(board: VirtBoard): FirmwareDescription {
  const smmus = board.smmus.all;
  const expanders = board.functions.flatMap(({ fn }) => fn.secondaryBuses.filter((bus) => bus.isRoot));
  return {
    ram: board.ram.map(({ base, size, piece }) => ({ base, size, numaNode: piece.node })),
    cpus: board.args.smp.cpus,
    interrupts: {
      gicVersion: board.gicVersion === 2 ? 2 : 3,
      distributor: VIRT.gicDistributor,
      second: board.gicVersion === 2 ? GICV2_CPU_INTERFACE : VIRT.gicRedistributors,
      its: board.msiController === "its" ? VIRT.gicIts : null,
      v2m: board.msiController === "gicv2m" ? VIRT.gicV2mFrame : null,
    },
    pci: {
      ecamBase: board.map.ecam.base,
      ecamSize: board.map.ecam.size,
      mmio32: board.map.mmio32,
      mmio64: board.map.mmio64,
      pio: board.map.pio,
      intxSpi: VIRT_SPI.pcie,
    },
    smmus: smmus.map((smmu) => ({
      base: smmu.base,
      size: smmu.size,
      spi: smmu.spi,
      accelerated: smmu.acceleration !== null,
      ats: smmu.device.properties.ats,
      legacy: smmu.legacy,
    })),
    rootBuses: [board.pci.bus, ...expanders].map((bus) => {
      const index = smmus.findIndex((smmu) => smmu.ops === bus.iommu);
      const secondaries = [...bus.functions.values()].flatMap((fn) => fn.secondaryBuses).filter((behind) => !behind.isRoot);
      const lowest = Math.min(bus.number, ...secondaries.map((behind) => behind.number));
      return { number: bus.number, lowest, highest: bus.highestNumber, smmu: index < 0 || bus.bypassIommu ? null : index };
    }),
    reservedWindow: MSI_WINDOW,
  };
}

const ALIGNMENT = 0x1_0000;

/** The device tree at the start of RAM, as QEMU has it, ACPI behind it. */
export function buildVirtTables(board: VirtBoard): PlacedTables {
  const description = describeFirmware(board);
  const deviceTree = { address: board.map.ram.base, bytes: buildDeviceTree(description) };
  if (!board.args.machine.acpi) {
    return { deviceTree, acpi: null };
  }
  const address = deviceTree.address + Math.ceil(deviceTree.bytes.length / ALIGNMENT) * ALIGNMENT;
  const image = buildAcpi(description, address);
  return { deviceTree, acpi: { address: image.root, bytes: image.bytes, tables: image.tables } };
}
