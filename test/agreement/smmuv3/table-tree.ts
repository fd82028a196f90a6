/** Builds VMSAv8-64 tables, one mapping at a time, as 64-bit descriptors (Arm DDI 0487 D8.3). */
import { type GranuleBits, levelShift } from "../../../src/translation/index.js";
import type { Allocator, Words } from "../memory-image.js";

export interface Step {
  readonly level: number;
  /** Address of the descriptor, as the walker fetches it from memory. */
  readonly address: number;
  readonly leaf: boolean;
  /** log2 of the bytes that it maps or covers. */
  readonly shift: number;
}

export class TableTree {
  /** Physical address of the first table. */
  readonly base: number;
  private readonly tables = new Map<number, number>();

  /**
   * @param inputBits bits of an input address
   * @param asSeen the address by which a descriptor refers to a table at a physical address
   */
  constructor(
    private readonly words: Words,
    private readonly allocate: Allocator,
    readonly granuleBits: GranuleBits,
    readonly startLevel: number,
    readonly inputBits: number,
    private readonly asSeen: (physical: number) => bigint = BigInt,
  ) {
    const firstBytes = 2 ** Math.max(3, inputBits - levelShift(granuleBits, startLevel) + 3);
    // The smallest tables that TTBs can point to are 64 bytes long (IHI 0070 5.4 CD.TTB0).
    this.base = allocate(Math.max(64, firstBytes), Math.max(64, firstBytes));
  }

  /** Blocks are there for 4K at levels 1 and 2, for 16K and 64K at level 2 (D8.3.1, without FEAT_LPA2). */
  static leafLevels(granuleBits: GranuleBits): readonly number[] {
    return granuleBits === 12 ? [3, 2, 1] : [3, 2];
  }

  /**
   * Maps the leaf that holds `input` (its low bits count from the input range's start) to the leaf-sized region at `output`.
   * Returns the descriptors of the walk, the first table's first; null where another mapping is in the way.
   */
  map(input: bigint, output: bigint, leafLevel: number, leafAttributes: bigint, tableAttributes: () => bigint): Step[] | null {
    const stride = this.granuleBits - 3;
    let table = this.base;
    const steps: Step[] = [];
    for (let level = this.startLevel; ; level++) {
      const shift = BigInt(levelShift(this.granuleBits, level));
      const bits = level === this.startLevel ? this.inputBits - Number(shift) : stride;
      const index = Number((input >> shift) & ((1n << BigInt(bits)) - 1n));
      const address = table + index * 8;
      const leaf = level === leafLevel;
      steps.push({ level, address, leaf, shift: Number(shift) });
      if (leaf) {
        if (this.words.has(address)) {
          return null;
        }
        const size = 1n << shift;
        this.words.set(address, (output & ~(size - 1n)) | leafAttributes | (level === 3 ? 3n : 1n));
        return steps;
      }
      let next = this.tables.get(address);
      if (next === undefined) {
        if (this.words.has(address)) {
          return null;
        }
        next = this.allocate(2 ** this.granuleBits, 2 ** this.granuleBits);
        this.tables.set(address, next);
        this.words.set(address, this.asSeen(next) | tableAttributes() | 3n);
      }
      table = next;
    }
  }
}
