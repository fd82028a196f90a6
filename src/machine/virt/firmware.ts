/** The firmware's tables of the virt board: what they describe, and where they are put. */
import type { PciBus } from "../../pci/index.js";
import { buildAcpi, buildDeviceTree, buildEfi, buildStubTree, type EfiImage, type FirmwareDescription, type PlacedFunction, type PlacedTables } from "../firmware/index.js";
import { describeAffinity } from "../numa-affinity.js";
import { crowdedWindows, splitWindows } from "../pci-windows.js";
import type { Range } from "../ram-layout.js";
import type { VirtBoard } from "./board.js";
import { MSI_WINDOW, VIRT, VIRT_SPI } from "./map.js";
import { POWER_KEY_LINE, VIRT_UARTS } from "./platform-devices.js";

/** GICv2's CPU interface (hw/arm/virt.c, VIRT_GIC_CPU). */
const GICV2_CPU_INTERFACE = { base: 0x0801_0000, size: 0x1_0000 };

/** The description as buses are numbered now. */
export function describeFirmware(board: VirtBoard): FirmwareDescription {
  const smmus = board.smmus.all;
  const { numa } = board.args;
  const expanders = expanderBuses(board);
  const ordered = board.pci.rootBuses();
  const windows = splitWindows(memoryWindows(board), ordered);
  return {
    ram: board.ram.map(({ base, size, piece }) => ({ base, size, numaNode: piece.node })),
    cpus: board.args.smp.cpus,
    numa: numa.nodes.length === 0 ? null : { nodes: numa.nodes.length, cpus: numa.cpus, ...describeAffinity(board, false), pluggable: board.map.deviceMemory, distances: numa.distances, hmat: numa.hmat },
    interrupts: {
      gicVersion: board.gicVersion === 2 ? 2 : 3,
      distributor: VIRT.gicDistributor,
      second: board.gicVersion === 2 ? GICV2_CPU_INTERFACE : VIRT.gicRedistributors,
      its: board.msiController === "its" ? VIRT.gicIts : null,
      v2m: board.msiController === "gicv2m" ? { ...VIRT.gicV2mFrame, spi: VIRT_SPI.gicV2m, spis: VIRT_SPI.gicV2mCount } : null,
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
      const place = ordered.indexOf(bus);
      return {
        number: bus.number,
        lowest,
        highest: bus.highestNumber,
        smmu: index < 0 || bus.bypassIommu ? null : index,
        last: (ordered[place + 1]?.number ?? board.map.busCount) - 1,
        windows: windows[place],
        numaNode: bus.options.numaNode ?? null,
        functions: placedFunctions(bus),
      };
    }),
    platform: {
      uarts: VIRT_UARTS.slice(0, board.platform.uarts.length),
      rtc: { ...VIRT.rtc, spi: VIRT_SPI.rtc },
      gpio: { ...VIRT.gpio, spi: VIRT_SPI.gpio, powerKey: POWER_KEY_LINE },
      events: { ...VIRT.ged, spi: VIRT_SPI.ged },
    },
    boot: board.kernelBoot,
    reservedWindow: MSI_WINDOW,
  };
}

const memoryWindows = ({ map: { mmio32, mmio64 } }: VirtBoard): Range[] => (mmio64 === null ? [mmio32] : [mmio32, mmio64]);

/** Root buses whose host bridges have too little memory for what is below, a line each. */
export function crowdedBridges(board: VirtBoard): string[] {
  return crowdedWindows(memoryWindows(board), board.pci.rootBuses(), (bytes) => `-machine highmem-mmio-size=${bytes / 2 ** 30}G`);
}

function expanderBuses(board: VirtBoard): PciBus[] {
  return board.functions.flatMap(({ fn }) => fn.secondaryBuses.filter((bus) => bus.isRoot));
}

/** Functions of a bus and below, without expanders: those are root buses of their own. */
function placedFunctions(bus: PciBus): PlacedFunction[] {
  const functions = [...bus.functions.values()].sort((a, b) => a.devfn - b.devfn).filter((fn) => fn.kind !== "host-bridge" && fn.kind !== "expander");
  if (functions.length === 0 && bus.options.singleSlot === true) {
    return [{ devfn: 0, behind: null }];
  }
  return functions.map((fn) => ({ devfn: fn.devfn, behind: fn.isBridge ? fn.secondaryBuses.flatMap((behind) => placedFunctions(behind)) : null }));
}

/** A kernel with expander buses takes ACPI, as QEMU's needs it: Linux finds them under their numbers there. acpi=on and acpi=off decide. */
export function bootsByAcpi(board: VirtBoard): boolean {
  const { acpi, acpiAuto } = board.args.machine;
  return acpi && (!acpiAuto || expanderBuses(board).length > 0);
}

const ALIGNMENT = 0x1_0000;
const align = (address: number): number => Math.ceil(address / ALIGNMENT) * ALIGNMENT;

/** The device tree at the start of RAM, as QEMU has it, ACPI behind it. A kernel that takes ACPI has what EFI would leave, too. */
export function buildVirtTables(board: VirtBoard): PlacedTables {
  const description = describeFirmware(board);
  const { boot } = description;
  const start = board.map.ram.base;
  if (boot !== null && bootsByAcpi(board)) {
    const place = (tree: Uint8Array): number => align(start + tree.length);
    // The tree's length is the same whatever the addresses in it are.
    const acpi = buildAcpi(description, place(buildStubTree(boot, NO_EFI)));
    const base = acpi.root + Math.ceil(acpi.bytes.length / 64) * 64;
    const image = (size: number): EfiImage => buildEfi({ base, acpiRoot: acpi.root, ram: board.map.ram, kept: { base: acpi.root, size }, clock: VIRT.efiClock });
    const { systemTable, memoryMap } = image(ALIGNMENT * Math.ceil((base + ALIGNMENT - acpi.root) / ALIGNMENT));
    const kept = align(memoryMap.address + memoryMap.size - systemTable + base) - acpi.root;
    const efi = image(kept);
    return { deviceTree: { address: start, bytes: buildStubTree(boot, efi) }, acpi: { address: acpi.root, bytes: acpi.bytes, tables: acpi.tables }, efi: { address: base, bytes: efi.bytes } };
  }
  const deviceTree = { address: start, bytes: buildDeviceTree(description) };
  if (!board.args.machine.acpi || boot !== null) {
    return { deviceTree, acpi: null };
  }
  const image = buildAcpi(description, align(start + deviceTree.bytes.length));
  return { deviceTree, acpi: { address: image.root, bytes: image.bytes, tables: image.tables } };
}

const NO_EFI = { systemTable: 0, memoryMap: { address: 0, size: 0, descriptorBytes: 0, version: 0 } } as const;
