/** PASID-based IOTLB invalidations on their way to nested HWPTs (linux/iommufd.h, struct iommu_hwpt_vtd_s1_invalidate). */
import { INVALIDATE_VTD_S1, INVALIDATE_VTD_S1_BYTES, InvalidateDataType, InvalidateVtdFlags } from "../../iommufd/index.js";
import { InvalidationBatch } from "../../nesting/index.js";

/** Entries that fit at first. */
const ROOM = 16;
const ENTRY_WORDS = INVALIDATE_VTD_S1_BYTES / 4;
const ADDR = INVALIDATE_VTD_S1.ADDR / 4;
const NPAGES = INVALIDATE_VTD_S1.NPAGES / 4;
const FLAGS = INVALIDATE_VTD_S1.FLAGS / 4;
const RESERVED = INVALIDATE_VTD_S1.RESERVED / 4;

/** The entries for one nested HWPT, each with the number of the guest's descriptor that it comes from. */
export class PasidIotlbBatch extends InvalidationBatch {
  private ordinals = new Int32Array(ROOM);

  constructor() {
    super(InvalidateDataType.VTD_S1, ENTRY_WORDS, ROOM);
  }

  /** 2^`addressMask` pages of 4 KiB around an address, or all (-1: address 0 and 2^64 - 1 pages). `leaf`: only leaf entries have changed. */
  add(ordinal: number, addressHigh: number, addressLow: number, addressMask: number, leaf: boolean): void {
    const n = this.pending;
    if (n === this.room) {
      this.grow();
    }
    this.pending = n + 1;
    const { words } = this;
    this.ordinals[n] = ordinal;
    const at = n * ENTRY_WORDS;
    words[at + RESERVED] = 0;
    if (addressMask < 0) {
      words[at + ADDR] = 0;
      words[at + ADDR + 1] = 0;
      words[at + NPAGES] = -1;
      words[at + NPAGES + 1] = -1;
      words[at + FLAGS] = 0;
      return;
    }
    const spanBits = 12 + addressMask;
    words[at + ADDR] = spanBits < 32 ? addressLow & (-1 << spanBits) : 0;
    words[at + ADDR + 1] = spanBits < 32 ? addressHigh : addressHigh & (-1 << (spanBits - 32));
    words[at + NPAGES] = 1 << addressMask;
    words[at + NPAGES + 1] = 0;
    words[at + FLAGS] = leaf ? InvalidateVtdFlags.LEAF : 0;
  }

  protected override grow(): void {
    super.grow();
    const larger = new Int32Array(this.room);
    larger.set(this.ordinals);
    this.ordinals = larger;
  }

  /** The descriptor behind an entry of what was sent last. */
  ordinalAt(entry: number): number {
    return this.ordinals[entry];
  }
}
