/**
 * Invalidations on their way to the host: entries of one object collected in order, sent in one
 * HWPT_INVALIDATE (linux/iommufd.h, struct iommu_hwpt_invalidate).
 */
import type { Iommufd, InvalidateResult } from "../iommufd/index.js";

export class InvalidationBatch {
  /** Entries that are collected. */
  pending = 0;
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

  /** Sends what is collected to a vIOMMU or nested HWPT and empties the batch, whatever comes of it. */
  protected sendTo(iommufd: Iommufd, objectId: number): InvalidateResult {
    const count = this.pending;
    this.pending = 0;
    return this.call(iommufd, objectId, this.words, count);
  }

  protected call(iommufd: Iommufd, objectId: number, words: Int32Array, count: number): InvalidateResult {
    const entryLength = this.entryWords * 4;
    return iommufd.hwptInvalidate({
      hwptId: objectId,
      dataType: this.dataType,
      entryLength,
      entryCount: count,
      data: new Uint8Array(words.buffer, words.byteOffset, count * entryLength),
    });
  }
}
