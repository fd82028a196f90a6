import { HostError } from "../../../iommufd/index.js";

/** Numbers that hardware tags its caches with, from 1 on: VMIDs or ASIDs of one SMMU. */
export class TagPool {
  private readonly taken = new Set<number>();
  private next = 1;

  constructor(
    private readonly name: string,
    private readonly bits: number,
  ) {}

  get live(): number {
    return this.taken.size;
  }

  /** A free number; ENOSPC when there is none. */
  take(): number {
    const count = 2 ** this.bits;
    if (this.taken.size === count - 1) {
      throw new HostError(this.name, "ENOSPC", `all ${count - 1} are in use`);
    }
    // The lowest free one, as an IDA gives it: a number that is used again soon shows a missing invalidation.
    while (this.taken.has(this.next)) {
      this.next++;
    }
    this.taken.add(this.next);
    return this.next;
  }

  give(tag: number): void {
    this.taken.delete(tag);
    this.next = Math.min(this.next, tag);
  }
}
