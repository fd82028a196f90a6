/**
 * An address space as a device's DMA sees it: system memory itself, or system memory behind an IOMMU.
 */
export interface DmaAttributes {
  /** PCI requester id: bus << 8 | devfn, after aliasing by PCIe-to-PCI bridges. */
  readonly requesterId: number;
  /** PASID of the transaction (20 bits), -1: none. */
  readonly pasid: number;
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** Results of a DMA access. */
export const DMA_OK = 0;
/** The IOMMU refused it; it has recorded what the architecture wants recorded. */
export const DMA_FAULT = -1;
/** It got through, and nothing answers at that physical address. */
export const DMA_DECODE_ERROR = -2;

export interface DmaSpace {
  readonly name: string;
  /** "memory": addresses are guest-physical; "iommu": translated in software by a vIOMMU. */
  readonly kind: "memory" | "iommu";
  /** Reads out.length bytes at an IOVA into `out`; returns a DMA_ code. What was read before a fault stays in `out`. */
  read(iova: bigint, out: Uint8Array, attributes: DmaAttributes): number;
  /** Writes `data` at an IOVA; returns a DMA_ code. Pages before the faulting one are written. */
  write(iova: bigint, data: Uint8Array, attributes: DmaAttributes): number;
  /**
   * The guest-physical address of an IOVA for a write of up to 4 bytes, without recording an event (what
   * the fix-up of an MSI route needs); null where it does not translate.
   */
  translate(iova: bigint, attributes: DmaAttributes): number | null;
}
