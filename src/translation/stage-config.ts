import { levelShift } from "./geometry.js";
import { STAGE1_PAN, STAGE1_WXN, STAGE2_XNX } from "./permissions.js";
import type { StageTables } from "./types.js";

/** Descriptors hold 48-bit output addresses (no FEAT_LPA, no FEAT_LPA2). */
const MOST_OUTPUT_BITS = 48;

/** One stage's tables in the form that walks read: small integers only, one shape whoever made the tables. */
export class StageConfig {
  granuleBits = 12;
  startLevel = 0;
  /** Base of the first table; its size is 1 << firstTableBits bytes and the base is aligned to it. */
  baseHigh = 0;
  baseLow = 0;
  /** Mask of the index into the first table (concatenated tables have up to 4 bits more than others). */
  firstIndexMask = 0;
  /** Bits of an input address, and of an output address, that have to be zero. */
  inputBeyondHigh = 0;
  inputBeyondLow = 0;
  outputBeyondHigh = 0;
  outputBeyondLow = 0;
  /** The first table's base is no output address: every walk ends with an address size fault. */
  baseFaults = false;
  /** Descriptor bit 10 where its absence is a fault, else 0. */
  accessFlag = 0;
  /** Bits of a table's high word that count: 62:59, or none with HPD. */
  hierarchicalMask = 0;
  /** Offsets into STAGE1_PERMISSIONS and STAGE2_PERMISSIONS. */
  stage1Controls = 0;
  stage2Controls = 0;
  protectedTableWalk = false;

  constructor(tables: StageTables) {
    this.granuleBits = tables.granuleBits;
    this.startLevel = tables.startLevel;
    const firstShift = levelShift(tables.granuleBits, tables.startLevel);
    const firstIndexBits = Math.max(0, tables.inputBits - firstShift);
    this.firstIndexMask = (1 << firstIndexBits) - 1;
    // The first table may be as small as one descriptor; TTBs have no bits below 16 (IHI 0070 5.4 CD.TTB0).
    const tableBits = Math.max(4, firstIndexBits + 3);
    this.baseHigh = tables.baseHigh & 0xffff;
    this.baseLow = tables.baseLow & ~((1 << tableBits) - 1);
    this.inputBeyondHigh = beyondHigh(tables.inputBits);
    this.inputBeyondLow = beyondLow(tables.inputBits);
    const outputBits = Math.min(MOST_OUTPUT_BITS, tables.outputBits);
    this.outputBeyondHigh = beyondHigh(outputBits);
    this.outputBeyondLow = beyondLow(outputBits);
    this.baseFaults = (tables.baseHigh & this.outputBeyondHigh) !== 0 || (this.baseLow & this.outputBeyondLow) !== 0;
    this.accessFlag = tables.accessFlagFaultsDisabled ? 0 : 0x400;
    this.hierarchicalMask = tables.hierarchicalDisabled ? 0 : 0x7800_0000;
    this.stage1Controls =
      (tables.writeImpliesNoExecute ? STAGE1_WXN : 0) | (tables.privilegedAccessNever === true ? STAGE1_PAN : 0);
    this.stage2Controls = tables.executeNeverPerPrivilege === true ? STAGE2_XNX : 0;
    this.protectedTableWalk = tables.protectedTableWalk === true;
  }
}

/** High word of the address bits from `bits` on. */
function beyondHigh(bits: number): number {
  return bits >= 64 ? 0 : bits <= 32 ? -1 : -1 << (bits - 32);
}

/** Low word of the address bits from `bits` on. */
function beyondLow(bits: number): number {
  return bits >= 32 ? 0 : -1 << bits;
}
