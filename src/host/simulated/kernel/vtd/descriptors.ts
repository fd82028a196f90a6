/** Descriptors of the invalidation queue as the kernel's driver composes them (Intel VT-d 6.5.2; Linux qi_desc_*). */
import {
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_TYPE_LOW,
  DESCRIPTOR_WORDS,
  DEVICE_TLB_DESC,
  GRANULARITY_DOMAIN,
  GRANULARITY_SELECTIVE,
  IOTLB_DESC,
  PASID_CACHE_DESC,
  PASID_CACHE_PASID,
  PASID_DEVICE_TLB_DESC,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  PASID_IOTLB_PASID,
  WAIT_DESC,
} from "../../../../vtd/spec/index.js";
import type { UnitFeatures } from "./features.js";
import { compose, type FieldValue } from "./remapping-tables.js";

/** log2 pages of all addresses. */
const EVERYTHING = 52;

/** 2^bits pages of 4 KiB from page number `page` on, a multiple of 2^bits. */
export interface Pages {
  readonly page: number;
  readonly bits: number;
}

export const ALL_PAGES: Pages = { page: 0, bits: EVERYTHING };

/** The context-cache entry of one function; in scalable mode the domain id is ignored. */
export function contextDescriptor(domainId: number, requesterId: number): Int32Array {
  return descriptor(DESCRIPTOR_TYPE.CONTEXT_CACHE, [
    [CONTEXT_CACHE_DESC.G, GRANULARITY_SELECTIVE],
    [CONTEXT_CACHE_DESC.DID, domainId],
    [CONTEXT_CACHE_DESC.SID, requesterId],
  ]);
}

/** PASID-cache entries of a PASID in a domain. */
export function pasidDescriptor(domainId: number, pasid: number): Int32Array {
  return descriptor(DESCRIPTOR_TYPE.PASID_CACHE, [
    [PASID_CACHE_DESC.G, PASID_CACHE_PASID],
    [PASID_CACHE_DESC.DID, domainId],
    [PASID_CACHE_DESC.PASID, pasid],
  ]);
}

/** IOTLB entries of a domain: its pages, or all of it where they are more than a descriptor takes. */
export function iotlbDescriptor(features: UnitFeatures, domainId: number, pages: Pages, leafOnly: boolean): Int32Array {
  const selective = features.pageSelective && pages.bits <= features.largestAddressMask;
  return descriptor(
    DESCRIPTOR_TYPE.IOTLB,
    [
      [IOTLB_DESC.G, selective ? GRANULARITY_SELECTIVE : GRANULARITY_DOMAIN],
      [IOTLB_DESC.DR, 1],
      [IOTLB_DESC.DW, 1],
      [IOTLB_DESC.DID, domainId],
      [IOTLB_DESC.AM, selective ? pages.bits : 0],
      [IOTLB_DESC.IH, selective && leafOnly],
    ],
    selective ? pages.page : 0,
  );
}

/** IOTLB entries of a PASID in a domain: the same. */
export function pasidIotlbDescriptor(features: UnitFeatures, domainId: number, pasid: number, pages: Pages, leafOnly: boolean): Int32Array {
  const selective = pages.bits <= features.largestAddressMask;
  return descriptor(
    DESCRIPTOR_TYPE.PASID_IOTLB,
    [
      [PASID_IOTLB_DESC.G, selective ? PASID_IOTLB_PAGE : PASID_IOTLB_PASID],
      [PASID_IOTLB_DESC.DID, domainId],
      [PASID_IOTLB_DESC.PASID, pasid],
      [PASID_IOTLB_DESC.AM, selective ? pages.bits : 0],
      [PASID_IOTLB_DESC.IH, selective && leafOnly],
    ],
    selective ? pages.page : 0,
  );
}

/** A function's own cache: translations of requests without PASID, or (`pasid` not 0) of one PASID. */
export function deviceTlbDescriptor(requesterId: number, pasid: number, pages: Pages): Int32Array {
  const words =
    pasid === 0
      ? descriptor(DESCRIPTOR_TYPE.DEVICE_TLB, [[DEVICE_TLB_DESC.SID, requesterId], [DEVICE_TLB_DESC.S, pages.bits > 0]], pages.page)
      : descriptor(
          DESCRIPTOR_TYPE.PASID_DEVICE_TLB,
          [
            [PASID_DEVICE_TLB_DESC.SID, requesterId],
            [PASID_DEVICE_TLB_DESC.PASID, pasid],
            [PASID_DEVICE_TLB_DESC.S, pages.bits > 0],
          ],
          pages.page,
        );
  // The size is told by the lowest clear bit of the address (6.5.2.5): 2^bits pages have bits - 1 ones below it.
  for (let bit = 12; bit < 12 + pages.bits - 1; bit++) {
    words[bit < 32 ? 2 : 3] |= 1 << (bit % 32);
  }
  return words;
}

/** Waits for what precedes; there is nobody to tell, so that it only fences (FN: one of IF, SW, FN and PD has to be set). */
export function waitDescriptor(): Int32Array {
  return descriptor(DESCRIPTOR_TYPE.WAIT, [[WAIT_DESC.FN, 1]]);
}

function descriptor(type: number, fields: readonly FieldValue[], page = 0): Int32Array {
  const words = compose(DESCRIPTOR_WORDS, [[DESCRIPTOR_TYPE_LOW, type], ...fields]);
  words[2] |= (page % 0x10_0000) * 4096;
  words[3] |= Math.floor(page / 0x10_0000);
  return words;
}
