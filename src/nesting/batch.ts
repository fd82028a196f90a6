/**
 * Invalidations on their way to the host: entries of one object collected in order, sent by HWPT_INVALIDATE
 * (linux/iommufd.h, struct iommu_hwpt_invalidate), and what its answer means.
 */
import type { Errno, Iommufd, InvalidateResult } from "../iommufd/index.js";

/** All entries are done, but for those that timed out (`timedOut`). */
export const DELIVERED = 0;
/** The host does not take the entry at `refused`; all before it are done, none from there on. */
export const REFUSED = 1;
/** The host was asked again and again and could not: nothing is known to be done. */
export const UNDELIVERED = 2;

export type Delivery = typeof DELIVERED | typeof REFUSED | typeof UNDELIVERED;

/** Calls for the same entries before they count as undelivered. */
const MOST_TRIES = 3;

/** What the kernel says of an entry that it does not take. Anything else (ENOMEM, EFAULT, EINTR ...) is about the host, and may pass. */
const OF_THE_ENTRY: ReadonlySet<Errno> = new Set<Errno>(["EIO", "EINVAL", "EOPNOTSUPP", "E2BIG"]);

export abstract class InvalidationBatch {
  /** Entries that are collected. */
  pending = 0;
  /** HWPT_INVALIDATE calls, and entries that the host has done. */
  calls = 0;
  done = 0;
  /** Of the last delivery: the first entry that is not done, the last error (null: there was none, with DELIVERED too), and whether entries timed out. */
  refused = 0;
  errno: Errno | null = null;
  timedOut = false;
  protected words: Int32Array;

  /**
   * @param dataType InvalidateDataType
   * @param entryWords 32-bit words of an entry
   * @param room entries that fit at first; more is made as it is needed
   */
  constructor(
    private readonly dataType: number,
    private readonly entryWords: number,
    protected room: number,
  ) {
    this.words = new Int32Array(room * entryWords);
  }

  /** Takes a place at the end; returns the index in `words` of its first word, which the caller fills. */
  protected take(): number {
    const { pending } = this;
    if (pending === this.room) {
      this.grow();
    }
    this.pending = pending + 1;
    return pending * this.entryWords;
  }

  /** Makes room for twice as many entries. */
  protected grow(): void {
    this.room *= 2;
    const larger = new Int32Array(this.room * this.entryWords);
    larger.set(this.words);
    this.words = larger;
  }

  clear(): void {
    this.pending = 0;
  }

  /** Whether an entry may time out for a reason of its own, which the guest's queue has a way to tell. */
  protected mayTimeOut(_index: number): boolean {
    return false;
  }

  /** Whether the host's hardware may lose an entry that is not issued once more after it is done: an erratum. */
  protected wantsRepeating(_index: number): boolean {
    return false;
  }

  /** A call was made for `count` entries; for traces. */
  protected called(_count: number, _result: InvalidateResult): void {}

  /**
   * Sends what is collected to a vIOMMU or nested HWPT and empties the batch, whatever comes of it. Entries are
   * sent more than once where it is not certain that they are done: an invalidation may be repeated, not lost.
   * With an error, entry_num is where the kernel stopped looking (Linux arm_vsmmu_cache_invalidate):
   *
   * - the number given: nothing was looked at (no memory for a copy);
   * - the index of an entry that it refuses, or could not take: those before it were looked at, and up to 62 of
   *   them not issued;
   * - ETIMEDOUT: the last index of a block that was issued and did not complete.
   *
   * Where the hardware wants some repeated, those go in calls of their own, so that the others are issued once.
   */
  deliver(iommufd: Iommufd, objectId: number): Delivery {
    const count = this.pending;
    this.pending = 0;
    this.errno = null;
    this.timedOut = false;
    for (let start = 0; start < count; ) {
      const again = this.wantsRepeating(start);
      let end = start + 1;
      while (end < count && this.wantsRepeating(end) === again) {
        end++;
      }
      const delivery = this.deliverRange(iommufd, objectId, start, end);
      // What is before a refused entry is done, and so to be repeated.
      const done = delivery === REFUSED ? this.refused : end;
      if (delivery === UNDELIVERED || (again && !this.repeat(iommufd, objectId, start, done))) {
        return UNDELIVERED;
      }
      if (delivery === REFUSED) {
        return REFUSED;
      }
      start = end;
    }
    return DELIVERED;
  }

  private deliverRange(iommufd: Iommufd, objectId: number, first: number, end: number): Delivery {
    let start = first;
    let tries = 0;
    while (start < end) {
      const { errno, handled } = this.call(iommufd, objectId, start, end);
      if (errno === null) {
        break;
      }
      this.errno = errno;
      const told = handled >= 0 && handled < end - start;
      const at = told ? start + handled : start;
      if (told && OF_THE_ENTRY.has(errno)) {
        if (at > start && !this.repeat(iommufd, objectId, start, at)) {
          return UNDELIVERED;
        }
        this.refused = at;
        this.done += at - first;
        return REFUSED;
      }
      if (told && errno === "ETIMEDOUT" && this.isolate(start, at)) {
        // What timed out is told by the guest's queue; what was issued with it is not known to be done.
        if (!this.repeat(iommufd, objectId, start, this.kept)) {
          return UNDELIVERED;
        }
        this.timedOut = true;
        this.done -= at + 1 - this.kept;
        start = at + 1;
        tries = 0;
        continue;
      }
      if (++tries === MOST_TRIES) {
        return UNDELIVERED;
      }
    }
    this.done += end - first;
    return DELIVERED;
  }

  /** Behind the last of the entries that `isolate` kept. */
  private kept = 0;

  /** Moves those entries of start to last (inclusive) that cannot time out to their front. False: all cannot. */
  private isolate(start: number, last: number): boolean {
    const { words, entryWords } = this;
    let to = start;
    for (let n = start; n <= last; n++) {
      if (!this.mayTimeOut(n)) {
        words.copyWithin(to * entryWords, n * entryWords, (n + 1) * entryWords);
        to++;
      }
    }
    this.kept = to;
    return to <= last;
  }

  /** Sends entries that were looked at once more. False: they cannot be said to be done. */
  private repeat(iommufd: Iommufd, objectId: number, start: number, end: number): boolean {
    for (let tries = 0; tries < MOST_TRIES && start < end; tries++) {
      const { errno } = this.call(iommufd, objectId, start, end);
      if (errno === null) {
        return true;
      }
      this.errno = errno;
    }
    return start === end;
  }

  private call(iommufd: Iommufd, objectId: number, start: number, end: number): InvalidateResult {
    const { words } = this;
    const entryLength = this.entryWords * 4;
    const count = end - start;
    const result = iommufd.hwptInvalidate({
      hwptId: objectId,
      dataType: this.dataType,
      entryLength,
      entryCount: count,
      data: new Uint8Array(words.buffer, words.byteOffset + start * entryLength, count * entryLength),
    });
    this.calls++;
    this.called(count, result);
    return result;
  }
}
