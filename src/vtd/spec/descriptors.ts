/** Descriptors of the invalidation queue as 32-bit words (Intel VT-d 5.x, 6.5.2). */
import { address, field } from "../../support/index.js";

/** Words of a descriptor of 128 and of 256 bits (IQA.DW). */
export const DESCRIPTOR_WORDS = 4;
export const WIDE_DESCRIPTOR_WORDS = 8;

export const DESCRIPTOR_TYPE = {
  CONTEXT_CACHE: 0x1,
  IOTLB: 0x2,
  DEVICE_TLB: 0x3,
  INTERRUPT_ENTRY_CACHE: 0x4,
  WAIT: 0x5,
  PASID_IOTLB: 0x6,
  PASID_CACHE: 0x7,
  PASID_DEVICE_TLB: 0x8,
  PAGE_GROUP_RESPONSE: 0x9,
} as const;

/** Type: bits 3:0 are its bits 3:0, bits 11:9 its bits 6:4. */
export const DESCRIPTOR_TYPE_LOW = field(0, 0, 4);
export const DESCRIPTOR_TYPE_HIGH = field(0, 9, 3);

/** Context-cache invalidate (6.5.2.1). */
export const CONTEXT_CACHE_DESC = {
  G: field(0, 4, 2),
  DID: field(0, 16, 16),
  SID: field(1, 0, 16),
  FM: field(1, 16, 2),
} as const;

/** PASID-cache invalidate (6.5.2.2). */
export const PASID_CACHE_DESC = {
  G: field(0, 4, 2),
  DID: field(0, 16, 16),
  PASID: field(1, 0, 20),
} as const;

/** Values of PASID_CACHE_DESC.G. 2 is reserved. */
export const PASID_CACHE_DOMAIN = 0;
export const PASID_CACHE_PASID = 1;
export const PASID_CACHE_GLOBAL = 3;

/** IOTLB invalidate (6.5.2.3). */
export const IOTLB_DESC = {
  G: field(0, 4, 2),
  DW: field(0, 6),
  DR: field(0, 7),
  DID: field(0, 16, 16),
  AM: field(2, 0, 6),
  IH: field(2, 6),
  ADDR: address(2, 12, 63),
} as const;

/** PASID-based IOTLB invalidate (6.5.2.4). */
export const PASID_IOTLB_DESC = {
  G: field(0, 4, 2),
  DID: field(0, 16, 16),
  PASID: field(1, 0, 20),
  AM: field(2, 0, 6),
  IH: field(2, 6),
  ADDR: address(2, 12, 63),
} as const;

/** Values of PASID_IOTLB_DESC.G. The others are reserved. */
export const PASID_IOTLB_PASID = 2;
export const PASID_IOTLB_PAGE = 3;

/** Device-TLB invalidate (6.5.2.5). */
export const DEVICE_TLB_DESC = {
  /** PFSID bits 3:0 and 15:4. */
  PFSID_LOW: field(0, 12, 4),
  /** Most invalidations that may be pending. */
  MIP: field(0, 16, 5),
  SID: field(1, 0, 16),
  PFSID_HIGH: field(1, 20, 12),
  S: field(2, 0),
  ADDR: address(2, 12, 63),
} as const;

/** PASID-based device-TLB invalidate (6.5.2.6). */
export const PASID_DEVICE_TLB_DESC = {
  MIP: field(0, 4, 5),
  PFSID_LOW: field(0, 12, 4),
  SID: field(0, 16, 16),
  PASID: field(1, 0, 20),
  PFSID_HIGH: field(1, 20, 12),
  /** For all PASIDs. */
  G: field(2, 0),
  S: field(2, 11),
  ADDR: address(2, 12, 63),
} as const;

/** Interrupt entry cache invalidate (6.5.2.7). */
export const INTERRUPT_ENTRY_DESC = {
  /** 0: all, 1: index-selective. */
  G: field(0, 4),
  /** 2^IM entries. */
  IM: field(0, 27, 5),
  IIDX: field(1, 0, 16),
} as const;

/** Invalidation wait (6.5.2.8). */
export const WAIT_DESC = {
  IF: field(0, 4),
  SW: field(0, 5),
  FN: field(0, 6),
  PD: field(0, 7),
  DATA: field(1, 0, 32),
  ADDR: address(2, 2, 63),
} as const;

/** The descriptor's type out of its first word. */
export function descriptorType(word0: number): number {
  return (word0 & 0xf) | ((word0 >>> 5) & 0x70);
}

/**
 * Reserved bits of each descriptor's words: set ones make it invalid (6.5.2.10). Words 4 to 7 of a wide
 * descriptor are reserved in all of these.
 */
export const DESCRIPTOR_RESERVED: Readonly<Record<number, readonly [number, number, number, number]>> = {
  [DESCRIPTOR_TYPE.CONTEXT_CACHE]: [0x0000_f1c0, 0xfffc_0000 | 0, -1, -1],
  [DESCRIPTOR_TYPE.IOTLB]: [0x0000_f100, -1, 0x0000_0f80, 0],
  [DESCRIPTOR_TYPE.DEVICE_TLB]: [0xffe0_01f0 | 0, 0x000f_0000, 0x0000_0ffe, 0],
  [DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE]: [0x07ff_f1e0, 0xffff_0000 | 0, -1, -1],
  [DESCRIPTOR_TYPE.WAIT]: [0xffff_f100 | 0, 0, 0x0000_0003, 0],
  [DESCRIPTOR_TYPE.PASID_IOTLB]: [0x0000_f1c0, 0xfff0_0000 | 0, 0x0000_0f80, 0],
  [DESCRIPTOR_TYPE.PASID_CACHE]: [0x0000_f1c0, 0xfff0_0000 | 0, -1, -1],
  [DESCRIPTOR_TYPE.PASID_DEVICE_TLB]: [0, 0, 0x0000_07fe, 0],
};
