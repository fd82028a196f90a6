/**
 * What the tests of whole machines ask of an architecture: what a guest has asked for of a function, read from
 * its registers and tables by rules written down once more, and what the physical IOMMU does with the function,
 * read from the host's tables: two independent views that the machine has to keep together.
 */
import type { Tolerance } from "../../src/guest/index.js";
import type { SimulatedHost } from "../../src/host/simulated/index.js";
import type { Machine } from "../../src/machine/index.js";
import type { PciFunction } from "../../src/pci/index.js";

/** Bypass: stage 2 alone, the guest's addresses are physical. Shadow: another table of the kernel's, as a copy of the guest's. */
export type Table = "abort" | "bypass" | "nested" | "shadow";

export interface PassedThrough {
  readonly fn: PciFunction;
  /** Of the host. */
  readonly address: string;
  /** An IOMMU of the machine is in front of it, whose guest decides. */
  readonly guarded: boolean;
}

export interface WantedTable {
  readonly table: Table;
  readonly pointer: bigint;
}

export interface HostTable {
  readonly table: Table;
  /** The host's own table, which is the machine's memory and no more, is behind all of it. */
  readonly confined: boolean;
  /** Guest-physical address of what the guest owns of a nested one: context descriptors, or the first table. */
  readonly pointer: bigint;
  /** The host's entry, in words. */
  readonly words: string;
}

export interface Architecture {
  /** Firmware tables that the guest reads. */
  readonly firmware: "dt" | "acpi";
  /** Where the honest guest must not expect more than a host tells. */
  readonly tolerate: readonly Tolerance[];
  /** The most that the guest has asked for now for requests without PASID: a table that a function may be on, abort aside. */
  wanted(machine: Machine, fn: PciFunction): Table;
  /** `HostTable.pointer` that the guest's entry says; null: none. */
  wantedPointer(machine: Machine, fn: PciFunction): bigint | null;
  /** The same for one PASID. */
  wantedPasid(machine: Machine, fn: PciFunction, pasid: number): WantedTable;
  host(host: SimulatedHost, address: string): HostTable;
  /** A function that has just been opened is on its parent: what that looks like is to be remembered. */
  noteParent(host: SimulatedHost, address: string): void;
  /** PASIDs other than that of requests without one that have a table on the host. */
  hostPasids(host: SimulatedHost, address: string): ReadonlyMap<number, HostTable>;
  /** What the machine believes of a function; undefined: nothing. */
  believed(machine: Machine, fn: PciFunction): Table | undefined;
  /** What applies while the guest has translation off; null: it is on. */
  withoutTranslation(machine: Machine, fn: PciFunction): Table | null;
  /** A host-physical address where a function's writes are messages, which the host's interrupt controller judges. */
  isMessage(host: SimulatedHost, hpa: number): boolean;
  /** A function is blocked by taking its table away. */
  readonly detaches: boolean;
  /** Tags and domain ids that the kernel's drivers have in use. */
  tagsInUse(host: SimulatedHost): number;
  /** Commands or descriptors that the machine has fetched. */
  fetches(machine: Machine): number;
  /** Loads from RAM, and host calls, that an operation with so many commands may cost at the most. */
  bounds(machine: Machine, fetched: number, functions: number): { readonly loads: number; readonly calls: number };
  /** Objects by type that a kernel has reason to hold for machines, but iommufds and devices. */
  expectedObjects(machines: readonly Machine[], host: SimulatedHost): Record<string, number>;
  /** Translations that the unit before a function has walked. */
  walks(host: SimulatedHost, address: string): number;
}

/** Passed-through functions of a machine. */
export function passedThrough(machine: Machine): PassedThrough[] {
  return machine.board.functions
    .filter(({ fn }) => fn.passthrough !== null && fn.bus !== null)
    .map(({ fn }) => ({ fn, address: fn.passthrough!.hostAddress, guarded: (machine.board.iommuOf(fn) ?? null) !== null }));
}

/** A 64-bit word of the machine's RAM; null where there is none. */
export function ramWord(machine: Machine, address: bigint): bigint | null {
  for (const { block, base, offset, size } of machine.board.ram) {
    const at = Number(address) - base;
    if (at >= 0 && at + 8 <= size) {
      const words = block.wordWindow(offset + at);
      const index = ((offset + at) % 2 ** 32) / 4;
      return BigInt(words[index] >>> 0) | (BigInt(words[index + 1] >>> 0) << 32n);
    }
  }
  return null;
}
