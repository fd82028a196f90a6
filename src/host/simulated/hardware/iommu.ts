/** What a function and the bus need of the IOMMU in front of it, whatever its architecture. */

/** A function's answer to Invalidate Requests; false: none came in time. */
export interface InvalidationTarget {
  /**
   * @param pasid -1: all of the function's translations
   * @param global every PASID's translations
   * @param bits log2 bytes of the range around the address, 64: everything
   */
  invalidateCache(pasid: number, global: boolean, high: number, low: number, bits: number): boolean;
}

/**
 * A physical IOMMU. A function names itself by its source id: StreamID of an SMMUv3, requester id (bus << 8 |
 * device << 3 | function) of a VT-d. Addresses are 64 bits in two words; `pasid` is -1 without one.
 */
export interface HardwareIommu {
  /** The host's name of the instance. */
  readonly name: string;
  /** After a successful `translate`, `translated` or `translationRequest`: where exactly the input address goes. */
  readonly outHigh: number;
  readonly outLow: number;
  /** log2 bytes of the region around the input address that the answer holds for. */
  readonly outPageBits: number;
  /** The transaction ended well without memory: a read gives zero, a write is dropped. */
  readonly outDiscarded: boolean;
  /** The function that answers ATS invalidations for a source id. */
  connect(sourceId: number, target: InvalidationTarget): void;
  /** Translates an Untranslated transaction (`access`: ACCESS_* bits); returns whether it may go on. */
  translate(sourceId: number, pasid: number, high: number, low: number, access: number): boolean;
  /** Answers an ATS Translation Request: ACCESS_* bits of read, write and execute that are granted, 0 for none. */
  translationRequest(sourceId: number, pasid: number, high: number, low: number, access: number): number;
  /** Checks a Translated transaction, sent with a PASID or (-1) without; returns whether it may go on. */
  translated(sourceId: number, pasid: number, high: number, low: number, access: number): boolean;
  /** Gives back what its own tables take of the host's memory. */
  close(): void;
}
