import { loadWords, type WordMemory } from "../../memory/index.js";
import { STE_WORDS, STRTAB_FMT_2LEVEL } from "../spec/index.js";
import type { LookupFeatures } from "./features.js";

/** Results of `StreamTable.fetch`. */
export const STREAM_FOUND = 0;
/** The StreamID is out of range: C_BAD_STREAMID. */
export const STREAM_OUT_OF_RANGE = -1;
/** A structure could not be fetched: F_STE_FETCH with the address in fetchHigh and fetchLow. */
export const STREAM_FETCH_ABORT = -2;

/**
 * The stream table in memory, linear or two-level (Arm IHI 0070, 3.3.2 and 5.1). The owner sets the fields
 * from SMMU_STRTAB_BASE and SMMU_STRTAB_BASE_CFG. Nothing is cached here.
 */
export class StreamTable {
  /** STRTAB_BASE.ADDR in bytes, not aligned to the table. */
  base = 0;
  /** STRTAB_BASE_CFG: the literal values. */
  log2Size = 0;
  split = 0;
  format = 0;

  /** Physical address of the last fetch. */
  fetchHigh = 0;
  fetchLow = 0;

  private readonly descriptor = new Int32Array(2);

  constructor(
    private readonly memory: WordMemory,
    private readonly features: LookupFeatures,
  ) {}

  /** How many StreamIDs the table has: 2 to the power of the effective LOG2SIZE (6.3.25). */
  get streams(): number {
    return 2 ** Math.min(this.log2Size, this.features.sidBits);
  }

  /**
   * Reads the STE of a StreamID (unsigned) into `out`, sixteen words. Returns STREAM_*.
   */
  fetch(sid: number, out: Int32Array): number {
    // 6.3.25: a StreamID at or above 2^LOG2SIZE is out of range.
    if (sid >= this.streams) {
      return STREAM_OUT_OF_RANGE;
    }
    if (this.format !== STRTAB_FMT_2LEVEL || !this.features.twoLevelStreamTable) {
      // 6.3.24: a linear table is aligned to its size, by the literal LOG2SIZE.
      return this.load(aligned(this.base, this.log2Size + 6) + sid * 64, out, STE_WORDS) ? STREAM_FOUND : STREAM_FETCH_ABORT;
    }
    // 6.3.25 SPLIT: reserved values behave as 6.
    const split = this.split === 8 || this.split === 10 ? this.split : 6;
    const levelOne = aligned(this.base, Math.max(6, this.log2Size - split + 3));
    const { descriptor } = this;
    if (!this.load(levelOne + (sid >>> split) * 8, descriptor, 2)) {
      return STREAM_FETCH_ABORT;
    }
    // 5.1: Span 0, reserved, beyond the split, or too small for the StreamID.
    const span = descriptor[0] & 0x1f;
    const index = sid & ((1 << split) - 1);
    if (span === 0 || span > 11 || span > split + 1 || index >= 1 << (span - 1)) {
      return STREAM_OUT_OF_RANGE;
    }
    const levelTwo = (descriptor[1] & 0xff_ffff) * 0x1_0000_0000 + (descriptor[0] >>> 0);
    return this.load(aligned(levelTwo, 5 + span) + index * 64, out, STE_WORDS) ? STREAM_FOUND : STREAM_FETCH_ABORT;
  }

  /** 3.4.3: an address beyond the OAS is an aborted fetch, as one that nothing answers; 7.3.4: its record has the structure's address. */
  private load(address: number, out: Int32Array, count: number): boolean {
    this.fetchHigh = Math.floor(address / 0x1_0000_0000);
    this.fetchLow = address | 0;
    return loadWords(this.memory, address, this.features.outputBits, out, count);
  }
}

/** `address` rounded down to a multiple of 2^bits. */
export function aligned(address: number, bits: number): number {
  return address - (address % 2 ** bits);
}
