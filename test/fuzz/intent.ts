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

const IDR1 = 0x04;
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

/** A 64-bit word of the machine's RAM; null where there is none. */
export function ramWord(machine: Machine, address: bigint): bigint | null {
  for (const { block, base } of machine.board.ram) {
    const offset = Number(address) - base;
    if (offset >= 0 && offset + 8 <= block.size) {
      const words = block.wordWindow(offset);
      const index = (offset % 2 ** 32) / 4;
      return BigInt(words[index] >>> 0) | (BigInt(words[index + 1] >>> 0) << 32n);
    }
  }
  return null;
}

/** The guest-physical address of the STE of a StreamID; null: none. */
export function entryAddress(machine: Machine, smmu: MachineSmmu, sid: number): bigint | null {
  const { memory } = machine.board;
  const base = memory.readWord(smmu.base + STRTAB_BASE, 8) & 0x000f_ffff_ffff_ffc0n;
  const config = Number(memory.readWord(smmu.base + STRTAB_BASE_CFG, 4));
  const log2Size = config & 0x3f;
  const format = (config >> 16) & 3;
  const streamIdBits = Number(memory.readWord(smmu.base + IDR1, 4)) & 0x3f;
  if (sid >= 2 ** Math.min(log2Size, streamIdBits)) {
    return null;
  }
  const aligned = (address: bigint, bits: number): bigint => (address >> BigInt(bits)) << BigInt(bits);
  if (format !== 1) {
    return aligned(base, log2Size + 6) + BigInt(sid) * 64n;
  }
  const asked = (config >> 6) & 0x1f;
  const split = asked === 8 || asked === 10 ? asked : 6;
  const descriptor = ramWord(machine, aligned(base, Math.max(6, log2Size - split + 3)) + BigInt(sid >> split) * 8n);
  if (descriptor === null) {
    return null;
  }
  const span = Number(descriptor & 0x1fn);
  const index = sid & (2 ** split - 1);
  if (span === 0 || span > split + 1 || index >= 2 ** (span - 1)) {
    return null;
  }
  return aligned(descriptor & 0x000f_ffff_ffff_ffc0n, 5 + span) + BigInt(index) * 64n;
}

/** The first four double words of the STE that the guest's table has for a function; null: none, or not to be read. */
export function guestEntry(machine: Machine, smmu: MachineSmmu, fn: PciFunction): BigUint64Array | null {
  const address = entryAddress(machine, smmu, fn.requesterId);
  const words = address === null ? [null] : [0n, 8n, 16n, 24n].map((offset) => ramWord(machine, address + offset));
  return words.includes(null) ? null : new BigUint64Array(words as bigint[]);
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
  /** "bypass": stage 2 alone, the guest's addresses are physical. */
  readonly table: Table;
  /** STE.Config; 0 where the entry is not valid. */
  readonly config: number;
  readonly words: Int32Array;
  /** Guest-physical address of the context descriptors, where the table is nested. */
  readonly contexts: bigint;
}

/** The entry of the host's stream table for a function. */
export function hostEntry(host: SimulatedHost, address: string): HostEntry {
  const device = host.hardware.functions.get(address)!;
  const words = device.smmu!.readSte(device.sourceId);
  const config = (words[0] & 1) === 0 ? 0 : (words[0] >>> 1) & 7;
  const table = config === 0 ? "abort" : config === 6 ? "bypass" : "nested";
  const contexts = BigInt(words[0] >>> 0) | (BigInt(words[1] >>> 0) << 32n);
  return { table, config, words, contexts: contexts & 0x000f_ffff_ffff_ffc0n };
}
