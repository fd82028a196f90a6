import { HostError } from "../../../iommufd/index.js";
import { highWord, lowWord } from "../../../support/index.js";
import { levelShift } from "../../../translation/index.js";
import type { HostMemory } from "./hardware-port.js";

const GRANULE_BITS = 12;
const INDEX_BITS = 9;
/** Bits 1:0 of a descriptor (Arm DDI 0487 D8.3.1). */
const VALID = 1;
const TABLE_OR_PAGE = 3;

export interface LeafAttributes {
  /** Descriptor bits 11:2. */
  readonly low: number;
  /** Descriptor bits 63:48, as a high word. */
  readonly high: number;
}

/** What is done with a leaf that `eachLeaf` finds: its address in the tables, and what it maps. */
export type LeafVisitor = (descriptor: number, iova: number, bytes: number, low: number, high: number) => void;

/**
 * A VMSAv8-64 table of 4 KiB granules in the host's physical memory (Arm DDI 0487 D8.2, D8.3), of either
 * stage: what tells the stages apart is the leaves' attributes. Ranges are multiples of 4096 bytes, below
 * 2^inputBits; mapping over what is mapped is the caller's mistake.
 *
 * Tables that a call to `unmap` has emptied are out of the tree at once, and are given back by
 * `freeRetired`: between the two the caller invalidates the hardware's caches.
 */
export class PageTable {
  readonly startLevel: number;
  /** log2 bytes of the first table; concatenated tables count as one. */
  readonly rootBits: number;
  /** HPA of the first table. */
  readonly root: number;
  /** Bytes of all tables, the first one included. */
  tableBytes: number;
  private readonly retired: number[] = [];
  /** Where the last call to `map` has come to. */
  private filledTo = 0;

  /**
   * @param inputBits bits of the addresses it maps, 25 to 48
   * @param startLevel 0 or 1; with more than 512 entries the first table is concatenated (stage 2 only)
   */
  constructor(
    private readonly memory: HostMemory,
    readonly inputBits: number,
    startLevel: number,
  ) {
    this.startLevel = startLevel;
    this.rootBits = Math.max(6, inputBits - levelShift(GRANULE_BITS, startLevel) + 3);
    this.root = memory.allocatePage(this.rootBits);
    this.tableBytes = 2 ** this.rootBits;
  }

  /**
   * Maps [iova, iova + length) to [hpa, ...). Blocks where both sides are aligned and `blocks` is set,
   * pages elsewhere. Throws HostError ENOMEM (allocatePage's) or EEXIST (something is mapped there), with
   * nothing of the range mapped by this call.
   */
  map(iova: number, hpa: number, length: number, attributes: LeafAttributes, blocks: boolean): void {
    this.filledTo = iova;
    try {
      this.fill(this.root, this.startLevel, iova, iova + length, hpa - iova, attributes, blocks);
    } catch (error) {
      this.unmap(iova, this.filledTo - iova);
      this.prune(iova, length);
      this.freeRetired();
      throw error;
    }
  }

  unmap(iova: number, length: number): void {
    this.empty(this.root, this.startLevel, iova, iova + length);
  }

  /** Takes empty tables on the way to a range out of the tree: a mapping that failed has left them. */
  private prune(iova: number, length: number): void {
    this.empty(this.root, this.startLevel, iova, iova + length, false);
  }

  /** Gives back the tables that `unmap` took out of the tree. */
  freeRetired(): void {
    for (const table of this.retired) {
      this.memory.freePage(table, GRANULE_BITS);
      this.tableBytes -= 1 << GRANULE_BITS;
    }
    this.retired.length = 0;
  }

  /** Calls `visit` with every leaf that overlaps the range, in order. */
  eachLeaf(iova: number, length: number, visit: LeafVisitor): void {
    this.visit(this.root, this.startLevel, iova, iova + length, visit);
  }

  /** Stores a leaf's new descriptor. */
  rewrite(descriptor: number, low: number, high: number): void {
    this.store(descriptor, high, low);
  }

  /** Gives back every table; nothing may be mapped to hardware any more. */
  release(): void {
    this.unmap(0, 2 ** this.inputBits);
    this.freeRetired();
    this.memory.freePage(this.root, this.rootBits);
    this.tableBytes = 0;
  }

  private fill(
    table: number,
    level: number,
    start: number,
    end: number,
    toPhysical: number,
    attributes: LeafAttributes,
    blocks: boolean,
  ): void {
    const size = 2 ** levelShift(GRANULE_BITS, level);
    for (let iova = start; iova < end; ) {
      const entry = this.entry(table, level, iova, size);
      const next = Math.min(end, (Math.floor(iova / size) + 1) * size);
      const hpa = iova + toPhysical;
      const isBlock = blocks && level >= 1 && next - iova === size && hpa % size === 0;
      if (level === 3 || isBlock) {
        const kind = level === 3 ? TABLE_OR_PAGE : VALID;
        this.requireFree(entry, iova);
        this.store(entry, highWord(hpa) | attributes.high, lowWord(hpa) | attributes.low | kind);
      } else {
        this.fill(this.child(entry, level, iova), level + 1, iova, next, toPhysical, attributes, blocks);
      }
      iova = next;
      this.filledTo = next;
    }
  }

  private requireFree(entry: number, iova: number): void {
    const words = this.memory.words;
    words.load64(highWord(entry), lowWord(entry));
    if ((words.loadedLow & VALID) !== 0) {
      throw new HostError("page table", "EEXIST", `0x${iova.toString(16)} is mapped`);
    }
  }

  /** The table that a descriptor points to, made where there is none. */
  private child(entry: number, level: number, iova: number): number {
    const words = this.memory.words;
    words.load64(highWord(entry), lowWord(entry));
    if ((words.loadedLow & VALID) !== 0) {
      if (level === 3 || (words.loadedLow & TABLE_OR_PAGE) !== TABLE_OR_PAGE) {
        throw new HostError("page table", "EEXIST", `0x${iova.toString(16)} is mapped`);
      }
      return tableAddress(words.loadedHigh, words.loadedLow);
    }
    const table = this.memory.allocatePage(GRANULE_BITS);
    this.tableBytes += 1 << GRANULE_BITS;
    this.store(entry, highWord(table), lowWord(table) | TABLE_OR_PAGE);
    return table;
  }

  /** Clears the leaves of a range (or leaves them), and tables that have none left. */
  private empty(table: number, level: number, start: number, end: number, leaves = true): void {
    const words = this.memory.words;
    const size = 2 ** levelShift(GRANULE_BITS, level);
    for (let iova = start; iova < end; ) {
      const entry = this.entry(table, level, iova, size);
      const next = Math.min(end, (Math.floor(iova / size) + 1) * size);
      words.load64(highWord(entry), lowWord(entry));
      const low = words.loadedLow;
      if ((low & VALID) !== 0) {
        if (level < 3 && (low & TABLE_OR_PAGE) === TABLE_OR_PAGE) {
          const child = tableAddress(words.loadedHigh, low);
          this.empty(child, level + 1, iova, next, leaves);
          if (this.isEmpty(child)) {
            this.store(entry, 0, 0);
            this.retired.push(child);
          }
        } else if (leaves) {
          this.store(entry, 0, 0);
        }
      }
      iova = next;
    }
  }

  private visit(table: number, level: number, start: number, end: number, visit: LeafVisitor): void {
    const words = this.memory.words;
    const size = 2 ** levelShift(GRANULE_BITS, level);
    for (let iova = start; iova < end; ) {
      const entry = this.entry(table, level, iova, size);
      const base = Math.floor(iova / size) * size;
      const next = Math.min(end, base + size);
      words.load64(highWord(entry), lowWord(entry));
      const low = words.loadedLow;
      const high = words.loadedHigh;
      if ((low & VALID) !== 0) {
        if (level < 3 && (low & TABLE_OR_PAGE) === TABLE_OR_PAGE) {
          this.visit(tableAddress(high, low), level + 1, iova, next, visit);
        } else {
          visit(entry, base, size, low, high);
        }
      }
      iova = next;
    }
  }

  private isEmpty(table: number): boolean {
    const words = this.memory.words;
    const high = highWord(table);
    const low = lowWord(table);
    for (let offset = 0; offset < 1 << GRANULE_BITS; offset += 8) {
      words.load64(high, low + offset);
      if ((words.loadedLow & VALID) !== 0) {
        return false;
      }
    }
    return true;
  }

  /** Address of the descriptor for `iova` in a table of `level`; only the first table has more than 512. */
  private entry(table: number, level: number, iova: number, size: number): number {
    const index = Math.floor(iova / size);
    return table + (level === this.startLevel ? index : index % (1 << INDEX_BITS)) * 8;
  }

  private store(address: number, high: number, low: number): void {
    this.memory.words.store64(highWord(address), lowWord(address), high, low);
  }
}

/** Bits 47:12 of a table descriptor. */
function tableAddress(high: number, low: number): number {
  return (high & 0xffff) * 0x1_0000_0000 + ((low & ~0xfff) >>> 0);
}
