/** The firmware's tables of the q35 board: what they describe, and where they are put. */
import type { PciBus } from "../../pci/index.js";
import type { MemoryMapEntry } from "../../port/index.js";
import { hex } from "../../support/index.js";
import { buildX86Acpi, type HostBridgeDescription, loaderFiles, type PlacedTables, type RemappingDescription, type ScopeDescription, type X86Description } from "../firmware/index.js";
import { apicIdOf } from "../arguments/index.js";
import { describeAffinity } from "../numa-affinity.js";
import { splitWindows } from "../pci-windows.js";
import type { Q35Board } from "./board.js";
import { FIRST_PIRQ_PIN, IOAPIC_REQUESTER_ID, pirqOf, Q35 } from "./map.js";
import { SERIAL_PORTS } from "./serial-ports.js";

/** Tables are at the end of low RAM, where a BIOS has them. */
const ALIGNMENT = 0x1_0000;
export const Q35_RAM_ALIGNMENT = ALIGNMENT;
/** RAM below is a PC's legacy area. */
const LOW_MEMORY_END = 0x10_0000;
const LEGACY_AREA = 0xa_0000;

export function describeX86(board: Q35Board): X86Description {
  return {
    cpus: board.args.smp.cpus,
    apicIds: apicIds(board),
    ioapicBase: Q35.ioapic.base,
    localApicBase: Q35.messages.base,
    ecam: board.mch.ecam,
    remapping: describeRemapping(board),
    hardware: Q35.acpi,
    bridges: describeBridges(board),
    serialPorts: SERIAL_PORTS.slice(0, board.serial.uarts.length),
    numa: describeNuma(board),
    pvpanic: board.pvpanic?.port ?? null,
  };
}

/** A kernel on vCPUs finds them under their numbers. */
function apicIds({ args: { smp, boot } }: Q35Board): number[] {
  return Array.from({ length: smp.maxCpus }, (_, cpu) => (boot.kernel === null ? apicIdOf(smp, cpu) : cpu));
}

/** RAM as the kernel may take it: without a PC's legacy area. */
function describeNuma(board: Q35Board): X86Description["numa"] {
  const { args: { numa }, ram, map } = board;
  if (numa.nodes.length === 0) {
    return null;
  }
  const ranges = ram.flatMap(({ base, size, piece }) => [
    { first: base, end: Math.min(base + size, LEGACY_AREA), node: piece.node ?? 0 },
    { first: Math.max(base, LOW_MEMORY_END), end: base + size, node: piece.node ?? 0 },
  ]);
  return {
    nodes: numa.nodes.length,
    cpus: numa.cpus,
    ...describeAffinity(board, false),
    pluggable: map.deviceMemory,
    hmat: numa.hmat,
    memory: ranges.filter(({ first, end }) => end > first).map(({ first, end, node }) => ({ base: first, size: end - first, node })),
    distances: numa.distances,
  };
}

/** A root bus has the numbers up to the next one's. */
function describeBridges(board: Q35Board): HostBridgeDescription[] {
  const roots = board.pci.rootBuses();
  const windows = splitWindows(board.windows, roots);
  return roots.map((root, index) => ({
    firstBus: root.number,
    lastBus: (roots[index + 1]?.number ?? 256) - 1,
    windows: windows[index],
    ports: index === 0 ? "pc" : null,
    keepsProgrammed: false,
    coherent: false,
    // An expander's functions have messages.
    pins: index === 0 ? Array.from({ length: 32 }, (_, device) => ({ device, gsis: [0, 1, 2, 3].map((pin) => FIRST_PIRQ_PIN + pirqOf(device, pin)) })) : [],
    numaNode: root.options.numaNode ?? null,
  }));
}

function describeRemapping(board: Q35Board): RemappingDescription | null {
  const { vtd } = board;
  if (vtd === null) {
    return null;
  }
  const { properties } = vtd.device;
  // QEMU takes the hosts of several expanders in the order of a hash table; here they ascend.
  const functions = board.pci.rootBuses().filter((bus) => !bus.bypassIommu).flatMap(scopesOf);
  return {
    base: vtd.base,
    addressBits: properties.awBits,
    interruptRemapping: properties.intremap,
    ioapicRequesterId: IOAPIC_REQUESTER_ID,
    functions,
    ats: properties.deviceIotlb,
    satc: vtd.request.satc ? board.pci.rootBuses().filter((bus) => !bus.bypassIommu).flatMap(integratedAtsFunctions) : [],
    numaNode: vtd.request.numaNode,
  };
}

function scopesOf(bus: PciBus): ScopeDescription[] {
  return [...bus.functions.values()]
    .sort((a, b) => a.devfn - b.devfn)
    .map((fn) => ({ bus: bus.number, devfn: fn.devfn, isBridge: fn.isBridge && fn.kind !== "host-bridge" && fn.kind !== "expander" }));
}

const ATS_CAPABILITY = 0x000f;

/** Endpoints right on a root bus with an ATS capability (PCIe 10.5.1). */
function integratedAtsFunctions(bus: PciBus): ScopeDescription[] {
  return scopesOf(bus).filter(({ devfn, isBridge }) => {
    const { config } = bus.functions.get(devfn)!;
    for (let at = 0x100, hops = 0; !isBridge && at >= 0x100 && at + 4 <= config.size && hops < 64; hops++) {
      const header = config.get32(at);
      if ((header & 0xffff) === ATS_CAPABILITY) {
        return true;
      }
      at = header >>> 20;
    }
    return false;
  });
}

/** ACPI below the end of low RAM; there is no device tree. */
export function q35Tables(board: Q35Board): PlacedTables {
  if (!board.args.machine.acpi) {
    const hidden = board.vtd === null ? "" : `, with them the DMAR that ${board.vtd.id} is found by`;
    return { deviceTree: null, acpi: null, missing: `acpi=off takes a q35's only tables away${hidden}: acpi=on has them` };
  }
  const description = describeX86(board);
  const room = Math.ceil(buildX86Acpi(description, 0).bytes.length / ALIGNMENT) * ALIGNMENT;
  const { lowRam } = board.map;
  const address = Math.floor((lowRam.base + lowRam.size - room) / ALIGNMENT) * ALIGNMENT;
  if (address < LOW_MEMORY_END) {
    return { deviceTree: null, acpi: null, missing: `ACPI's tables have no room between 1 MiB and the end of low RAM, ${hex(lowRam.size)}: -m ${(LOW_MEMORY_END + room) / 2 ** 20}M would do` };
  }
  const image = buildX86Acpi(description, address);
  return { deviceTree: null, acpi: { address: image.root, bytes: image.bytes, tables: image.tables } };
}

/** What INT 15h, E820h gives: RAM without the legacy hole, the tables, configuration space, interrupt hardware. */
export function q35MemoryMap(board: Q35Board): MemoryMapEntry[] {
  const { lowRam, highRam } = board.map;
  const lowEnd = lowRam.base + lowRam.size;
  const tables = q35Tables(board).acpi?.address ?? lowEnd;
  const hole = { base: 0xa_0000, end: 0x10_0000 };
  const entries: MemoryMapEntry[] = [
    { base: 0, size: Math.min(lowEnd, hole.base), type: 1 },
    { base: hole.base, size: hole.end - hole.base, type: 2 },
    { base: hole.end, size: tables - hole.end, type: 1 },
    { base: tables, size: lowEnd - tables, type: 3 },
    ...(board.mch.ecam === null ? [] : [{ ...board.mch.ecam, type: 2 as const }]),
    { base: Q35.ioapic.base, size: 2 ** 32 - Q35.ioapic.base, type: 2 },
    ...(highRam === null ? [] : [{ ...highRam, type: 1 as const }]),
  ];
  return entries.filter(({ size }) => size > 0);
}

/** fw_cfg's files: the tables with the script that places them, and RAM as QEMU tells it. */
export function q35Files(board: Q35Board): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>([["etc/e820", e820(board)]]);
  if (board.args.machine.acpi) {
    const description = describeX86(board);
    loaderFiles((base) => buildX86Acpi(description, base)).forEach((bytes, name) => files.set(name, bytes));
  }
  if (board.pvpanic !== null && board.pvpanic.port !== null) {
    files.set("etc/pvpanic-port", Uint8Array.of(board.pvpanic.port & 0xff, board.pvpanic.port >> 8));
  }
  return files;
}

/** Entries of 20 bytes: base, size, type (QEMU hw/i386/e820_memory_layout.h); first what AMD's HyperTransport keeps below 1 TiB. */
function e820(board: Q35Board): Uint8Array {
  const { lowRam, highRam } = board.map;
  const entries = [{ base: 0xfd_0000_0000, size: 0x3_0000_0000, type: 2 }, { ...lowRam, type: 1 }, ...(highRam === null ? [] : [{ ...highRam, type: 1 }])];
  const out = Buffer.alloc(20 * entries.length);
  entries.forEach(({ base, size, type }, index) => {
    out.writeBigUInt64LE(BigInt(base), 20 * index);
    out.writeBigUInt64LE(BigInt(size), 20 * index + 8);
    out.writeUInt32LE(type, 20 * index + 16);
  });
  return out;
}
