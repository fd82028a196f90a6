/** Hands out IOVAs of a domain from the top down, as Linux's allocator does: below 4 GiB, aligned to their size, clear of reserved windows. */
import { check } from "../failure.js";

const FOUR_GIB = 0x1_0000_0000;

export class IovaAllocator {
  /** Taken ranges, highest first. */
  private taken: Array<{ base: number; size: number }> = [];

  constructor(
    reserved: ReadonlyArray<{ base: number; size: number }>,
    private readonly granule: number,
  ) {
    // The first page stays free so that 0 is never a valid address.
    this.taken = [{ base: 0, size: granule }, ...reserved.map((range) => ({ base: range.base, size: range.size }))].sort((a, b) => b.base - a.base);
  }

  /** Takes `bytes` below `limit` (default 4 GiB). Throws GuestFailure where there is no room. */
  allocate(bytes: number, limit = FOUR_GIB): bigint {
    let size = this.granule;
    while (size < bytes) {
      size *= 2;
    }
    let top = limit;
    for (const range of this.taken) {
      if (range.base + range.size <= top) {
        const at = Math.floor((top - size) / size) * size;
        if (at >= range.base + range.size) {
          return this.take(at, size);
        }
      }
      top = Math.min(top, range.base);
    }
    const at = Math.floor((top - size) / size) * size;
    check(at > 0, `no ${size} bytes of IOVA are left below 0x${limit.toString(16)}`);
    return this.take(at, size);
  }

  release(iova: bigint): void {
    const index = this.taken.findIndex((range) => range.base === Number(iova));
    check(index >= 0, () => `IOVA 0x${iova.toString(16)} is not allocated`);
    this.taken.splice(index, 1);
  }

  private take(base: number, size: number): bigint {
    this.taken.push({ base, size });
    this.taken.sort((a, b) => b.base - a.base);
    return BigInt(base);
  }
}
