/**
 * Which adjacent entries of a guest's table are one mapping of the host. IOAS_UNMAP takes whole mappings alone
 * (Linux iopt_unmap_iova_range: ENOENT), and to unmap one and map what is left of it again would have DMA to that
 * fail in between. So a mapping of which a part goes has a new mirror made, and is not made of several entries again.
 */
import { FAR, type Mapping, NEAR } from "./mappings.js";

/** Mappings that were torn before no entries are joined any more: each has cost a new mirror. */
const MOST_TORN = 4;

/** Shared by a mirror and those that are made in its place. */
export class MirrorRuns {
  private readonly near = new Set<number>();
  private readonly far = new Set<number>();

  private get full(): boolean {
    return this.near.size + this.far.size >= MOST_TORN;
  }

  /** Whether adjacent entries of a table are joined. `level` of the entries: 1 has pages of 4 KiB. `iova`: of any of them. */
  joins(level: number, iova: number): boolean {
    if (level > 2 || this.full) {
      return false;
    }
    return level === 1 ? !this.near.has(Math.floor(iova / NEAR)) : !this.far.has(Math.floor(iova / FAR));
  }

  /** A part of a mapping has gone. */
  torn(one: Mapping): void {
    if (this.full) {
      return;
    }
    if (one.bytes <= NEAR) {
      this.near.add(Math.floor(one.iova / NEAR));
    } else {
      this.far.add(Math.floor(one.iova / FAR));
    }
  }
}
