/** What a mirror has mapped, found by IOVA in time that does not grow with it. */

/** A mapping, or a leaf that waits for memory. Addresses in bytes. */
export interface Mapping {
  readonly iova: number;
  readonly bytes: number;
  readonly gpa: number;
  /** SS_R and SS_W. */
  readonly access: number;
  /** The synchronization that has found it last. */
  stamp: number;
}

/** Leaves are 4 KiB, 2 MiB or 1 GiB: parts of the two smaller lie within 2 MiB, parts of the largest within 1 GiB. */
const NEAR = 2 ** 21;
const FAR = 2 ** 30;

type Buckets = Map<number, Map<number, Mapping>>;

/** Mappings that do not overlap, each within an aligned region of 2 MiB or, if not, of 1 GiB. */
export class MappingIndex {
  private readonly near: Buckets = new Map();
  private readonly far: Buckets = new Map();
  private count = 0;

  get size(): number {
    return this.count;
  }

  get(iova: number): Mapping | undefined {
    return this.near.get(Math.floor(iova / NEAR))?.get(iova) ?? this.far.get(Math.floor(iova / FAR))?.get(iova);
  }

  add(one: Mapping): void {
    const { buckets, key } = this.placeOf(one);
    const bucket = buckets.get(key);
    if (bucket === undefined) {
      buckets.set(key, new Map([[one.iova, one]]));
    } else {
      bucket.set(one.iova, one);
    }
    this.count++;
  }

  delete(one: Mapping): void {
    const { buckets, key } = this.placeOf(one);
    const bucket = buckets.get(key);
    if (bucket?.delete(one.iova) === true) {
      this.count--;
      if (bucket.size === 0) {
        buckets.delete(key);
      }
    }
  }

  clear(): void {
    this.near.clear();
    this.far.clear();
    this.count = 0;
  }

  /** Those that overlap `first` to `last` (bytes, inclusive), in no order. Any may be deleted meanwhile; added ones may be met. */
  *within(first: number, last: number): Generator<Mapping, void> {
    for (const [buckets, span] of [
      [this.near, NEAR],
      [this.far, FAR],
    ] as const) {
      for (const bucket of bucketsWithin(buckets, Math.floor(first / span), Math.floor(last / span))) {
        for (const one of bucket.values()) {
          if (one.iova <= last && one.iova + one.bytes > first) {
            yield one;
          }
        }
      }
    }
  }

  /** All of them. */
  all(): Generator<Mapping, void> {
    return this.within(0, Infinity);
  }

  private placeOf(one: Mapping): { buckets: Buckets; key: number } {
    const key = Math.floor(one.iova / NEAR);
    return Math.floor((one.iova + one.bytes - 1) / NEAR) === key
      ? { buckets: this.near, key }
      : { buckets: this.far, key: Math.floor(one.iova / FAR) };
  }
}

/** The buckets of a range: by number where there are fewer numbers than buckets. */
function* bucketsWithin(buckets: Buckets, from: number, to: number): Generator<Map<number, Mapping>, void> {
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
