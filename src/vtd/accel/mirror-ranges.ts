/** The IOVAs of a mirror that are still to be synchronized. */
import { EVERYWHERE } from "./mirror-walk.js";

/** Ranges that wait, at the most: beyond that everything does. */
const MOST_RANGES = 16;

interface Range {
  /** IOVAs in bytes, inclusive. */
  readonly first: number;
  readonly last: number;
}

const EVERYTHING: Range = { first: 0, last: EVERYWHERE };

export class MirrorRanges {
  private ranges: Range[] = [];
  /** Work was given up: what is mapped may be stale anywhere. */
  private lost = false;

  get waiting(): boolean {
    return this.ranges.length > 0;
  }

  /** `first`, `last`: bytes, inclusive. */
  add(first: number, last: number): void {
    if (this.ranges.some((range) => range.first <= first && range.last >= last)) {
      return;
    }
    this.ranges.push({ first, last });
    if (this.lost || this.ranges.length > MOST_RANGES) {
      this.addAll();
    }
  }

  addAll(): void {
    this.lost = false;
    this.ranges = [EVERYTHING];
  }

  /** The same range again, before all others. */
  putBack(first: number, last: number): void {
    this.ranges.unshift({ first, last });
  }

  take(): Range {
    return this.ranges.shift()!;
  }

  /** The next one is everything. */
  giveUp(): void {
    this.ranges = [];
    this.lost = true;
  }
}
