/** Builds x86 paging structures, one mapping at a time (9.7, 9.8: the two stages differ in attributes alone). */
import type { Allocator, Words } from "../memory-image.js";

export interface Step {
  /** 1: the entry maps or could map 4 KiB, 2: 2 MiB, 3: 1 GiB. */
  readonly level: number;
  /** Address of the entry. */
  readonly address: number;
  readonly leaf: boolean;
}

const PAGE_SIZE = 0x80n;

export const shiftOf = (level: number): number => 12 + 9 * (level - 1);

export class TableTree {
  /** Physical address of the first table. */
  readonly base: number;
  private readonly tables = new Map<number, number>();

  constructor(
    private readonly words: Words,
    private readonly allocate: Allocator,
    readonly levels: number,
  ) {
    this.base = allocate(4096, 4096);
  }

  /** Maps the page of `level` that holds `input` to the one that holds `output`. Returns the entries of the walk; null where another is in the way. */
  map(input: bigint, output: bigint, leafLevel: number, attributes: (leaf: boolean) => bigint): Step[] | null {
    let table = this.base;
    const steps: Step[] = [];
    for (let level = this.levels; ; level--) {
      const address = table + 8 * Number((input >> BigInt(shiftOf(level))) & 0x1ffn);
      const leaf = level === leafLevel;
      steps.push({ level, address, leaf });
      if (leaf) {
        if (this.words.has(address)) {
          return null;
        }
        const low = (1n << BigInt(shiftOf(level))) - 1n;
        this.words.set(address, (output & ~low) | attributes(true) | (level > 1 ? PAGE_SIZE : 0n));
        return steps;
      }
      let next = this.tables.get(address);
      if (next === undefined) {
        if (this.words.has(address)) {
          return null;
        }
        next = this.allocate(4096, 4096);
        this.tables.set(address, next);
        this.words.set(address, BigInt(next) | attributes(false));
      }
      table = next;
    }
  }
}
