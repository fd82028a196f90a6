/**
 * A cache of entries by number, with a bound: the one held longest goes where there is no room. The entry found last is
 * at hand, since most look-ups in a row are for the same. Entries stay as they are until they are dropped.
 */
export class BoundedCache<T> {
  private readonly entries = new Map<number, T>();
  private lastKey = 0;
  private last: T | undefined = undefined;

  /** @param limit entries to hold, at least 1 */
  constructor(private readonly limit: number) {}

  get size(): number {
    return this.entries.size;
  }

  find(key: number): T | undefined {
    const last = this.last;
    if (last !== undefined && this.lastKey === key) {
      return last;
    }
    const found = this.entries.get(key);
    if (found !== undefined) {
      this.lastKey = key;
      this.last = found;
    }
    return found;
  }

  /** Holds an entry, in the place of the one that has its number. */
  hold(key: number, entry: T): void {
    this.drop(key);
    if (this.entries.size >= this.limit) {
      for (const oldest of this.entries.keys()) {
        this.drop(oldest);
        break;
      }
    }
    this.entries.set(key, entry);
    this.lastKey = key;
    this.last = entry;
  }

  drop(key: number): void {
    const entry = this.entries.get(key);
    if (entry === undefined) {
      return;
    }
    this.entries.delete(key);
    if (this.last === entry) {
      this.last = undefined;
    }
    this.gone(entry);
  }

  /** Drops the 2^`bits` numbers (unsigned, below 2^32) around one that differ in the low bits only. */
  dropBlock(key: number, bits: number): void {
    if (bits >= 32) {
      this.dropAll();
      return;
    }
    const block = key >>> bits;
    if (2 ** bits <= this.entries.size) {
      const first = (block << bits) >>> 0;
      for (let at = first; at < first + 2 ** bits; at++) {
        this.drop(at);
      }
      return;
    }
    for (const at of this.entries.keys()) {
      if (at >>> bits === block) {
        this.drop(at);
      }
    }
  }

  dropWhere(isMeant: (entry: T) => boolean): void {
    for (const [key, entry] of this.entries) {
      if (isMeant(entry)) {
        this.drop(key);
      }
    }
  }

  dropAll(): void {
    this.dropWhere(() => true);
  }

  /** Those held, oldest first. */
  values(): IterableIterator<T> {
    return this.entries.values();
  }

  /** The same with their numbers. */
  pairs(): IterableIterator<[number, T]> {
    return this.entries.entries();
  }

  /** An entry has left the cache. */
  protected gone(_entry: T): void {}
}
