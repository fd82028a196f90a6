import { HostError } from "../../../iommufd/index.js";
import { highWord, lowWord } from "../../../support/index.js";
import { levelShift } from "../../../translation/index.js";
import type { HostMemory } from "./hardware-port.js";

const GRANULE_BITS = 12;
const INDEX_BITS = 9;
const LAST_LEVEL = 3;

/** How an architecture's tables of 4-KiB pages and 512 entries write their entries, by bits of the low word. */
export interface EntryFormat {
  /** An entry is in use where one of these is set. */
  readonly present: number;
  /** Of an entry that points to a table. */
  readonly table: number;
  /** Of a leaf of the last level, and of one above it. */
  readonly page: number;
  readonly largePage: number;
  /** Above the last level: a leaf is told by these bits being equal to `largePage`'s. */
  readonly kind: number;
  /** Address bits of the high word. */
  readonly highAddress: number;
  /** Least log2 bytes of the first table. */
  readonly rootBits: number;
}

/** VMSAv8-64: bits 1:0 of a descriptor (Arm DDI 0487 D8.3.1); 48-bit addresses. */
export const VMSA_FORMAT: EntryFormat = { present: 1, table: 3, page: 3, largePage: 1, kind: 3, highAddress: 0xffff, rootBits: 6 };

export interface LeafAttributes {
  /** Bits 11:0 of a leaf's descriptor, without the format's own. */
  readonly low: number;
  /** Bits 63:48, as a high word. */
  readonly high: number;
}

export interface PageTableShape {
  /** Bits of the addresses it maps, 25 to 57. */
  readonly inputBits: number;
  /** Level of the first table: 3 is the last one, whose entries are pages; the first may be -1 (5 levels) to 1. */
  readonly startLevel: number;
  readonly format: EntryFormat;
  /** First level whose entries may be leaves: 1 (1 GiB), 2 (2 MiB) or 3 (4 KiB). */
  readonly largestPageLevel: number;
}

/** What is done with a leaf that `eachLeaf` finds: its address in the tables, and what it maps. */
export type LeafVisitor = (descriptor: number, iova: number, bytes: number, low: number, high: number) => void;

/**
 * A table of 4-KiB pages in the host's physical memory: VMSAv8-64 (Arm DDI 0487 D8.2, D8.3) or VT-d's (9.8,
 * 9.9), of either stage: what tells the stages apart is the format and the leaves' attributes. Ranges are
 * multiples of 4096 bytes, below 2^inputBits; mapping over what is mapped is the caller's mistake.
 *
 * Tables that a call to `unmap` has emptied are out of the tree at once, and are given back by
 * `freeRetired`: between the two the caller invalidates the hardware's caches.
 */
export class PageTable {
  readonly inputBits: number;
  readonly startLevel: number;
  /** log2 bytes of the first table; concatenated tables count as one. */
  readonly rootBits: number;
  /** HPA of the first table. */
  readonly root: number;
  /** Bytes of all tables, the first one included. */
  tableBytes: number;
  private readonly format: EntryFormat;
  private readonly largestPageLevel: number;
  private readonly retired: number[] = [];
  /** Where the last call to `map` has come to. */
  private filledTo = 0;

  /** A first table of more than 512 entries is concatenated (VMSAv8-64 stage 2 only). */
  constructor(
    private readonly memory: HostMemory,
    shape: PageTableShape,
  ) {
    const { inputBits, startLevel, format } = shape;
    this.inputBits = inputBits;
    this.startLevel = startLevel;
    this.format = format;
    this.largestPageLevel = shape.largestPageLevel;
    this.rootBits = Math.max(format.rootBits, inputBits - levelShift(GRANULE_BITS, startLevel) + 3);
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

  /** Whether `unmap` has taken tables out of the tree since the last `freeRetired`. */
  get hasRetired(): boolean {
    return this.retired.length > 0;
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
      const isBlock = blocks && level >= this.largestPageLevel && next - iova === size && hpa % size === 0;
      if (level === LAST_LEVEL || isBlock) {
        const kind = level === LAST_LEVEL ? this.format.page : this.format.largePage;
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
    if ((words.loadedLow & this.format.present) !== 0) {
      throw new HostError("page table", "EEXIST", `0x${iova.toString(16)} is mapped`);
    }
  }

  /** The table that a descriptor points to, made where there is none. */
  private child(entry: number, level: number, iova: number): number {
    const words = this.memory.words;
    words.load64(highWord(entry), lowWord(entry));
    if ((words.loadedLow & this.format.present) !== 0) {
      if (!this.isTable(level, words.loadedLow)) {
        throw new HostError("page table", "EEXIST", `0x${iova.toString(16)} is mapped`);
      }
      return this.tableAddress(words.loadedHigh, words.loadedLow);
    }
    const table = this.memory.allocatePage(GRANULE_BITS);
    this.tableBytes += 1 << GRANULE_BITS;
    this.store(entry, highWord(table), lowWord(table) | this.format.table);
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
      if ((low & this.format.present) !== 0) {
        if (this.isTable(level, low)) {
          const child = this.tableAddress(words.loadedHigh, low);
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
      if ((low & this.format.present) !== 0) {
        if (this.isTable(level, low)) {
          this.visit(this.tableAddress(high, low), level + 1, iova, next, visit);
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
      if ((words.loadedLow & this.format.present) !== 0) {
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

  private isTable(level: number, low: number): boolean {
    return level < LAST_LEVEL && (low & this.format.kind) !== (this.format.largePage & this.format.kind);
  }

  /** The address in an entry that points to a table: bits 11:0 are its own. */
  private tableAddress(high: number, low: number): number {
    return (high & this.format.highAddress) * 0x1_0000_0000 + ((low & ~0xfff) >>> 0);
  }

  private store(address: number, high: number, low: number): void {
    this.memory.words.store64(highWord(address), lowWord(address), high, low);
  }
}
