import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { highWord, lowWord, toBigInt, unpack } from "../../../src/support/index.js";
import { ACCESS_READ } from "../../../src/translation/index.js";
import {
  featuresOf,
  NO_PASID,
  VtdTranslator,
  type VtdFeatures,
  type VtdTranslatorOptions,
} from "../../../src/vtd/lookup/index.js";
import { FRCD, TTM_LEGACY, TTM_SCALABLE } from "../../../src/vtd/spec/index.js";

/**
 * Everything: SAGAW 39, 48 and 57 bits, MGAW 57, 2-MiB and 1-GiB pages, 5 levels, DT, PT, SC, SMTS, FSTS, SSTS, NEST,
 * SRS, EAFS, NWFS, SSADS, PRS, PASID of 20 bits, RPS, RPRIVS, SMPWCS, ADMS, IR, EIM. Bits by number, as 11.4.2 and 11.4.3 have them.
 */
export const FULL_CAP =
  6n | (0xen << 8n) | (56n << 16n) | (1n << 22n) | (3n << 34n) | (1n << 39n) | (18n << 48n) | (1n << 56n) | (1n << 60n);
export const FULL_ECAP =
  0x2n | (1n << 2n) | (1n << 3n) | (1n << 4n) | (1n << 6n) | (1n << 7n) | (1n << 26n) | (1n << 29n) | (1n << 31n) |
  (1n << 33n) | (1n << 34n) | (19n << 35n) | (1n << 40n) | (1n << 43n) | (1n << 45n) | (1n << 46n) | (1n << 47n) | (1n << 48n) |
  (1n << 49n) | (1n << 52n) | (1n << 53n);

/** With bits of ECAP (by number) taken away or, negative, with bits of CAP. */
export function without(ecapBits: readonly number[], capBits: readonly number[] = []): VtdFeatures {
  const take = (value: bigint, bits: readonly number[]): bigint => bits.reduce((all, bit) => all & ~(1n << BigInt(bit)), value);
  return featuresOf(take(FULL_CAP, capBits), take(FULL_ECAP, ecapBits), 46);
}

export const FULL = without([]);

export const RAM_BASE = 0x1000_0000;
export const RAM_BYTES = 0x40_0000;
export const ROOT_TABLE = 0x1000_0000;
/** Requester id 01:02.3, and one whose device is in the upper half. */
export const RID = 0x0113;
export const UPPER_RID = 0x01a0;
/** Where nothing answers. */
export const HOLE = 0x4000_0000;
const FREE = 0x1010_0000;

/** First-stage entries: present, writable, user, accessed, dirty. */
export const FS_RW = 0x67n;
export const FS_RO = 0x65n;
export const SS_RW = 3n;
export const SS_RO = 1n;

/** A VT-d unit's view of a small memory, and builders for what lies in it: all by bit numbers of chapter 9. */
export class Bench {
  readonly memory = new RamWordMemory();
  readonly translator: VtdTranslator;
  private free = FREE;

  constructor(features: VtdFeatures = FULL, options: VtdTranslatorOptions = { coherentWalks: true }) {
    this.memory.place(RAM_BASE, new RamBlock("ram", RAM_BYTES, 0x7f00_0000_0000));
    this.translator = new VtdTranslator(this.memory, features, options);
    this.translator.enabled = true;
    this.translator.rootTable = ROOT_TABLE;
    this.translator.mode = TTM_LEGACY;
  }

  write64(address: number, value: bigint): void {
    if (this.memory.store64(highWord(address), lowWord(address), highWord(value), lowWord(value)) !== 0) {
      throw new Error(`no memory at 0x${address.toString(16)}`);
    }
  }

  read64(address: number): bigint {
    if (this.memory.load64(highWord(address), lowWord(address)) !== 0) {
      throw new Error(`no memory at 0x${address.toString(16)}`);
    }
    return toBigInt(this.memory.loadedHigh, this.memory.loadedLow);
  }

  write(address: number, ...quads: bigint[]): void {
    quads.forEach((quad, i) => this.write64(address + i * 8, quad));
  }

  page(): number {
    const at = this.free;
    this.free += 0x1000;
    return at;
  }

  /** Legacy mode: root entry for the requester's bus, context entry with these quadwords; answers its address. */
  legacy(rid: number, low: bigint, high: bigint): number {
    this.translator.mode = TTM_LEGACY;
    const root = ROOT_TABLE + (rid >> 8) * 16;
    let table = Number(this.read64(root) & ~0xfffn);
    if (table === 0) {
      table = this.page();
      this.write(root, BigInt(table) | 1n, 0n);
    }
    const at = table + (rid & 0xff) * 16;
    this.write(at, low, high);
    return at;
  }

  /** Scalable mode: root entry, context entry {low, second quadword}; answers its address. */
  scalable(rid: number, low: bigint, second = 0n): number {
    this.translator.mode = TTM_SCALABLE;
    const root = ROOT_TABLE + (rid >> 8) * 16 + ((rid & 0x80) !== 0 ? 8 : 0);
    let table = Number(this.read64(root) & ~0xfffn);
    if (table === 0) {
      table = this.page();
      this.write(root, BigInt(table) | 1n);
    }
    const at = table + (rid & 0x7f) * 32;
    this.write(at, low, second, 0n, 0n);
    return at;
  }

  /** Writes a PASID entry behind a directory, whose entry and table are made as needed; answers the entry's address. */
  pasid(directory: number, pasid: number, ...quads: bigint[]): number {
    const slot = directory + (pasid >> 6) * 8;
    let table = Number(this.read64(slot) & ~0xfffn);
    if (table === 0) {
      table = this.page();
      this.write(slot, BigInt(table) | 1n);
    }
    const at = table + (pasid & 63) * 64;
    this.write(at, ...quads, ...Array<bigint>(8 - quads.length).fill(0n));
    return at;
  }

  /** Maps a page in tables of `levels`; intermediate entries with the attributes `table`. Answers the leaf's address. */
  map(
    root: number,
    input: number | bigint,
    output: number | bigint,
    attributes: bigint,
    table: bigint,
    levels = 4,
    pageBits: 12 | 21 | 30 = 12,
  ): number {
    let at = root;
    const address = BigInt(input);
    for (let shift = 3 + 9 * levels; ; shift -= 9) {
      const slot = at + Number((address >> BigInt(shift)) & 0x1ffn) * 8;
      if (shift === pageBits) {
        this.write64(slot, BigInt(output) | attributes | (pageBits > 12 ? 0x80n : 0n));
        return slot;
      }
      let entry = this.read64(slot);
      if ((entry & 3n) === 0n) {
        entry = BigInt(this.page()) | table;
        this.write64(slot, entry);
      }
      at = Number(entry & 0xf_ffff_ffff_f000n);
    }
  }

  translate(rid: number, address: number | bigint, access = ACCESS_READ, pasid = NO_PASID, kind = 0): number {
    return this.translator.translate(rid, pasid, highWord(address), lowWord(address), access, kind);
  }

  get out(): bigint {
    return toBigInt(this.translator.outHigh, this.translator.outLow);
  }

  /** The record's fields that are not zero, but F; undefined where none is to be recorded. */
  get fault(): Record<string, unknown> | undefined {
    if (!this.translator.hasFault) {
      return undefined;
    }
    const { F, ...fields } = unpack(FRCD, this.translator.record);
    if (F !== 1) {
      throw new Error("F is clear in a record");
    }
    return Object.fromEntries(Object.entries(fields).filter(([, value]) => Number(value) !== 0));
  }
}

/** Quadwords of PASID entries. */
export const P = 1n;
export const FPD = 2n;

export function firstStage(root: number, domain = 1n, more = 0n): [bigint, bigint, bigint] {
  return [P | (1n << 6n), domain, BigInt(root) | more];
}

/** AW: 1 for 39 bits, 2 for 48, 3 for 57. */
export function secondStage(root: number, aw = 2n, domain = 2n, more = 0n): [bigint, bigint, bigint] {
  return [P | (aw << 2n) | (2n << 6n) | BigInt(root) | more, domain, 0n];
}

export function nested(first: number, second: number, aw = 2n, domain = 3n, more = 0n): [bigint, bigint, bigint] {
  return [P | (aw << 2n) | (3n << 6n) | BigInt(second), domain, BigInt(first) | more];
}

export function passThrough(domain = 4n): [bigint, bigint, bigint] {
  return [P | (4n << 6n), domain, 0n];
}
