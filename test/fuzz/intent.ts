/**
 * What a guest has asked for of a function, read from its registers and its stream table by rules written
 * down here once more (Arm IHI 0070, 5.2, 6.3), and what the physical SMMU does with it, read from the
 * host's stream table: two independent views that the machine has to keep together.
 */
import type { SimulatedHost } from "../../src/host/simulated/index.js";
import type { Machine } from "../../src/machine/index.js";
import type { MachineSmmu } from "../../src/machine/smmu-set.js";
import type { PciFunction } from "../../src/pci/index.js";

export type Table = "abort" | "bypass" | "nested";

const CR0 = 0x20;
const GBPA = 0x44;
const STRTAB_BASE = 0x80;
const STRTAB_BASE_CFG = 0x88;

/** Passed-through functions of a machine with their SMMUs. */
export function passedThrough(machine: Machine): Array<{ fn: PciFunction; address: string; smmu: MachineSmmu | null }> {
  return machine.board.functions
    .filter(({ fn }) => fn.passthrough !== null && fn.bus !== null)
    .map(({ fn }) => ({ fn, address: fn.passthrough!.hostAddress, smmu: machine.board.smmuOf(fn) }));
}

/** The words of the STE that the guest's table has for a function; null: none, or not to be read. */
export function guestEntry(machine: Machine, smmu: MachineSmmu, fn: PciFunction): BigUint64Array | null {
  const { memory } = machine.board;
  const sid = fn.requesterId;
  const base = memory.readWord(smmu.base + STRTAB_BASE, 8) & 0x000f_ffff_ffff_ffc0n;
  const config = Number(memory.readWord(smmu.base + STRTAB_BASE_CFG, 4));
  const log2Size = config & 0x3f;
  const split = (config >> 6) & 0x1f;
  const format = (config >> 16) & 3;
  if (sid >= 2 ** log2Size) {
    return null;
  }
  let at: bigint;
  if (format === 0) {
    const align = 2n ** BigInt(Math.max(6, log2Size + 6));
    at = (base & ~(align - 1n)) + BigInt(sid) * 64n;
  } else {
    const align = 2n ** BigInt(Math.max(6, log2Size - split + 3));
    const descriptor = memory.readWord(Number((base & ~(align - 1n)) + BigInt(sid >> split) * 8n), 8);
    const span = Number(descriptor & 0x1fn);
    const index = sid & (2 ** split - 1);
    if (span === 0 || index >= 2 ** (span - 1)) {
      return null;
    }
    at = (descriptor & 0x000f_ffff_ffff_ffc0n & ~(2n ** BigInt(5 + span) - 1n)) + BigInt(index) * 64n;
  }
  return new BigUint64Array([0, 8, 16, 24].map((offset) => memory.readWord(Number(at) + offset, 8)));
}

/** The most that the guest has asked for now: a table that a function may be on, abort aside. */
export function wantedTable(machine: Machine, smmu: MachineSmmu, fn: PciFunction): Table {
  const { memory } = machine.board;
  if ((memory.readWord(smmu.base + CR0, 4) & 1n) === 0n) {
    return (memory.readWord(smmu.base + GBPA, 4) & (1n << 20n)) === 0n ? "bypass" : "abort";
  }
  if (!fn.iommuPath.bus.isRoot && fn.iommuPath.bus.number === 0) {
    return "abort";
  }
  const entry = guestEntry(machine, smmu, fn);
  if (entry === null || (entry[0] & 1n) === 0n) {
    return "abort";
  }
  const what = Number((entry[0] >> 1n) & 7n);
  return what === 4 ? "bypass" : what === 5 ? "nested" : "abort";
}

export interface HostEntry {
  /** "open": the guest's addresses are physical to it, or worse. */
  readonly table: Table;
  /** The entry is one that never may be: stage 2 not in force. */
  readonly unsafe: boolean;
  readonly words: Int32Array;
  /** Guest-physical address of the context descriptors, where the table is nested. */
  readonly contexts: bigint;
}

/** The entry of the host's stream table for a function. */
export function hostEntry(host: SimulatedHost, address: string): HostEntry {
  const device = host.hardware.functions.get(address)!;
  const words = device.smmu!.readSte(device.streamId);
  const config = (words[0] >>> 1) & 7;
  const table = (words[0] & 1) === 0 || config === 0 ? "abort" : config === 6 ? "bypass" : "nested";
  const contexts = BigInt(words[0] >>> 0) | (BigInt(words[1] >>> 0) << 32n);
  return { table, unsafe: (words[0] & 1) !== 0 && config !== 0 && config < 6, words, contexts: contexts & 0x000f_ffff_ffff_ffc0n };
}
