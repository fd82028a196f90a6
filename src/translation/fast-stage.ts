import type { WordMemory } from "../memory/index.js";
import { LEVEL_OFFSET, type StageConfig } from "./stage-config.js";

/** In place of words that are not there: one descriptor that is no good in any format. */
export const NO_WORDS = new Int32Array(2);

/** The same bytes to be read by offset; an offset beyond `lastOffset` must not be. */
export function viewOf(words: Int32Array): DataView {
  return new DataView(words.buffer, words.byteOffset, words.byteLength);
}

const NO_VIEW = viewOf(NO_WORDS);

/** Offset of the last 64-bit word, in bytes, as a signed word. */
export function lastOffset(words: Int32Array): number {
  return (words.byteLength - 8) | 0;
}

/**
 * Bits that are ones in a good table and in a good page, where a format looks at them; the others that it looks at
 * are zeros. No two formats contradict each other, so that a check is `(low ^ ONES) & mask` with one variable.
 */
export const TABLE_ONES = 0x527;
export const PAGE_ONES = 0x573;

/**
 * One stage's tables as the fast path reads them: where their words are, and for each kind of descriptor a mask of
 * what one without anything to decide has. Small integers only.
 */
export class FastStage {
  /** Whether the fast path knows the shape, and also has the words: 1 or 0 (cheaper to test than a boolean). */
  plain = 0;
  ready = 0;

  /** Where the descriptors are, and the offset of the last one; address of the first word. They all share the address's high word. */
  view = NO_VIEW;
  last = 0;
  high = 0;
  low = 0;

  /** Level and base of the first table, its index mask times 8; the base in bytes from the first word. */
  start = 0;
  baseHigh = 0;
  baseLow = 0;
  first = 0;
  firstMask = 0;

  /** High-word bits of an input address that have to be zero, or of an x86 first stage all equal. */
  inputBeyond = 0;
  canonical = 0;

  /** Low words: a table to follow is TABLE_ONES under the mask, a page PAGE_ONES, a 2-MiB and a 1-GiB leaf the value. */
  tableMask = 0;
  pageMask = 0;
  largeMask = 0;
  largeValue = 0;
  hugeMask = 0;
  hugeValue = 0;
  /** What the leaf of a write needs besides. */
  dirty = 0;

  /** High words: bits of the address; bits that tables, and leaves, do not have. */
  address = 0;
  tableBeyond = 0;
  leafBeyond = 0;

  /** How PERMISSIONS is indexed (see StageConfig). */
  controls = 0;
  hierarchical = 0;
  highMask = 0;
  lowMask = 0;
  globalBit = 0;

  /** Takes the format and shape; the words are chosen afterwards. Without a configuration it is for nothing. */
  constructor(config?: StageConfig) {
    if (config !== undefined) {
      this.takeConfig(config);
    }
  }

  private takeConfig(config: StageConfig): void {
    this.start = config.startLevel;
    this.baseHigh = config.baseHigh;
    this.baseLow = config.baseLow;
    this.firstMask = config.firstIndexMask << 3;
    this.inputBeyond = config.inputBeyondHigh;
    this.canonical = config.canonicalHigh;
    const table = neededOfTables(config);
    const tables = config.levels[2 + LEVEL_OFFSET];
    this.tableMask = tables.tableMask | tables.tableReserved | table;
    const tableValue = tables.tableValue | table;
    const leaf = neededOfLeaves(config);
    const [pageMask, pageValue] = leafAt(config, 3, leaf);
    this.pageMask = pageMask;
    [this.largeMask, this.largeValue] = leafAt(config, 2, leaf);
    [this.hugeMask, this.hugeValue] = leafAt(config, 1, leaf);
    this.dirty = config.dirtyBit;
    this.address = config.addressHigh;
    // An execute-disable bit of a table would take part in the permissions, of which only the leaf's are looked at.
    this.tableBeyond = config.tableReservedHigh | (config.permissionsPerEntry ? config.highMask : 0);
    this.leafBeyond = config.leafReservedHigh;
    this.controls = config.controls;
    this.hierarchical = config.hierarchicalMask;
    this.highMask = config.highMask;
    this.lowMask = config.lowMask;
    this.globalBit = config.globalBit;
    // 4-KiB granules, a walk from level 0 to 2, no limit below 4 GiB.
    this.plain =
      config.granuleBits === 12 &&
      ((tableValue ^ TABLE_ONES) & this.tableMask) === 0 &&
      ((pageValue ^ PAGE_ONES) & pageMask) === 0 &&
      config.startLevel >= 0 &&
      config.startLevel <= 2 &&
      !config.baseFaults &&
      config.inputBeyondLow === 0 &&
      config.outputBeyondLow === 0
        ? 1
        : 0;
  }

  /** Takes words of which the first is at an address, if they hold the first table. Returns whether they do. */
  use(words: Int32Array, view: DataView, high: number, low: number): boolean {
    const offset = ((this.baseLow - low) | 0) >>> 0;
    if (this.baseHigh !== high || offset + this.firstMask + 8 > words.length * 4) {
      return false;
    }
    this.view = view;
    this.last = lastOffset(words);
    this.high = high;
    this.low = low;
    this.first = (this.baseLow - low) | 0;
    // Where their addresses are none that tables may have, the fast path is not for them.
    this.ready = (high & this.tableBeyond) === 0 ? this.plain : 0;
    return true;
  }

  /** Takes the words of a memory's window that hold the first table, where it has one. */
  useWindow(memory: WordMemory): void {
    const window = memory.window?.(this.baseHigh, this.baseLow);
    if (window !== undefined) {
      this.use(window.words, viewOf(window.words), window.high, window.low);
    }
  }
}

/** What a table descriptor's low word has to have: of x86 tables the permissions, which then are the leaf's. */
function neededOfTables(config: StageConfig): number {
  const permissions = config.permissionsPerEntry ? config.lowMask : 0;
  return permissions | config.presentBit | config.accessedBits;
}

/** What a leaf's low word has to have; stage 2's has to be readable, as most of them are tables of stage 1. */
function neededOfLeaves(config: StageConfig): number {
  const readable = config.stage === 2 ? config.lowMask & -config.lowMask : 0;
  // With S2PTW only Normal memory, of which MemAttr[2] tells the non-cacheable and write-back kinds.
  const memory = config.protectedTableWalk ? 0x10 : 0;
  return readable | memory | config.presentBit | config.accessFlag | config.accessedBits;
}

/** Mask and value of a leaf at a level; a value outside of the mask where the level has none. */
function leafAt(config: StageConfig, level: number, needed: number): readonly [number, number] {
  const { leafMask, leafValue, leafReserved } = config.levels[level + LEVEL_OFFSET];
  return leafValue < 0 ? [0, -1] : [leafMask | leafReserved | needed, leafValue | needed];
}
