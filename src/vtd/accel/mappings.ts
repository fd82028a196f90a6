/** What a mirror has mapped, found by IOVA in time that does not grow with it. */

/** A mapping, or a range of the guest's that waits for memory. Addresses in bytes. */
export interface Mapping {
  readonly iova: number;
  readonly bytes: number;
  readonly gpa: number;
  /** SS_R and SS_W. */
  readonly access: number;
  /** The synchronization that has found it last, and how many of its bytes. */
  stamp: number;
  seen: number;
}

/** Mappings come from one table of the guest each: 4-KiB pages lie within 2 MiB, 2-MiB pages within 1 GiB, and a 1-GiB page is one. */
export const NEAR = 2 ** 21;
export const FAR = 2 ** 30;

/** By number; in a bucket in the order of the IOVAs. */
type Buckets = Map<number, Mapping[]>;

/** Mappings that do not overlap, each within an aligned region of 2 MiB or, if not, of 1 GiB. */
export class MappingIndex {
  private readonly near: Buckets = new Map();
  private readonly far: Buckets = new Map();
  private count = 0;
  /** A bucket, and where the last mapping was found in it. */
  private recent: Mapping[] = [];
  private recentAt = 0;

  get size(): number {
    return this.count;
  }

  add(one: Mapping): void {
    const { buckets, key } = this.placeOf(one);
    const bucket = buckets.get(key);
    if (bucket === undefined) {
      buckets.set(key, [one]);
    } else {
      bucket.splice(placeFrom(bucket, one.iova), 0, one);
    }
    this.count++;
  }

  /** Nothing where it is not there. */
  delete(one: Mapping): void {
    const { buckets, key } = this.placeOf(one);
    const bucket = buckets.get(key);
    const at = bucket === undefined ? -1 : placeFrom(bucket, one.iova);
    if (bucket === undefined || bucket[at] !== one) {
      return;
    }
    this.count--;
    if (bucket.length === 1) {
      buckets.delete(key);
      bucket.length = 0;
    } else {
      bucket.splice(at, 1);
    }
  }

  clear(): void {
    this.near.clear();
    this.far.clear();
    this.recent = [];
    this.count = 0;
  }

  /** That with the lowest IOVA of those that overlap `first` to `last` (bytes, inclusive). */
  firstWithin(first: number, last: number): Mapping | null {
    const next = this.recent[this.recentAt + 1] as Mapping | undefined;
    if (next?.iova === first) {
      // Mostly it is the one behind the last that was found, as walks go from one to the next.
      this.recentAt++;
      return next;
    }
    const near = this.lowestNear(first, last);
    const far = lowestOf(this.far, FAR, first, last);
    return near === null || (far !== null && far.iova < near.iova) ? far : near;
  }

  /** Those that overlap `first` to `last` (bytes, inclusive), in no order. Any may be deleted meanwhile; added ones may be met. */
  *within(first: number, last: number): Generator<Mapping, void> {
    for (const [buckets, span] of [
      [this.near, NEAR],
      [this.far, FAR],
    ] as const) {
      for (const bucket of bucketsWithin(buckets, Math.floor(first / span), Math.floor(last / span))) {
        let at = placeFrom(bucket, first);
        while (at < bucket.length && bucket[at].iova <= last) {
          const one = bucket[at];
          yield one;
          at = bucket[at] === one ? at + 1 : placeFrom(bucket, one.iova + one.bytes);
        }
      }
    }
  }

  /** All of them. */
  all(): Generator<Mapping, void> {
    return this.within(0, Infinity);
  }

  private lowestNear(first: number, last: number): Mapping | null {
    const found = lowestOf(this.near, NEAR, first, last);
    if (found !== null) {
      this.recent = this.near.get(Math.floor(found.iova / NEAR))!;
      this.recentAt = placeFrom(this.recent, found.iova);
    }
    return found;
  }

  private placeOf(one: Mapping): { buckets: Buckets; key: number } {
    const key = Math.floor(one.iova / NEAR);
    return Math.floor((one.iova + one.bytes - 1) / NEAR) === key
      ? { buckets: this.near, key }
      : { buckets: this.far, key: Math.floor(one.iova / FAR) };
  }
}

/** Index of the first mapping that ends behind an IOVA. */
function placeFrom(bucket: readonly Mapping[], iova: number): number {
  let low = 0;
  let high = bucket.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bucket[middle].iova + bucket[middle].bytes <= iova) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/** `first` and `last` are not far from each other: within what a mapping takes. */
function lowestOf(buckets: Buckets, span: number, first: number, last: number): Mapping | null {
  if (buckets.size === 0) {
    return null;
  }
  const end = Math.floor(last / span);
  for (let key = Math.floor(first / span); key <= end; key++) {
    const bucket = buckets.get(key);
    if (bucket !== undefined) {
      const at = placeFrom(bucket, first);
      if (at < bucket.length) {
        return bucket[at].iova <= last ? bucket[at] : null;
      }
    }
  }
  return null;
}

/** The buckets of a range: by number where there are fewer numbers than buckets. */
function* bucketsWithin(buckets: Buckets, from: number, to: number): Generator<Mapping[], void> {
  if (to - from < buckets.size) {
    for (let key = from; key <= to; key++) {
      const bucket = buckets.get(key);
      if (bucket !== undefined) {
        yield bucket;
      }
    }
    return;
  }
  for (const [key, bucket] of buckets) {
    if (key >= from && key <= to) {
      yield bucket;
    }
  }
}
