/**
 * The guest's root, context and PASID tables (Intel VT-d 5.10, 9.1 to 9.6) from where its last Set Root Table
 * Pointer says, and the tables of the host's units.
 */
import type { SimulatedHost } from "../../src/host/simulated/index.js";
import { Q35Board } from "../../src/machine/q35/board.js";
import type { MachineVtd } from "../../src/machine/q35/vtd.js";
import type { Machine } from "../../src/machine/index.js";
import type { PciFunction } from "../../src/pci/index.js";
import { VfioPci } from "../../src/vfio/index.js";
import { type Architecture, type HostTable, passedThrough, ramWord, type Table, type WantedTable } from "./intent.js";

const POINTER = ~0xfffn;
const ADDRESS = 0x000f_ffff_ffff_f000n;
/** GSTS.TES; RTADDR.TTM. */
const TES = 1n << 31n;
const SCALABLE = 1;
/** PGTT. */
const [FIRST_STAGE, SECOND_STAGE, NESTED, PASS_THROUGH] = [1, 2, 3, 4];

const ABORT: WantedTable = { table: "abort", pointer: 0n };

type Read = (address: bigint) => bigint | null;

export function unitOf(machine: Machine): MachineVtd {
  const { board } = machine;
  if (!(board instanceof Q35Board) || board.vtd === null) {
    throw new Error("the machine has no intel-iommu");
  }
  return board.vtd;
}

/** Address of a requester's context entry; null: none. */
export function contextAddress(read: Read, root: bigint, scalable: boolean, sourceId: number): bigint | null {
  const devfn = sourceId & 0xff;
  const upper = scalable && devfn >= 0x80;
  const entry = read(root + BigInt((sourceId >> 8) * 16 + (upper ? 8 : 0)));
  if (entry === null || (entry & 1n) === 0n) {
    return null;
  }
  return (entry & ADDRESS) + BigInt(scalable ? (devfn & 0x7f) * 32 : devfn * 16);
}

/** Address of a PASID's entry below a scalable-mode context entry's first word; null: none. */
export function pasidEntryAddress(read: Read, context: bigint, pasid: number): bigint | null {
  const entries = 2n ** (((context >> 9n) & 7n) + 7n);
  if (BigInt(pasid >>> 6) >= entries) {
    return null;
  }
  const directory = read((context & ADDRESS) + BigInt((pasid >>> 6) * 8));
  return directory === null || (directory & 1n) === 0n ? null : (directory & ADDRESS) + BigInt((pasid & 63) * 64);
}

const typeOf = (word: bigint): number => Number((word >> 6n) & 7n);

/** What the tables of the guest say of a requester and PASID (0: also requests without one). */
function wanted(machine: Machine, fn: PciFunction, pasid: number): WantedTable {
  const { device, base } = unitOf(machine);
  const read: Read = (address) => ramWord(machine, address);
  if ((machine.board.memory.readWord(base + 0x1c, 4) & TES) === 0n) {
    return { table: pasid === 0 ? "bypass" : "abort", pointer: 0n };
  }
  const { bus, devfn } = fn.iommuPath;
  if (!bus.isRoot && bus.number === 0) {
    return ABORT;
  }
  const scalable = device.tableMode === SCALABLE;
  if (!scalable && device.tableMode !== 0) {
    return ABORT;
  }
  const at = contextAddress(read, BigInt(device.rootTableAddress), scalable, (bus.number << 8) | devfn);
  const context = at === null ? null : read(at);
  if (context === null || (context & 1n) === 0n) {
    return ABORT;
  }
  if (!scalable) {
    const type = Number((context >> 2n) & 3n);
    return pasid !== 0 || type === 3 ? ABORT : { table: type === 2 ? "bypass" : "shadow", pointer: context & POINTER };
  }
  if (pasid !== 0 && ((context & 8n) === 0n || pasid >= 2 ** device.properties.pasidBits)) {
    return ABORT;
  }
  const entry = pasidEntryAddress(read, context, pasid);
  const first = entry === null ? null : read(entry);
  if (entry === null || first === null || (first & 1n) === 0n) {
    return ABORT;
  }
  switch (typeOf(first)) {
    case FIRST_STAGE:
      return { table: device.properties.fsts ? "nested" : "abort", pointer: read(entry + 16n)! & ADDRESS };
    case SECOND_STAGE:
      return { table: device.properties.fsts || pasid !== 0 ? "abort" : "shadow", pointer: first & ADDRESS };
    case PASS_THROUGH:
      return { table: "bypass", pointer: 0n };
    default:
      return ABORT;
  }
}

/** Tables of the parents, by function. */
const parents = new WeakMap<SimulatedHost, Map<string, bigint>>();

function hostReader(host: SimulatedHost): Read {
  const bytes = new Uint8Array(8);
  return (address) => (host.hardware.memory.read(Number(address), bytes) ? new DataView(bytes.buffer).getBigUint64(0, true) : null);
}

/** Tables of the kernel's own that an entry has: a first stage alone, else the second. */
const ownTables = (read: Read, entry: bigint, type: number): bigint => (read(type === FIRST_STAGE ? entry + 16n : entry) ?? 0n) & ADDRESS;

/** A PASID entry of the host's, or (legacy mode) a context entry. */
function judge(host: SimulatedHost, address: string, read: Read, entry: bigint | null, legacy: boolean): HostTable {
  const first = entry === null ? null : read(entry);
  if (entry === null || first === null || (first & 1n) === 0n) {
    return { table: "abort", confined: true, pointer: 0n, words: "not present" };
  }
  const type = legacy ? SECOND_STAGE : typeOf(first);
  const onParent = parents.get(host)?.get(address) === ownTables(read, entry, type);
  const words = `entry 0x${first.toString(16)}`;
  switch (type) {
    // The kernel makes first stages for tables that nothing is nested on.
    case FIRST_STAGE:
    case SECOND_STAGE:
      return { table: onParent ? "bypass" : "shadow", confined: true, pointer: 0n, words };
    case NESTED:
      return { table: "nested", confined: onParent, pointer: read(entry + 16n)! & ADDRESS, words };
    default:
      return { table: "bypass", confined: false, pointer: 0n, words };
  }
}

/** The host's context entry of a function: its address and first word. */
function hostContext(host: SimulatedHost, address: string, read: Read): { at: bigint; word: bigint; scalable: boolean } | null {
  const device = host.hardware.functions.get(address)!;
  const unit = host.hardware.vtds.get(device.description.vtd ?? "");
  if (unit === undefined) {
    throw new Error(`${address} is behind no VT-d unit`);
  }
  const scalable = unit.description.scalableMode;
  const at = contextAddress(read, BigInt(unit.rootTable), scalable, device.sourceId);
  const word = at === null ? null : read(at);
  return at === null || word === null || (word & 1n) === 0n ? null : { at, word, scalable };
}

function hostTable(host: SimulatedHost, address: string): HostTable {
  const read = hostReader(host);
  const context = hostContext(host, address, read);
  if (context === null) {
    return { table: "abort", confined: true, pointer: 0n, words: "no context" };
  }
  return judge(host, address, read, context.scalable ? pasidEntryAddress(read, context.word, 0) : context.at, !context.scalable);
}

/** Directories of hosts have up to 2^14 entries, nearly all of them empty; read after each operation, and into the same memory. */
const directory = new Int32Array(2 * 2 ** 14);
const table = new Uint8Array(4096);

function hostPasids(host: SimulatedHost, address: string): Map<number, HostTable> {
  const found = new Map<number, HostTable>();
  const read = hostReader(host);
  const context = hostContext(host, address, read);
  if (context === null || !context.scalable) {
    return found;
  }
  const entries = 2 ** (Number((context.word >> 9n) & 7n) + 7);
  host.hardware.memory.read(Number(context.word & ADDRESS), new Uint8Array(directory.buffer, 0, 8 * entries));
  for (let index = 0; index < entries; index++) {
    if ((directory[2 * index] & 1) === 0) {
      continue;
    }
    const at = pasidEntryAddress(read, context.word, index * 64)!;
    host.hardware.memory.read(Number(at), table);
    for (let n = index === 0 ? 1 : 0; n < 64; n++) {
      if ((table[64 * n] & 1) !== 0) {
        found.set(index * 64 + n, judge(host, address, read, at + BigInt(64 * n), false));
      }
    }
  }
  return found;
}

/** By the names of the account. */
const BELIEVED: Readonly<Record<string, Table>> = { parent: "bypass", nested: "nested", shadow: "shadow", blocked: "abort" };

export const vtdArchitecture: Architecture = {
  firmware: "acpi",
  tolerate: ["unreported-fault"],
  // Intel VT-d 3.15: not translated.
  isMessage: (_host, hpa) => hpa >= 0xfee0_0000 && hpa <= 0xfeef_ffff,
  detaches: true,
  wanted: (machine, fn) => wanted(machine, fn, 0).table,
  wantedPointer: (machine, fn) => wanted(machine, fn, 0).pointer,
  wantedPasid: wanted,
  host: hostTable,
  hostPasids,
  noteParent: (host, address) => {
    const read = hostReader(host);
    const context = hostContext(host, address, read);
    const entry = context === null ? null : context.scalable ? pasidEntryAddress(read, context.word, 0) : context.at;
    if (context !== null && entry !== null) {
      const tables = ownTables(read, entry, context.scalable ? typeOf(read(entry) ?? 0n) : SECOND_STAGE);
      parents.set(host, (parents.get(host) ?? new Map<string, bigint>()).set(address, tables));
    }
  },
  believed: (machine, fn) => {
    const account = unitOf(machine).acceleration.describeFunctions();
    const table = account.find(({ name }) => name.includes(fn.passthrough!.hostAddress))?.table;
    return table === undefined ? undefined : BELIEVED[table];
  },
  withoutTranslation: (machine) => (unitOf(machine).device.translationEnabled ? null : "bypass"),
  tagsInUse: (host) => host.kernel.vtdAccounts().reduce((sum, { domainIds }) => sum + domainIds, 0),
  fetches: (machine) => {
    const { queue } = unitOf(machine).device;
    return queue.consumed.reduce((sum, count) => sum + count, 0) + queue.errors;
  },
  bounds: (machine, fetched, functions) => {
    const { fsts, requireNesting, cachingMode } = unitOf(machine).device.properties;
    if (cachingMode && !(fsts && requireNesting)) {
      // Tables of the guest's are mirrored, 2^22 entries and 2^20 mappings of a function at the most.
      return { loads: 2 ** 22 * (1 + fetched) * (1 + functions), calls: 2 ** 21 * (1 + fetched) * (1 + functions) };
    }
    // A descriptor may have every function look through a PASID directory and its tables, up to four times.
    return { loads: 40_000 * (1 + functions) + fetched * (8 + 20_000 * functions), calls: 200 + (fetched + 1) * 400 * (functions + 1) };
  },
  expectedObjects: (machines) => {
    const functions = machines.flatMap((machine) => unitOf(machine).acceleration.describeFunctions());
    const spaces = new Set<string>();
    const parentTables = new Set<string>();
    machines.forEach((machine, n) => {
      for (const { fn } of passedThrough(machine)) {
        if (fn instanceof VfioPci) {
          const of = `${n} ${fn.passthrough!.iommufd ?? ""}`;
          spaces.add(`${of} ${fn.ioasId}`);
          parentTables.add(`${of} ${fn.parentHwptId}`);
        }
      }
    });
    const shadows = functions.filter(({ table }) => table === "shadow").length;
    return {
      ioas: spaces.size + shadows,
      "hwpt-paging": parentTables.size + shadows,
      "hwpt-nested": functions.reduce((sum, { pasids }) => sum + pasids.filter(({ table }) => table === "nested").length, 0),
      viommu: 0,
      vdevice: 0,
      veventq: 0,
    };
  },
  walks: (host, address) => host.hardware.vtds.get(host.hardware.functions.get(address)!.description.vtd!)!.counters.walks,
};
