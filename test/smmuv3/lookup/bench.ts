import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import {
  featuresOf,
  StreamTranslator,
  type LookupFeatures,
  type UnitCachesOptions,
} from "../../../src/smmuv3/lookup/index.js";
import { buildCd, buildSte, unpack, EVT, eventName, type CD, type FieldValues, type STE } from "../../../src/smmuv3/spec/index.js";
import { ACCESS_READ } from "../../../src/translation/index.js";
import { highWord, lowWord, toBigInt } from "../../../src/support/index.js";

/** IDR0 to IDR5: both stages, ATS, 16-bit ASID and VMID, two-level tables, no stalls, 20-bit substreams, 48 bits, all granules, RIL, HAD. */
export const FULL_IDR: readonly number[] = [
  0x1 | 0x2 | (2 << 2) | 0x10 | 0x400 | 0x1000 | 0x40000 | 0x80000 | (2 << 21) | 0x80_0000 | (1 << 24) | (1 << 27),
  16 | (20 << 6) | (19 << 16) | (19 << 21) | (1 << 26),
  0,
  0x1404,
  0,
  0x75,
];

/** With the given bits of one register replaced. */
export function withIdr(index: number, clear: number, set = 0): LookupFeatures {
  const idr = [...FULL_IDR];
  idr[index] = (idr[index] & ~clear) | set;
  return featuresOf(idr);
}

export const FULL = featuresOf(FULL_IDR);

export const RAM_BASE = 0x4000_0000;
export const STRTAB = 0x4010_0000;
export const CDTAB = 0x4020_0000;
const TABLES = 0x4100_0000;
const RAM_BYTES = 0x1000_0000;

/** Stage-1 page: valid, AF, AP[1], PXN, nG. */
export const S1_RW = (1n << 53n) | (1n << 11n) | 0x443n;
export const S1_RO = S1_RW | 0x80n;
/** Stage-2 page: valid, AF, S2AP, Normal write-back MemAttr. */
export const S2_RW = 0x4ffn;
export const S2_RO = 0x47fn;

/** An SMMU's view of a small memory, and builders for what lies in it. */
export class Bench {
  readonly memory = new RamWordMemory();
  readonly translator: StreamTranslator;
  private free = TABLES;

  constructor(features: LookupFeatures = FULL, options: UnitCachesOptions = {}) {
    this.memory.place(RAM_BASE, new RamBlock("ram", RAM_BYTES, 0x7f00_0000_0000));
    this.translator = new StreamTranslator(this.memory, features, options);
    this.translator.enabled = true;
    this.translator.table.base = STRTAB;
    this.translator.table.log2Size = 8;
  }

  write64(address: number, value: bigint): void {
    if (this.memory.store64(highWord(address), lowWord(address), highWord(value), lowWord(value)) !== 0) {
      throw new Error(`no memory at 0x${address.toString(16)}`);
    }
  }

  writeWords(address: number, words: Int32Array): void {
    for (let i = 0; i < words.length; i += 2) {
      this.write64(address + i * 4, toBigInt(words[i + 1], words[i]));
    }
  }

  ste(sid: number, values: FieldValues<typeof STE>): void {
    this.writeWords(STRTAB + sid * 64, buildSte(values));
  }

  cd(address: number, values: FieldValues<typeof CD>): void {
    this.writeWords(address, buildCd(values));
  }

  /** A zeroed 4 KiB page for a table. */
  page(): number {
    const at = this.free;
    this.free += 0x1000;
    return at;
  }

  /** Maps a page in 4K tables of four levels; intermediate tables as needed. */
  map(root: number, input: number | bigint, output: number | bigint, attributes: bigint, level = 3): void {
    let table = root;
    const address = BigInt(input);
    for (let at = 0; at < level; at++) {
      const slot = table + Number((address >> BigInt(39 - 9 * at)) & 0x1ffn) * 8;
      this.memory.load64(highWord(slot), lowWord(slot));
      let entry = toBigInt(this.memory.loadedHigh, this.memory.loadedLow);
      if ((entry & 1n) === 0n) {
        entry = BigInt(this.page()) | 3n;
        this.write64(slot, entry);
      }
      table = Number(entry & 0xffff_ffff_f000n);
    }
    const kind = level === 3 ? attributes : attributes & ~2n;
    this.write64(table + Number((address >> BigInt(39 - 9 * level)) & 0x1ffn) * 8, BigInt(output) | kind);
  }

  translate(sid: number, address: number | bigint, access = ACCESS_READ, ssid = -1, kind = 0): number {
    return this.translator.translate(sid, ssid, highWord(address), lowWord(address), access, kind);
  }

  get out(): bigint {
    return toBigInt(this.translator.outHigh, this.translator.outLow);
  }

  /** The event's name and its fields that are not zero; undefined where there is none. */
  get event(): Record<string, unknown> | undefined {
    if (!this.translator.hasEvent) {
      return undefined;
    }
    const { NUMBER, ...fields } = unpack(EVT, this.translator.event);
    return { name: eventName(NUMBER), ...Object.fromEntries(Object.entries(fields).filter(([, value]) => Number(value) !== 0)) };
  }

  /** The event's words in hexadecimal. */
  get eventWords(): string[] | undefined {
    return this.translator.hasEvent
      ? Array.from(this.translator.event, (word) => (word >>> 0).toString(16).padStart(8, "0"))
      : undefined;
  }
}

/** A legal stage-1 CD over a root table: 48 bits, 4K, TTB0 only, faults abort and are recorded. */
export function cdFields(root: number, more: FieldValues<typeof CD> = {}): FieldValues<typeof CD> {
  return { V: 1, AA64: 1, T0SZ: 16, EPD1: 1, IPS: 5, A: 1, R: 1, ASID: 1, TTB0: root, ...more };
}

/** A legal stage-2 configuration over a root table: 48 bits, 4K, from level 0, faults recorded. */
export function stage2Fields(root: number, more: FieldValues<typeof STE> = {}): FieldValues<typeof STE> {
  return { S2AA64: 1, S2T0SZ: 16, S2SL0: 2, S2PS: 5, S2VMID: 1, S2R: 1, S2TTB: root, ...more };
}
