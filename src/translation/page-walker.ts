import type { WordMemory } from "../memory/index.js";
import { LoopWalker } from "./loop-walker.js";
import { REQUIRED_PERMISSIONS, STAGE1_PERMISSIONS, STAGE2_PERMISSIONS } from "./permissions.js";
import type { StageConfig } from "./stage-config.js";
import { WALK_OK, type StageTables } from "./types.js";

/** Answers of the fast path besides a word index. */
const GIVE_UP = -1;
const NOT_FLAT = -2;

/**
 * The walker to use. What is common goes fast: 4-KiB granules, tables in the flat part of memory, levels
 * unrolled, addresses in two 32-bit words. The fast path decides nothing: at whatever is not a plain
 * success (a fault, a table elsewhere, another granule) it gives up, and the loop walks again from the
 * start and says what it is.
 */
export class PageWalker extends LoopWalker {
  /** The flat part of memory as it was when the configurations below were prepared. */
  private flat: Int32Array = new Int32Array(0);
  private flatBase = -1;
  private flatBytes = 0;
  private flatHigh = 0;
  private flatLow = 0;

  /** The tables of the configurations below, and which fast paths they allow. */
  private prepared1: StageTables | undefined;
  private prepared2: StageTables | undefined;
  private fast1 = false;
  private fast2 = false;
  private fastNested = false;

  /** Stage 1, prepared: its first table's base (an IPA when nested), index mask, and what must be zero. */
  private start1 = 0;
  private first1High = 0;
  private first1Low = 0;
  private first1Mask = 0;
  private input1High = 0;
  private output1Beyond = 0;
  private accessFlag1 = 0;
  private hierarchical1 = 0;
  private controls1 = 0;

  /** Stage 2, prepared: its first table as a word index into the flat part. */
  private start2 = 0;
  private first2 = 0;
  private first2Mask = 0;
  private flatWords = 0;
  private leafNeeds2 = 0;
  private leafAttributes2 = 0;
  private ipaBeyond = 0;
  private input2Beyond = 0;
  private output2Beyond = 0;
  private accessFlag2 = 0;
  private controls2 = 0;
  /** Bits of which one has to be set in the stage-2 leaf of a stage-1 table: MemAttr with S2PTW, else bit 0. */
  private tableAttributes2 = 1;

  /** The stage-2 leaf that `translate2` found. */
  private leaf2High = 0;
  private leaf2Low = 0;
  private leaf2Bits = 0;

  constructor(memory: WordMemory) {
    super(memory);
  }

  override walkNested(
    stage1: StageTables,
    stage2: StageTables,
    iovaHigh: number,
    iovaLow: number,
    access: number,
  ): number {
    const memory = this.memory;
    if (
      stage1 !== this.prepared1 ||
      stage2 !== this.prepared2 ||
      memory.flat !== this.flat ||
      memory.flatBase !== this.flatBase ||
      memory.flatBytes !== this.flatBytes
    ) {
      this.prepare(stage1, stage2);
    }
    if (this.fastNested && this.nested4k(iovaHigh, iovaLow, access)) {
      return WALK_OK;
    }
    return super.walkNested(stage1, stage2, iovaHigh, iovaLow, access);
  }

  override walkStage2(tables: StageTables, ipaHigh: number, ipaLow: number, access: number): number {
    const memory = this.memory;
    if (
      tables !== this.prepared2 ||
      memory.flat !== this.flat ||
      memory.flatBase !== this.flatBase ||
      memory.flatBytes !== this.flatBytes
    ) {
      this.prepare(this.prepared1, tables);
    }
    if (this.fast2 && this.translate2(ipaHigh, ipaLow) !== GIVE_UP) {
      const low = this.leaf2Low;
      const high = this.leaf2High;
      const permissions = STAGE2_PERMISSIONS[this.controls2 | ((high >>> 19) & 0xc) | ((low >>> 6) & 3)];
      if (
        (REQUIRED_PERMISSIONS[access & 15] & ~permissions) === 0 &&
        (high & this.output2Beyond) === 0
      ) {
        const bits = this.leaf2Bits;
        const offset = (1 << bits) - 1;
        this.outHigh = high & 0xffff;
        this.outLow = (low & ~offset) | (ipaLow & offset);
        this.outPageBits = bits;
        this.outPermissions = permissions;
        this.outLevel = bits === 12 ? 3 : bits === 21 ? 2 : 1;
        this.outGlobal = 0;
        return WALK_OK;
      }
    }
    return super.walkStage2(tables, ipaHigh, ipaLow, access);
  }

  private prepare(stage1: StageTables | undefined, stage2: StageTables | undefined): void {
    const memory = this.memory;
    this.flat = memory.flat;
    this.flatBase = memory.flatBase;
    this.flatBytes = memory.flatBytes;
    this.flatHigh = Math.floor(memory.flatBase / 0x1_0000_0000) | 0;
    this.flatLow = memory.flatBase | 0;
    this.prepared1 = stage1;
    this.prepared2 = stage2;
    this.fast1 = stage1 !== undefined && this.prepareStage1(this.useStage1(stage1));
    this.fast2 = stage2 !== undefined && this.prepareStage2(this.useStage2(stage2));
    this.fastNested = this.fast1 && this.fast2;
    this.flatWords = Math.floor(Math.min(memory.flatBytes, 0x1_0000_0000 - (memory.flatBase % 0x1_0000_0000)) / 4) | 0;
    this.ipaBeyond = (this.output1Beyond | this.input2Beyond) & 0xffff;
    this.leafNeeds2 = 0x41 | this.accessFlag2;
    this.leafAttributes2 = this.tableAttributes2;
    this.first1Mask <<= 3;
    this.first2Mask <<= 3;
    this.first2 <<= 2;
  }

  private prepareStage1(config: StageConfig): boolean {
    this.start1 = config.startLevel;
    this.first1High = config.baseHigh;
    this.first1Low = config.baseLow;
    this.first1Mask = config.firstIndexMask;
    this.input1High = ~config.inputBeyondHigh;
    this.output1Beyond = config.outputBeyondHigh & 0xffff;
    this.accessFlag1 = config.accessFlag;
    this.hierarchical1 = config.hierarchicalMask;
    this.controls1 = config.stage1Controls;
    return isPlain(config);
  }

  private prepareStage2(config: StageConfig): boolean {
    this.start2 = config.startLevel;
    this.first2Mask = config.firstIndexMask;
    this.input2Beyond = config.inputBeyondHigh;
    this.output2Beyond = config.outputBeyondHigh & 0xffff;
    this.accessFlag2 = config.accessFlag;
    this.controls2 = config.stage2Controls;
    this.tableAttributes2 = config.protectedTableWalk ? 0x30 : 1;
    // The first table lies in the flat part, and all of the flat part is a possible output address.
    const base = config.baseHigh * 0x1_0000_0000 + (config.baseLow >>> 0);
    const offset = base - this.flatBase;
    this.first2 = (offset / 4) | 0;
    const flatEndHigh = Math.floor((this.flatBase + this.flatBytes - 1) / 0x1_0000_0000);
    return (
      isPlain(config) &&
      offset >= 0 &&
      offset + (config.firstIndexMask + 1) * 8 <= this.flatBytes &&
      (flatEndHigh & config.outputBeyondHigh) === 0
    );
  }

  /**
   * A nested walk of 4-KiB granules that succeeds, or nothing: returns whether out* are filled.
   *
   * One round of the loop takes an IPA through stage 2; the rounds but the last read a stage-1 descriptor
   * there. Checks that need not stop a walk at once are collected in `ipaBits` and `paBits` and made at its
   * end: until then it only reads, and only in the flat part.
   */
  private nested4k(iovaHigh: number, iovaLow: number, access: number): boolean {
    const flat = this.flat;
    const flatHigh = this.flatHigh | 0;
    const flatLow = this.flatLow | 0;
    const flatWords = this.flatWords | 0;
    const start2 = this.start2 | 0;
    const first2 = this.first2 | 0;
    const first2Mask = this.first2Mask | 0;
    const leafNeeds2 = this.leafNeeds2 | 0;
    const leafAttributes2 = this.leafAttributes2 | 0;
    const high = iovaHigh & this.input1High;
    let level = this.start1;
    let ipaHigh = this.first1High;
    let ipaLow = this.first1Low;
    // The input bits below the first index, from bit 31 of `rest` down, then from bit 31 of `more`.
    let rest: number;
    let more = 0;
    if (level === 0) {
      ipaLow |= (high >>> 4) & this.first1Mask;
      rest = (high << 25) | (iovaLow >>> 7);
      more = iovaLow << 25;
    } else if (level === 1) {
      ipaLow |= ((high << 5) | (iovaLow >>> 27)) & this.first1Mask;
      rest = iovaLow << 2;
    } else {
      ipaLow |= ((high << 14) | (iovaLow >>> 18)) & this.first1Mask;
      rest = iovaLow << 11;
    }
    let ipaBits = ipaHigh;
    let paBits = 0;
    let hierarchical = 0;
    let entryLow = 0;
    let entryHigh = 0;
    let bits1 = 0;
    let bits2: number;
    let low: number;
    let high2: number;
    let page: number;
    for (;;) {
      let at: number;
      if (start2 === 0) {
        at = (first2 + ((ipaHigh >>> 4) & first2Mask)) >>> 2;
        low = flat[at];
        high2 = flat[at | 1];
        paBits |= high2 ^ flatHigh;
        at = ((low & ~0xfff) + ((((ipaHigh << 5) & 0xfe0) | ((ipaLow >>> 27) & 0x18)) - flatLow)) >>> 2;
        if ((low & 3) !== 3 || at >= flatWords) {
          return false;
        }
      } else {
        at = (first2 + (((ipaHigh << 5) | (ipaLow >>> 27)) & first2Mask)) >>> 2;
      }
      low = flat[at];
      high2 = flat[at | 1];
      if ((low & 3) === 3) {
        paBits |= high2 ^ flatHigh;
        at = ((low & ~0xfff) + (((ipaLow >>> 18) & 0xff8) - flatLow)) >>> 2;
        if (at >= flatWords) {
          return false;
        }
        low = flat[at];
        high2 = flat[at | 1];
        if ((low & 3) === 3) {
          paBits |= high2 ^ flatHigh;
          at = ((low & ~0xfff) + (((ipaLow >>> 9) & 0xff8) - flatLow)) >>> 2;
          if (at >= flatWords) {
            return false;
          }
          low = flat[at];
          high2 = flat[at | 1];
          page = low;
          bits2 = 12;
          if ((low & 2) === 0) {
            return false;
          }
        } else {
          bits2 = 21;
          page = (low & ~0x1f_ffff) | (ipaLow & 0x1f_f000);
        }
      } else {
        bits2 = 30;
        page = (low & ~0x3fff_ffff) | (ipaLow & 0x3fff_f000);
      }
      if ((low & leafNeeds2) !== leafNeeds2 || (low & leafAttributes2) === 0) {
        return false;
      }
      if (bits1 !== 0) {
        break;
      }
      paBits |= high2 ^ flatHigh;
      at = ((page & ~0xfff) + ((ipaLow & 0xff8) - flatLow)) >>> 2;
      if (at >= flatWords) {
        return false;
      }
      entryLow = flat[at];
      entryHigh = flat[at | 1];
      ipaBits |= entryHigh;
      ipaHigh = entryHigh & 0xffff;
      if ((entryLow & 3) === 3 && level !== 3) {
        hierarchical |= entryHigh;
        ipaLow = (entryLow & ~0xfff) | ((rest >>> 20) & 0xff8);
        rest = (rest << 9) | (more >>> 23);
        more <<= 9;
        level = (level + 1) | 0;
      } else {
        bits1 = level === 3 ? 12 : level === 2 ? 21 : 30;
        if (
          (entryLow & 1) === 0 ||
          (entryLow & this.accessFlag1) !== this.accessFlag1 ||
          level === 0 ||
          (level === 3 && (entryLow & 2) === 0)
        ) {
          return false;
        }
        const offset = (1 << bits1) - 1;
        ipaLow = (entryLow & ~offset) | (iovaLow & offset);
      }
    }
    const permissions =
      STAGE1_PERMISSIONS[
        this.controls1 |
          (((hierarchical & this.hierarchical1) >>> 23) & 0xf0) |
          ((entryHigh >>> 19) & 0xc) |
          ((entryLow >>> 6) & 3)
      ] & STAGE2_PERMISSIONS[this.controls2 | ((high2 >>> 19) & 0xc) | ((low >>> 6) & 3)];
    if (
      (ipaBits & this.ipaBeyond) !== 0 ||
      (paBits & 0xffff) !== 0 ||
      (high2 & this.output2Beyond) !== 0 ||
      (REQUIRED_PERMISSIONS[access & 15] & ~permissions) !== 0
    ) {
      return false;
    }
    this.outHigh = high2 & 0xffff;
    this.outLow = (page & ~0xfff) | (ipaLow & 0xfff);
    this.outPageBits = bits1 < bits2 ? bits1 : bits2;
    this.outPermissions = permissions;
    this.outLevel = level;
    this.outGlobal = (~entryLow >>> 11) & 1;
    return true;
  }

  /**
   * Stage 2 of an IPA with 4-KiB granules: leaves the leaf in leaf2*, its access flag checked, its
   * permissions and output size not. Returns the word index of the output address in the flat part,
   * NOT_FLAT where it lies elsewhere, GIVE_UP where there is no leaf.
   */
  private translate2(ipaHigh: number, ipaLow: number): number {
    if ((ipaHigh & this.input2Beyond) !== 0) {
      return GIVE_UP;
    }
    const flat = this.flat;
    const flatLow = this.flatLow;
    const flatHigh = this.flatHigh;
    const flatBytes = this.flatBytes;
    const start = this.start2;
    let at = this.first2;
    let low: number;
    let high: number;
    let bits = 12;
    let offset: number;
    if (start === 0) {
      at += ((ipaHigh >>> 7) & this.first2Mask) << 1;
    } else if (start === 1) {
      at += (((ipaHigh << 2) | (ipaLow >>> 30)) & this.first2Mask) << 1;
    } else {
      at += (((ipaHigh << 11) | (ipaLow >>> 21)) & this.first2Mask) << 1;
    }
    walk: {
      if (start === 0) {
        low = flat[at];
        high = flat[at + 1];
        offset = (low & ~0xfff) - flatLow;
        if (
          (low & 3) !== 3 ||
          offset >>> 0 >= flatBytes ||
          (high & 0xffff) - (low >>> 0 < flatLow >>> 0 ? 1 : 0) !== flatHigh
        ) {
          return GIVE_UP;
        }
        at = (offset >>> 2) + (((ipaHigh & 0x7f) << 3) | ((ipaLow >>> 29) & 6));
      }
      if (start <= 1) {
        low = flat[at];
        high = flat[at + 1];
        if ((low & 3) !== 3) {
          bits = 30;
          break walk;
        }
        offset = (low & ~0xfff) - flatLow;
        if (offset >>> 0 >= flatBytes || (high & 0xffff) - (low >>> 0 < flatLow >>> 0 ? 1 : 0) !== flatHigh) {
          return GIVE_UP;
        }
        at = (offset >>> 2) + ((ipaLow >>> 20) & 0x3fe);
      }
      low = flat[at];
      high = flat[at + 1];
      if ((low & 3) !== 3) {
        bits = 21;
        break walk;
      }
      offset = (low & ~0xfff) - flatLow;
      if (offset >>> 0 >= flatBytes || (high & 0xffff) - (low >>> 0 < flatLow >>> 0 ? 1 : 0) !== flatHigh) {
        return GIVE_UP;
      }
      at = (offset >>> 2) + ((ipaLow >>> 11) & 0x3fe);
      low = flat[at];
      high = flat[at + 1];
      if ((low & 2) === 0) {
        return GIVE_UP;
      }
    }
    if ((low & 1) === 0 || (low & this.accessFlag2) !== this.accessFlag2) {
      return GIVE_UP;
    }
    this.leaf2Low = low;
    this.leaf2High = high;
    this.leaf2Bits = bits;
    const mask = -1 << bits;
    low = (low & mask) | (ipaLow & ~mask);
    offset = low - flatLow;
    if (offset >>> 0 >= flatBytes || (high & 0xffff) - (low >>> 0 < flatLow >>> 0 ? 1 : 0) !== flatHigh) {
      return NOT_FLAT;
    }
    return offset >>> 2;
  }
}

/** Whether the fast path knows the shape: 4-KiB granules, a walk from level 0 to 2, no limit below 4 GiB. */
function isPlain(config: StageConfig): boolean {
  return (
    config.granuleBits === 12 &&
    config.startLevel <= 2 &&
    !config.baseFaults &&
    config.inputBeyondLow === 0 &&
    config.outputBeyondLow === 0
  );
}
