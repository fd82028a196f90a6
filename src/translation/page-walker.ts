import type { WordMemory } from "../memory/index.js";
import { FastStage, lastOffset, NO_WORDS, PAGE_ONES, TABLE_ONES, viewOf } from "./fast-stage.js";
import { LoopWalker } from "./loop-walker.js";
import { ATTRIBUTE_SHIFT, PERMISSIONS, REQUIRED_PERMISSIONS } from "./permissions.js";
import { WALK_OK, type Tables } from "./types.js";

const NO_STAGE = new FastStage();
const FOUR_GIB = 0x1_0000_0000;

/** The tables again, as constants of this module: an import costs two more loads and a check at each use. */
const required = REQUIRED_PERMISSIONS;
const permitted = PERMISSIONS;
const attributeShift: number = ATTRIBUTE_SHIFT;
const ok = WALK_OK;
const tableOnes: number = TABLE_ONES;
const pageOnes: number = PAGE_ONES;

/**
 * The walker to use. What is common goes fast: 4-KiB granules, tables in the flat part of memory, levels
 * unrolled, addresses in two 32-bit words. The fast path decides nothing: at whatever is not a plain
 * success (a fault, a table elsewhere, another granule, a fifth level, an accessed or dirty bit to be set) it
 * gives up, and the loop walks again from the start and says what it is.
 *
 * How it is written is measured (docs/speed.md): a descriptor's low word alone leads to the next one, in
 * as few dependent steps as C needs, since a flat part within one 4 GiB leaves the high words nothing to
 * decide; they are collected and checked at the end of the walk. Words are read by their byte offset in a
 * DataView, which needs no shift. Sums are cut to 32 bits by shifts, so that no addition needs an overflow
 * check. What a descriptor has to be is a mask, so that all formats go the same way.
 *
 * Another processor may be writing the tables. A leaf's low word is read again behind its high one, so that both are
 * of one value: as soon as it is known for a leaf, while its offset is at hand. Of what leads to another descriptor
 * the low word alone decides.
 */
export class PageWalker extends LoopWalker {
  /** The memory's flat part when the fields below were prepared, and the tables that they are of. */
  private preparedFlat: Int32Array | undefined;
  private preparedBase = 0;
  private preparedBytes = 0;
  private prepared1: Tables | undefined;
  private prepared2: Tables | undefined;

  /** The flat part, cut to what shares its address's high word; the first word's address. */
  private flat: Int32Array = NO_WORDS;
  private flatView = viewOf(NO_WORDS);
  /** Offset of its last 64-bit word, in bytes, as a signed word. */
  private flatLast = 0;
  private flatHigh = 0;
  private flatLow = 0;

  /** Stage 1's descriptors are read from the flat part, stage 2's from there or from a window of the memory. */
  private fast1 = NO_STAGE;
  private fast2 = NO_STAGE;
  /** Those of tables in use, until the flat part changes: one walker serves many devices by turns. */
  private known1 = new WeakMap<Tables, FastStage>();
  private known2 = new WeakMap<Tables, FastStage>();
  private fastNested = 0;
  /** High bits that no IPA of a nested walk has, beyond stage 1's output or stage 2's input; the same and what else stage 1's tables do not have. */
  private ipaBeyond = 0;
  private tables1Beyond = 0;
  /** High bits in which stage 2's tables, and its leaves for stage 1's tables, do not differ from where their words are. */
  private tables2Beyond = 0;

  constructor(memory: WordMemory) {
    super(memory);
  }

  override walkStage1(tables: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    if (tables !== this.prepared1 || this.memoryChanged()) {
      this.prepare(tables, this.prepared2);
    }
    const stage = this.fast1;
    const sign = iovaHigh & stage.canonical;
    if (
      stage.ready === 1 &&
      (sign === 0 || sign === stage.canonical) &&
      this.single4k(stage, iovaHigh, iovaLow, access)
    ) {
      return ok;
    }
    return super.walkStage1(tables, iovaHigh, iovaLow, access);
  }

  override walkStage2(tables: Tables, ipaHigh: number, ipaLow: number, access: number): number {
    if (tables !== this.prepared2 || this.memoryChanged()) {
      this.prepare(this.prepared1, tables);
    }
    const stage = this.fast2;
    if (stage.ready === 1 && (ipaHigh & stage.inputBeyond) === 0 && this.single4k(stage, ipaHigh, ipaLow, access)) {
      return ok;
    }
    return super.walkStage2(tables, ipaHigh, ipaLow, access);
  }

  /**
   * One round of the loop takes an IPA through stage 2; the rounds but the last read a stage-1 descriptor
   * there. Checks that need not stop a walk at once are collected (`tables1`, `tables2`) and made at its
   * end: until then it only reads, and only in the flat part.
   */
  override walkNested(stage1: Tables, stage2: Tables, iovaHigh: number, iovaLow: number, access: number): number {
    if (stage1 !== this.prepared1 || stage2 !== this.prepared2 || this.memoryChanged()) {
      this.prepare(stage1, stage2);
    }
    fast: if (this.fastNested === 1) {
      const s1 = this.fast1;
      const s2 = this.fast2;
      const view = this.flatView;
      const last = this.flatLast >>> 0;
      const flatHigh = this.flatHigh | 0;
      const flatLow = this.flatLow | 0;
      const view2 = s2.view;
      const last2 = s2.last >>> 0;
      const flat2High = s2.high | 0;
      const flat2Low = s2.low | 0;
      const start2 = s2.start | 0;
      const first2 = s2.first | 0;
      const first2Mask = s2.firstMask | 0;
      const tableMask2 = s2.tableMask | 0;
      const pageMask2 = s2.pageMask | 0;
      const sign = iovaHigh & s1.canonical;
      if (sign !== 0 && sign !== s1.canonical) {
        break fast;
      }
      let level = s1.start;
      let ipaHigh = s1.baseHigh;
      let ipaLow = s1.baseLow;
      // Of the input the bits that the first index has, and those below it from bit 31 down: no others are looked at.
      let rest: number;
      if (level === 0) {
        ipaLow |= (iovaHigh >>> 4) & s1.firstMask;
        rest = (iovaHigh << 25) | (iovaLow >>> 7);
      } else if (level === 1) {
        ipaLow |= ((iovaHigh << 5) | (iovaLow >>> 27)) & s1.firstMask;
        rest = iovaLow << 2;
      } else {
        ipaLow |= ((iovaHigh << 14) | (iovaLow >>> 18)) & s1.firstMask;
        rest = iovaLow << 11;
      }
      let tables1 = 0;
      let tables2 = 0;
      let entryLow = 0;
      let bits1 = 0;
      let bits2: number;
      let low: number;
      let high2: number;
      let page: number;
      let at =
        (first2 + ((start2 === 0 ? ipaHigh >>> 4 : (ipaHigh << 5) | (ipaLow >>> 27)) & first2Mask)) >>> 0;
      for (;;) {
        if (start2 === 0) {
          if (at > last2) {
            break fast;
          }
          low = view2.getInt32(at, true);
          high2 = view2.getInt32(at + 4, true);
          tables2 |= high2 ^ flat2High;
          at = ((low & ~0xfff) + ((((ipaHigh << 5) & 0xfe0) | ((ipaLow >>> 27) & 0x18)) - flat2Low)) >>> 0;
          if (((low ^ tableOnes) & tableMask2) !== 0) {
            break fast;
          }
        }
        if (at > last2) {
          break fast;
        }
        low = view2.getInt32(at, true);
        high2 = view2.getInt32(at + 4, true);
        if (((low ^ tableOnes) & tableMask2) === 0) {
          tables2 |= high2 ^ flat2High;
          at = ((low & ~0xfff) + (((ipaLow >>> 18) & 0xff8) - flat2Low)) >>> 0;
          if (at > last2) {
            break fast;
          }
          low = view2.getInt32(at, true);
          high2 = view2.getInt32(at + 4, true);
          if (((low ^ tableOnes) & tableMask2) === 0) {
            tables2 |= high2 ^ flat2High;
            at = ((low & ~0xfff) + (((ipaLow >>> 9) & 0xff8) - flat2Low)) >>> 0;
            if (at > last2) {
              break fast;
            }
            low = view2.getInt32(at, true);
            high2 = view2.getInt32(at + 4, true);
            page = low;
            bits2 = 12;
            if (((low ^ pageOnes) & pageMask2) !== 0) {
              break fast;
            }
          } else {
            bits2 = 21;
            page = (low & ~0x1f_ffff) | (ipaLow & 0x1f_f000);
            if ((low & s2.largeMask) !== s2.largeValue) {
              break fast;
            }
          }
        } else {
          bits2 = 30;
          page = (low & ~0x3fff_ffff) | (ipaLow & 0x3fff_f000);
          if ((low & s2.hugeMask) !== s2.hugeValue) {
            break fast;
          }
        }
        if (bits1 !== 0) {
          if (view2.getInt32(at, true) !== low) {
            break fast;
          }
          break;
        }
        tables2 |= high2 ^ flatHigh;
        at = ((page & ~0xfff) + ((ipaLow & 0xff8) - flatLow)) >>> 0;
        if (at > last) {
          break fast;
        }
        entryLow = view.getInt32(at, true);
        ipaHigh = view.getInt32(at + 4, true);
        if (((entryLow ^ tableOnes) & s1.tableMask) === 0 && level !== 3) {
          tables1 |= ipaHigh;
          ipaLow = (entryLow & ~0xfff) | ((rest >>> 20) & 0xff8);
          rest <<= 9;
          level = (level + 1) | 0;
        } else if (level === 3) {
          bits1 = 12;
          ipaLow = (entryLow & ~0xfff) | (iovaLow & 0xfff);
          if (((entryLow ^ pageOnes) & s1.pageMask) !== 0 || view.getInt32(at, true) !== entryLow) {
            break fast;
          }
        } else if (level === 2) {
          bits1 = 21;
          ipaLow = (entryLow & ~0x1f_ffff) | (iovaLow & 0x1f_ffff);
          if ((entryLow & s1.largeMask) !== s1.largeValue || view.getInt32(at, true) !== entryLow) {
            break fast;
          }
        } else {
          bits1 = 30;
          ipaLow = (entryLow & ~0x3fff_ffff) | (iovaLow & 0x3fff_ffff);
          if (level === 0 || (entryLow & s1.hugeMask) !== s1.hugeValue || view.getInt32(at, true) !== entryLow) {
            break fast;
          }
        }
        at = (first2 + ((start2 === 0 ? ipaHigh >>> 4 : (ipaHigh << 5) | (ipaLow >>> 27)) & first2Mask)) >>> 0;
      }
      const clean = (~entryLow & s1.dirty) | (~low & s2.dirty);
      const permissions =
        permitted[
          s1.controls |
            (((tables1 & s1.hierarchical) | (ipaHigh & s1.highMask)) >>> attributeShift) |
            (entryLow & s1.lowMask)
        ] & permitted[s2.controls | ((high2 & s2.highMask) >>> attributeShift) | (low & s2.lowMask)];
      if (
        (tables1 & this.tables1Beyond) !== 0 ||
        (ipaHigh & this.ipaBeyond) !== 0 ||
        (tables2 & this.tables2Beyond) !== 0 ||
        (high2 & s2.leafBeyond) !== 0 ||
        (required[access & 15] & ~permissions) !== 0 ||
        (clean !== 0 && (access & 2) !== 0)
      ) {
        break fast;
      }
      this.outHigh = high2 & s2.address;
      this.outLow = (page & ~0xfff) | (ipaLow & 0xfff);
      this.outPageBits = bits1 < bits2 ? bits1 : bits2;
      this.outLeafBits = bits1;
      this.outPermissions = permissions;
      this.outLevel = level;
      this.outGlobal = (~entryLow >>> 11) & s1.globalBit;
      this.outClean = clean;
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
    const fast1 = stage1 === undefined ? NO_STAGE : (this.known1.get(stage1) ?? this.learn1(stage1));
    const fast2 = stage2 === undefined ? NO_STAGE : (this.known2.get(stage2) ?? this.learn2(stage2));
    this.fast1 = fast1;
    this.fast2 = fast2;
    this.ipaBeyond = (fast1.leafBeyond | fast2.inputBeyond) & fast1.address;
    this.tables1Beyond = this.ipaBeyond | fast1.tableBeyond;
    this.tables2Beyond = fast2.address | fast2.tableBeyond;
    // The nested loop knows stage-2 walks from levels 0 and 1; from level 2 come IPAs of at most 34 bits.
    this.fastNested =
      fast1.plain === 1 &&
      fast2.ready === 1 &&
      fast2.start <= 1 &&
      (fast1.baseHigh & this.ipaBeyond) === 0 &&
      (this.flatHigh & fast2.leafBeyond) === 0
        ? 1
        : 0;
  }

  /** Stage-1 tables: in the flat part, or in a nested walk somewhere under stage 2. */
  private learn1(tables: Tables): FastStage {
    const stage = new FastStage(this.useStage1(tables));
    stage.use(this.flat, this.flatView, this.flatHigh, this.flatLow);
    this.known1.set(tables, stage);
    return stage;
  }

  /** Stage-2 tables: in the flat part or in a window, which may come yet. */
  private learn2(tables: Tables): FastStage {
    const stage = new FastStage(this.useStage2(tables));
    if (!stage.use(this.flat, this.flatView, this.flatHigh, this.flatLow)) {
      stage.useWindow(this.memory);
    }
    if (stage.ready === stage.plain) {
      this.known2.set(tables, stage);
    }
    return stage;
  }

  private prepareFlat(): void {
    this.known1 = new WeakMap();
    this.known2 = new WeakMap();
    const { flat, flatBase, flatBytes } = this.memory;
    this.preparedFlat = flat;
    this.preparedBase = flatBase;
    this.preparedBytes = flatBytes;
    // Of two parts with different high words the larger one is the fast one.
    const first = Math.min(flatBytes, FOUR_GIB - (flatBase % FOUR_GIB));
    const skip = first >= flatBytes - first ? 0 : first;
    this.flat = flatBytes === 0 ? NO_WORDS : flat.subarray(skip / 4, (skip === 0 ? first : flatBytes) / 4);
    this.flatView = viewOf(this.flat);
    this.flatLast = lastOffset(this.flat);
    this.flatHigh = Math.floor((flatBase + skip) / FOUR_GIB) | 0;
    this.flatLow = (flatBase + skip) | 0;
  }

  /** A walk of one stage in 4-KiB granules, of an address within the input range, that succeeds; or nothing. */
  private single4k(stage: FastStage, high: number, low: number, access: number): boolean {
    const view = stage.view;
    const last = stage.last >>> 0;
    const wordsHigh = stage.high;
    const wordsLow = stage.low;
    const tableMask = stage.tableMask;
    const start = stage.start;
    const first = stage.first;
    const firstMask = stage.firstMask;
    let at: number;
    let entryLow: number;
    let entryHigh: number;
    let paths = 0;
    let tables = 0;
    let bits = 12;
    if (start === 0) {
      at = (first + ((high >>> 4) & firstMask)) >>> 0;
      if (at > last) {
        return false;
      }
      entryLow = view.getInt32(at, true);
      entryHigh = view.getInt32(at + 4, true);
      paths = entryHigh ^ wordsHigh;
      tables = entryHigh;
      at = ((entryLow & ~0xfff) + ((((high << 5) & 0xfe0) | ((low >>> 27) & 0x18)) - wordsLow)) >>> 0;
      if (((entryLow ^ tableOnes) & tableMask) !== 0) {
        return false;
      }
    } else if (start === 1) {
      at = (first + (((high << 5) | (low >>> 27)) & firstMask)) >>> 0;
    } else {
      at = (first + (((high << 14) | (low >>> 18)) & firstMask)) >>> 0;
    }
    if (at > last) {
      return false;
    }
    entryLow = view.getInt32(at, true);
    entryHigh = view.getInt32(at + 4, true);
    if (start <= 1) {
      if (((entryLow ^ tableOnes) & tableMask) === 0) {
        paths |= entryHigh ^ wordsHigh;
        tables |= entryHigh;
        at = ((entryLow & ~0xfff) + (((low >>> 18) & 0xff8) - wordsLow)) >>> 0;
        if (at > last) {
          return false;
        }
        entryLow = view.getInt32(at, true);
        entryHigh = view.getInt32(at + 4, true);
      } else {
        bits = 30;
        if ((entryLow & stage.hugeMask) !== stage.hugeValue) {
          return false;
        }
      }
    }
    if (bits === 12) {
      if (((entryLow ^ tableOnes) & tableMask) === 0) {
        paths |= entryHigh ^ wordsHigh;
        tables |= entryHigh;
        at = ((entryLow & ~0xfff) + (((low >>> 9) & 0xff8) - wordsLow)) >>> 0;
        if (at > last) {
          return false;
        }
        entryLow = view.getInt32(at, true);
        entryHigh = view.getInt32(at + 4, true);
        if (((entryLow ^ pageOnes) & stage.pageMask) !== 0) {
          return false;
        }
      } else {
        bits = 21;
        if ((entryLow & stage.largeMask) !== stage.largeValue) {
          return false;
        }
      }
    }
    if (view.getInt32(at, true) !== entryLow) {
      return false;
    }
    const clean = ~entryLow & stage.dirty;
    const permissions =
      permitted[
        stage.controls |
          (((tables & stage.hierarchical) | (entryHigh & stage.highMask)) >>> attributeShift) |
          (entryLow & stage.lowMask)
      ];
    if (
      (paths & stage.address) !== 0 ||
      (tables & stage.tableBeyond) !== 0 ||
      (entryHigh & stage.leafBeyond) !== 0 ||
      (required[access & 15] & ~permissions) !== 0 ||
      (clean !== 0 && (access & 2) !== 0)
    ) {
      return false;
    }
    const offset = (1 << bits) - 1;
    this.outHigh = entryHigh & stage.address;
    this.outLow = (entryLow & ~offset) | (low & offset);
    this.outPageBits = bits;
    this.outLeafBits = bits;
    this.outPermissions = permissions;
    this.outLevel = bits === 12 ? 3 : bits === 21 ? 2 : 1;
    this.outGlobal = (~entryLow >>> 11) & stage.globalBit;
    this.outClean = clean;
    return true;
  }
}
