import type { WordMemory } from "../memory/index.js";
import { LoopWalker } from "./loop-walker.js";
import { REQUIRED_PERMISSIONS, STAGE1_PERMISSIONS, STAGE2_PERMISSIONS } from "./permissions.js";
import type { StageConfig } from "./stage-config.js";
import { WALK_OK, type Tables } from "./types.js";

const FOUR_GIB = 0x1_0000_0000;
const NO_WORDS = new Int32Array(0);

/** The tables again, as constants of this module: an import costs two more loads and a check at each use. */
const required = REQUIRED_PERMISSIONS;
const permissions1 = STAGE1_PERMISSIONS;
const permissions2 = STAGE2_PERMISSIONS;
const ok = WALK_OK;

/**
 * The walker to use. What is common goes fast: 4-KiB granules, tables in the flat part of memory, levels
 * unrolled, addresses in two 32-bit words. The fast path decides nothing: at whatever is not a plain
 * success (a fault, a table elsewhere, another granule) it gives up, and the loop walks again from the
 * start and says what it is.
 *
 * How it is written is measured (docs/speed.md): a descriptor's low word alone leads to the next one, in
 * as few dependent steps as C needs, since a flat part within one 4 GiB leaves the high words nothing to
 * decide; they are collected and checked at the end of the walk. Sums are cut to 32 bits by shifts, so
 * that no addition needs an overflow check.
 */
export class PageWalker extends LoopWalker {
  /** The memory's flat part when the fields below were prepared, and the tables that they are of. */
  private preparedFlat: Int32Array | undefined;
  private preparedBase = 0;
  private preparedBytes = 0;
  private prepared1: Tables | undefined;
  private prepared2: Tables | undefined;

  /** Where stage 1's descriptors are: the flat part, cut to what shares its address's high word; the first word's address. */
  private flat: Int32Array = NO_WORDS;
  private flatHigh = 0;
  private flatLow = 0;

  /** Where stage 2's descriptors are: the same, or a window of the memory that holds them. */
  private flat2: Int32Array = NO_WORDS;
  private flat2High = 0;
  private flat2Low = 0;

  /** Which fast paths the tables allow: 1 or 0 (cheaper to test than a boolean field). */
  private fast1 = 0;
  private fast2 = 0;
  private fastNested = 0;

  /** Stage 1: level and base of the first table, its index mask times 8, bits of the input. */
  private start1 = 0;
  private first1High = 0;
  private first1Low = 0;
  private first1Mask = 0;
  private input1High = 0;
  private output1Beyond = 0;
  private leafNeeds1 = 0;
  private hierarchical1 = 0;
  private controls1 = 0;

  /** Stage 2: the same; the base is in bytes from the start of `flat2`. */
  private start2 = 0;
  private first2 = 0;
  private first2Mask = 0;
  private input2Beyond = 0;
  private output2Beyond = 0;
  /** What a leaf's low word needs: valid, readable, the access flag, not being Device memory with S2PTW. */
  private leafNeeds2 = 0;
  private controls2 = 0;
  /** High bits that no IPA of a nested walk has: beyond stage 1's output or stage 2's input. */
  private ipaBeyond = 0;

  /** What `single4k` found. */
  private foundHigh = 0;
  private foundLow = 0;
  private foundBits = 0;
  private foundHierarchical = 0;

  constructor(memory: WordMemory) {
    super(memory);
  }

  override walkStage1(tables: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    if (tables !== this.prepared1 || this.memoryChanged()) {
      this.prepare(tables, this.prepared2);
    }
    if (this.fast1 === 1 && this.stage1of4k(iovaHigh, iovaLow, access)) {
      return ok;
    }
    return super.walkStage1(tables, iovaHigh, iovaLow, access);
  }

  override walkStage2(tables: Tables, ipaHigh: number, ipaLow: number, access: number): number {
    if (tables !== this.prepared2 || this.memoryChanged()) {
      this.prepare(this.prepared1, tables);
    }
    if (this.fast2 === 1 && this.stage2of4k(ipaHigh, ipaLow, access)) {
      return ok;
    }
    return super.walkStage2(tables, ipaHigh, ipaLow, access);
  }

  /**
   * One round of the loop takes an IPA through stage 2; the rounds but the last read a stage-1 descriptor
   * there. Checks that need not stop a walk at once are collected (`tables1`, `paBits`) and made at its end:
   * until then it only reads, and only in the flat part.
   */
  override walkNested(
    stage1: Tables,
    stage2: Tables,
    iovaHigh: number,
    iovaLow: number,
    access: number,
  ): number {
    if (stage1 !== this.prepared1 || stage2 !== this.prepared2 || this.memoryChanged()) {
      this.prepare(stage1, stage2);
    }
    fast: if (this.fastNested === 1) {
      const flat = this.flat;
      const flatHigh = this.flatHigh | 0;
      const flatLow = this.flatLow | 0;
      const flat2 = this.flat2;
      const flat2High = this.flat2High | 0;
      const flat2Low = this.flat2Low | 0;
      const start2 = this.start2 | 0;
      const first2 = this.first2 | 0;
      const first2Mask = this.first2Mask | 0;
      const leafNeeds2 = this.leafNeeds2 | 0;
      const high = iovaHigh & this.input1High;
      let level = this.start1;
      let ipaHigh = this.first1High;
      let ipaLow = this.first1Low;
      // The input bits below the first index, from bit 31 down.
      let rest: number;
      if (level === 0) {
        ipaLow |= (high >>> 4) & this.first1Mask;
        rest = (high << 25) | (iovaLow >>> 7);
      } else if (level === 1) {
        ipaLow |= ((high << 5) | (iovaLow >>> 27)) & this.first1Mask;
        rest = iovaLow << 2;
      } else {
        ipaLow |= ((high << 14) | (iovaLow >>> 18)) & this.first1Mask;
        rest = iovaLow << 11;
      }
      let paBits = 0;
      let tables1 = 0;
      let entryLow = 0;
      let entryHigh = 0;
      let bits1 = 0;
      let bits2: number;
      let low: number;
      let high2: number;
      let page: number;
      let at =
        (first2 + ((start2 === 0 ? ipaHigh >>> 4 : (ipaHigh << 5) | (ipaLow >>> 27)) & first2Mask)) >>> 2;
      for (;;) {
        if (start2 === 0) {
          low = flat2[at] | 0;
          high2 = flat2[at + 1] | 0;
          paBits |= high2 ^ flat2High;
          at = ((low & ~0xfff) + ((((ipaHigh << 5) & 0xfe0) | ((ipaLow >>> 27) & 0x18)) - flat2Low)) >>> 2;
          if ((low & 3) !== 3) {
            break fast;
          }
        }
        low = flat2[at] | 0;
        high2 = flat2[at + 1] | 0;
        if ((low & 3) === 3) {
          paBits |= high2 ^ flat2High;
          at = ((low & ~0xfff) + (((ipaLow >>> 18) & 0xff8) - flat2Low)) >>> 2;
          low = flat2[at] | 0;
          high2 = flat2[at + 1] | 0;
          if ((low & 3) === 3) {
            paBits |= high2 ^ flat2High;
            at = ((low & ~0xfff) + (((ipaLow >>> 9) & 0xff8) - flat2Low)) >>> 2;
            low = flat2[at] | 0;
            high2 = flat2[at + 1] | 0;
            page = low;
            bits2 = 12;
            if ((low & 2) === 0) {
              break fast;
            }
          } else {
            bits2 = 21;
            page = (low & ~0x1f_ffff) | (ipaLow & 0x1f_f000);
          }
        } else {
          bits2 = 30;
          page = (low & ~0x3fff_ffff) | (ipaLow & 0x3fff_f000);
        }
        if ((low & leafNeeds2) !== leafNeeds2) {
          break fast;
        }
        if (bits1 !== 0) {
          break;
        }
        paBits |= high2 ^ flatHigh;
        at = ((page & ~0xfff) + ((ipaLow & 0xff8) - flatLow)) >>> 2;
        entryLow = flat[at] | 0;
        entryHigh = flat[at + 1] | 0;
        ipaHigh = entryHigh & 0xffff;
        if ((entryLow & 3) === 3 && level !== 3) {
          tables1 |= entryHigh;
          ipaLow = (entryLow & ~0xfff) | ((rest >>> 20) & 0xff8);
          rest <<= 9;
          level = (level + 1) | 0;
        } else {
          bits1 = level === 3 ? 12 : level === 2 ? 21 : 30;
          if (
            (entryLow & this.leafNeeds1) !== this.leafNeeds1 ||
            level === 0 ||
            (level === 3 && (entryLow & 2) === 0)
          ) {
            break fast;
          }
          const offset = (1 << bits1) - 1;
          ipaLow = (entryLow & ~offset) | (iovaLow & offset);
        }
        at = (first2 + ((start2 === 0 ? entryHigh >>> 4 : (entryHigh << 5) | (ipaLow >>> 27)) & first2Mask)) >>> 2;
      }
      const permissions =
        permissions1[
          this.controls1 |
            (((tables1 & this.hierarchical1) >>> 23) & 0xf0) |
            ((entryHigh >>> 19) & 0xc) |
            ((entryLow >>> 6) & 3)
        ] & permissions2[this.controls2 | ((high2 >>> 19) & 0xc) | ((low >>> 6) & 3)];
      if (
        ((tables1 | entryHigh) & this.ipaBeyond) !== 0 ||
        (paBits & 0xffff) !== 0 ||
        (high2 & this.output2Beyond) !== 0 ||
        (required[access & 15] & ~permissions) !== 0
      ) {
        break fast;
      }
      this.outHigh = high2 & 0xffff;
      this.outLow = (page & ~0xfff) | (ipaLow & 0xfff);
      this.outPageBits = bits1 < bits2 ? bits1 : bits2;
      this.outPermissions = permissions;
      this.outLevel = level;
      this.outGlobal = (~entryLow >>> 11) & 1;
      return ok;
    }
    return super.walkNested(stage1, stage2, iovaHigh, iovaLow, access);
  }

  private memoryChanged(): boolean {
    const memory = this.memory;
    return (
      memory.flat !== this.preparedFlat ||
      memory.flatBase !== this.preparedBase ||
      memory.flatBytes !== this.preparedBytes
    );
  }

  private prepare(stage1: Tables | undefined, stage2: Tables | undefined): void {
    if (this.memoryChanged()) {
      this.prepareFlat();
    }
    this.prepared1 = stage1;
    this.prepared2 = stage2;
    const plain1 = stage1 !== undefined && this.prepareStage1(this.useStage1(stage1));
    const { flat, flatHigh, flatLow } = this;
    this.fast1 =
      plain1 &&
      holds(flat, flatHigh, flatLow, this.first1High, this.first1Low, this.first1Mask) &&
      (flatHigh & this.output1Beyond) === 0
        ? 1
        : 0;
    this.fast2 = stage2 !== undefined && this.prepareStage2(this.useStage2(stage2)) ? 1 : 0;
    // The nested loop knows stage-2 walks from levels 0 and 1; from level 2 come IPAs of at most 34 bits.
    this.ipaBeyond = (this.output1Beyond | this.input2Beyond) & 0xffff;
    this.fastNested =
      plain1 && this.fast2 === 1 && this.start2 <= 1 && (this.first1High & this.ipaBeyond) === 0 ? 1 : 0;
  }

  private prepareFlat(): void {
    const { flat, flatBase, flatBytes } = this.memory;
    this.preparedFlat = flat;
    this.preparedBase = flatBase;
    this.preparedBytes = flatBytes;
    // Of two parts with different high words the larger one is the fast one.
    const first = Math.min(flatBytes, FOUR_GIB - (flatBase % FOUR_GIB));
    const skip = first >= flatBytes - first ? 0 : first;
    this.flat = flat.subarray(skip / 4, (skip === 0 ? first : flatBytes) / 4);
    this.flatHigh = Math.floor((flatBase + skip) / FOUR_GIB) | 0;
    this.flatLow = (flatBase + skip) | 0;
  }

  private prepareStage1(config: StageConfig): boolean {
    this.start1 = config.startLevel;
    this.first1High = config.baseHigh;
    this.first1Low = config.baseLow;
    this.first1Mask = config.firstIndexMask << 3;
    this.input1High = ~config.inputBeyondHigh;
    this.output1Beyond = config.outputBeyondHigh & 0xffff;
    this.leafNeeds1 = 1 | config.accessFlag;
    this.hierarchical1 = config.hierarchicalMask;
    this.controls1 = config.stage1Controls;
    return isPlain(config);
  }

  private prepareStage2(config: StageConfig): boolean {
    this.start2 = config.startLevel;
    this.first2Mask = config.firstIndexMask << 3;
    this.input2Beyond = config.inputBeyondHigh;
    this.output2Beyond = config.outputBeyondHigh & 0xffff;
    // With S2PTW only Normal memory, of which MemAttr[2] tells the non-cacheable and write-back kinds.
    this.leafNeeds2 = 0x41 | config.accessFlag | (config.protectedTableWalk ? 0x10 : 0);
    this.controls2 = config.stage2Controls;
    const { baseHigh, baseLow } = config;
    this.flat2 = this.flat;
    this.flat2High = this.flatHigh;
    this.flat2Low = this.flatLow;
    if (!holds(this.flat, this.flatHigh, this.flatLow, baseHigh, baseLow, this.first2Mask)) {
      const window = this.memory.window?.(baseHigh, baseLow);
      if (window === undefined || !holds(window.words, window.high, window.low, baseHigh, baseLow, this.first2Mask)) {
        return false;
      }
      this.flat2 = window.words;
      this.flat2High = window.high;
      this.flat2Low = window.low;
    }
    this.first2 = (baseLow - this.flat2Low) | 0;
    // All that is read there, and stage 1's tables, are possible output addresses.
    return isPlain(config) && ((this.flat2High | this.flatHigh) & this.output2Beyond) === 0;
  }

  /** A stage-1 walk of 4-KiB granules that succeeds, or nothing. */
  private stage1of4k(iovaHigh: number, iovaLow: number, access: number): boolean {
    const first = (this.first1Low - this.flatLow) | 0;
    if (!this.single4k(this.flat, this.flatHigh, this.flatLow, this.start1, first, this.first1Mask, iovaHigh & this.input1High, iovaLow)) {
      return false;
    }
    const low = this.foundLow;
    const high = this.foundHigh;
    const permissions =
      permissions1[
        this.controls1 |
          (((this.foundHierarchical & this.hierarchical1) >>> 23) & 0xf0) |
          ((high >>> 19) & 0xc) |
          ((low >>> 6) & 3)
      ];
    if (
      (low & this.leafNeeds1) !== this.leafNeeds1 ||
      (high & this.output1Beyond) !== 0 ||
      (required[access & 15] & ~permissions) !== 0
    ) {
      return false;
    }
    this.succeed(iovaLow, permissions, (~low >>> 11) & 1);
    return true;
  }

  /** A stage-2 walk of 4-KiB granules that succeeds, or nothing. */
  private stage2of4k(ipaHigh: number, ipaLow: number, access: number): boolean {
    if (
      (ipaHigh & this.input2Beyond) !== 0 ||
      !this.single4k(this.flat2, this.flat2High, this.flat2Low, this.start2, this.first2, this.first2Mask, ipaHigh, ipaLow)
    ) {
      return false;
    }
    const low = this.foundLow;
    const high = this.foundHigh;
    const permissions = permissions2[this.controls2 | ((high >>> 19) & 0xc) | ((low >>> 6) & 3)];
    if (
      (low & this.leafNeeds2) !== this.leafNeeds2 ||
      (high & this.output2Beyond) !== 0 ||
      (required[access & 15] & ~permissions) !== 0
    ) {
      return false;
    }
    this.succeed(ipaLow, permissions, 0);
    return true;
  }

  private succeed(inputLow: number, permissions: number, global: number): void {
    const bits = this.foundBits;
    const offset = (1 << bits) - 1;
    this.outHigh = this.foundHigh & 0xffff;
    this.outLow = (this.foundLow & ~offset) | (inputLow & offset);
    this.outPageBits = bits;
    this.outPermissions = permissions;
    this.outLevel = bits === 12 ? 3 : bits === 21 ? 2 : 1;
    this.outGlobal = global;
  }

  /**
   * From a first table (bytes from the start of `flat`) to the leaf of an address within the input
   * range: found*, its valid bit and attributes not checked. False where there is none, or not this way.
   */
  private single4k(
    flat: Int32Array,
    flatHigh: number,
    flatLow: number,
    start: number,
    first: number,
    firstMask: number,
    high: number,
    low: number,
  ): boolean {
    let at: number;
    let entryLow: number;
    let entryHigh: number;
    let paBits = 0;
    let hierarchical = 0;
    let bits = 12;
    if (start === 0) {
      at = (first + ((high >>> 4) & firstMask)) >>> 2;
      entryLow = flat[at] | 0;
      entryHigh = flat[at + 1] | 0;
      paBits = entryHigh ^ flatHigh;
      hierarchical = entryHigh;
      at = ((entryLow & ~0xfff) + ((((high << 5) & 0xfe0) | ((low >>> 27) & 0x18)) - flatLow)) >>> 2;
      if ((entryLow & 3) !== 3) {
        return false;
      }
    } else if (start === 1) {
      at = (first + (((high << 5) | (low >>> 27)) & firstMask)) >>> 2;
    } else {
      at = (first + (((high << 14) | (low >>> 18)) & firstMask)) >>> 2;
    }
    entryLow = flat[at] | 0;
    entryHigh = flat[at + 1] | 0;
    if (start <= 1) {
      if ((entryLow & 3) === 3) {
        paBits |= entryHigh ^ flatHigh;
        hierarchical |= entryHigh;
        at = ((entryLow & ~0xfff) + (((low >>> 18) & 0xff8) - flatLow)) >>> 2;
        entryLow = flat[at] | 0;
        entryHigh = flat[at + 1] | 0;
      } else {
        bits = 30;
      }
    }
    if (bits === 12) {
      if ((entryLow & 3) === 3) {
        paBits |= entryHigh ^ flatHigh;
        hierarchical |= entryHigh;
        at = ((entryLow & ~0xfff) + (((low >>> 9) & 0xff8) - flatLow)) >>> 2;
        entryLow = flat[at] | 0;
        entryHigh = flat[at + 1] | 0;
        if ((entryLow & 2) === 0) {
          return false;
        }
      } else {
        bits = 21;
      }
    }
    this.foundLow = entryLow;
    this.foundHigh = entryHigh;
    this.foundBits = bits;
    this.foundHierarchical = hierarchical;
    return (paBits & 0xffff) === 0;
  }
}

/** Whether words that begin at an address hold a first table (`mask` is that of its index, times 8). */
function holds(words: Int32Array, high: number, low: number, baseHigh: number, baseLow: number, mask: number): boolean {
  const offset = ((baseLow - low) | 0) >>> 0;
  return baseHigh === high && offset + mask + 8 <= words.length * 4;
}

/** Whether the fast path knows the shape: 4-KiB granules, a walk from level 0 to 2, no limit below 4 GiB. */
function isPlain(config: StageConfig): boolean {
  return (
    config.granuleBits === 12 &&
    config.entryPermissions === undefined &&
    config.startLevel <= 2 &&
    !config.baseFaults &&
    config.inputBeyondLow === 0 &&
    config.outputBeyondLow === 0
  );
}
