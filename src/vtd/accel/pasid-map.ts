import { PASID_TABLE_ENTRIES } from "../spec/index.js";

interface Block<T> {
  count: number;
  readonly slots: Array<T | undefined>;
}

/** What belongs to PASIDs, in blocks as the guest's PASID tables have them: few are taken, or many beside each other. */
export class PasidMap<T> {
  size = 0;
  /** Up to the last block that has something. */
  private readonly blocks: Array<Block<T> | undefined> = [];

  get(pasid: number): T | undefined {
    return this.blocks[pasid >>> 6]?.slots[pasid & 63];
  }

  has(pasid: number): boolean {
    return this.get(pasid) !== undefined;
  }

  set(pasid: number, one: T): void {
    const at = pasid >>> 6;
    while (this.blocks.length <= at) {
      this.blocks.push(undefined);
    }
    const block = (this.blocks[at] ??= { count: 0, slots: new Array<T | undefined>(PASID_TABLE_ENTRIES).fill(undefined) });
    if (block.slots[pasid & 63] === undefined) {
      block.count++;
      this.size++;
    }
    block.slots[pasid & 63] = one;
  }

  delete(pasid: number): void {
    const { blocks } = this;
    const block = blocks[pasid >>> 6];
    if (block?.slots[pasid & 63] === undefined) {
      return;
    }
    block.slots[pasid & 63] = undefined;
    this.size--;
    if (--block.count === 0) {
      blocks[pasid >>> 6] = undefined;
      while (blocks.length > 0 && blocks[blocks.length - 1] === undefined) {
        blocks.pop();
      }
    }
  }

  /** The first multiple of 64 from which on there is nothing. */
  get end(): number {
    return this.blocks.length * PASID_TABLE_ENTRIES;
  }

  /** How many of the 64 PASIDs beside one (bits 19:6 are the same) have something. */
  near(pasid: number): number {
    return this.blocks[pasid >>> 6]?.count ?? 0;
  }

  /** In the order of the PASIDs. The one at hand may be deleted. */
  *values(): Generator<T, void> {
    for (let at = 0; at < this.blocks.length; at++) {
      const block = this.blocks[at];
      for (let i = 0; block !== undefined && i < PASID_TABLE_ENTRIES; i++) {
        const one = block.slots[i];
        if (one !== undefined) {
          yield one;
        }
      }
    }
  }
}
