/** Invalidations of TLBs and of functions' own caches, as Linux makes commands of them. */
import { ATC_SIZE_ALL, OP, encodeCommand } from "../../smmuv3/spec/index.js";
import { coveringBlock } from "../iommu/blocks.js";

/** Largest NUM of a range invalidation: 5 bits. */
const RANGE_NUM_MAX = 31;

/**
 * The TLBI commands for a range (Linux's __arm_smmu_tlb_inv_range): with IDR3.RIL pieces of (NUM + 1) *
 * 2^SCALE pages, else one command a leaf. TTL is given for leaves only (Arm IHI 0070, 4.4.1.1).
 */
export function rangeCommands(
  stage: 1 | 2,
  id: number,
  iova: bigint,
  size: number,
  granule: number,
  leaf: boolean,
  how: { readonly ranges: boolean; readonly pageShift: number },
): Int32Array[] {
  const opcode = stage === 1 ? OP.TLBI_NH_VA : OP.TLBI_S2_IPA;
  const tag = stage === 1 ? { ASID: id } : { VMID: id };
  const out: Int32Array[] = [];
  if (!how.ranges) {
    for (let done = 0; done < size; done += granule) {
      out.push(encodeCommand(opcode, { ...tag, LEAF: leaf, ADDRESS: (iova + BigInt(done)) & ~0xfffn }));
    }
    return out;
  }
  const { pageShift } = how;
  let pages = Math.floor(size / 2 ** pageShift);
  let ttl = 0;
  if (leaf) {
    ttl = 4 - Math.floor((Math.log2(granule) - 3) / (pageShift - 3));
  } else if (pages % (RANGE_NUM_MAX + 1) === 1) {
    // NUM and SCALE both 0 with TTL 0 would be the form without a range.
    pages++;
  }
  const end = iova + BigInt(size);
  for (let at = iova; at < end; ) {
    let scale = 0;
    while (Math.floor(pages / 2 ** scale) % 2 === 0) {
      scale++;
    }
    const num = Math.floor(pages / 2 ** scale) % (RANGE_NUM_MAX + 1);
    out.push(encodeCommand(opcode, { ...tag, NUM: num - 1, SCALE: scale, LEAF: leaf, TTL: ttl, TG: (pageShift - 10) / 2, ADDRESS: at & ~0xfffn }));
    at += BigInt(num * 2 ** (scale + pageShift));
    pages -= num * 2 ** scale;
  }
  return out;
}

/** ATC_INV of the smallest naturally aligned power of two of 4 KiB pages that covers the range; size 0: everything. */
export function atcCommand(sid: number, substreamId: number | null, iova: bigint, size: number): Int32Array {
  const ssid = substreamId === null ? {} : { SSV: 1, SSID: substreamId };
  if (size === 0) {
    return encodeCommand(OP.ATC_INV, { SID: sid, ...ssid, ATC_SIZE: ATC_SIZE_ALL });
  }
  const { start, order } = coveringBlock(iova, size);
  return encodeCommand(OP.ATC_INV, { SID: sid, ...ssid, ATC_SIZE: order, ADDRESS: start });
}
