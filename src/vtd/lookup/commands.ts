/**
 * The descriptors of a unit with given CAP and ECAP (Intel VT-d 6.5.2): which are in order, and what each drops from the
 * caches. A guest's invalidation queue and a physical unit's are of the same rules.
 */
import { get } from "../../support/index.js";
import {
  CAP,
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_RESERVED,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_WORDS,
  descriptorType,
  DEVICE_TLB_DESC,
  ECAP,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_SELECTIVE,
  IOTLB_DESC,
  IQEI,
  PASID_CACHE_DESC,
  PASID_CACHE_DOMAIN,
  PASID_CACHE_GLOBAL,
  PASID_CACHE_PASID,
  PASID_DEVICE_TLB_DESC,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  PASID_IOTLB_PASID,
  TTM_ABORT_DMA,
  TTM_LEGACY,
  TTM_SCALABLE,
  WAIT_DESC,
} from "../spec/index.js";
import type { UnitCaches } from "./unit-caches.js";

/** What is wrong with a descriptor: the reason for IQERCD, and in words. */
export interface DescriptorProblem {
  readonly iqei: number;
  readonly text: string;
}

/** In order: none, for its number 0, and what `DescriptorRules.problem` answers. */
export const DESCRIPTOR_PROBLEMS: readonly DescriptorProblem[] = [
  { iqei: IQEI.NONE, text: "" },
  { iqei: IQEI.INVALID_TYPE, text: "no such type, or its capability is not offered" },
  { iqei: IQEI.RESERVED_FIELD, text: "reserved bits are set" },
  { iqei: IQEI.RESERVED_FIELD, text: "the granularity is reserved" },
  { iqei: IQEI.INVALID_WIDTH, text: "scalable mode needs descriptors of 256 bits (IQA.DW)" },
  { iqei: IQEI.INVALID_WIDTH, text: "descriptors of 256 bits (IQA.DW) need scalable mode (ECAP.SMTS)" },
  { iqei: IQEI.INVALID_TTM, text: "RTADDR.TTM is reserved" },
  { iqei: IQEI.INVALID_TYPE, text: "the type is scalable mode's, and RTADDR.TTM says legacy mode" },
  { iqei: IQEI.RESERVED_FIELD, text: "the address mask is larger than CAP.MAMV" },
  { iqei: IQEI.RESERVED_FIELD, text: "none of IF, SW, FN and PD is set" },
];
const NONE = 0;
const INVALID_TYPE = 1;
const RESERVED_BITS = 2;
const RESERVED_GRANULARITY = 3;
const NARROW = 4;
const WIDE = 5;
const TABLE_MODE = 6;
const WRONG_MODE = 7;
const ADDRESS_MASK = 8;
const EMPTY_WAIT = 9;

/** Types are below this; PAGE_GROUP_RESPONSE is the last one. */
const TYPES = 16;
const IOTLB = DESCRIPTOR_TYPE.IOTLB;
const WAIT = DESCRIPTOR_TYPE.WAIT;
const PASID_IOTLB = DESCRIPTOR_TYPE.PASID_IOTLB;
const PAGE_GROUP_RESPONSE = DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE;
/** Granularities that there are, a bit for each value of G; all where a type has none. */
const GRANULARITIES: Readonly<Record<number, number>> = {
  [DESCRIPTOR_TYPE.CONTEXT_CACHE]: 0b1110,
  [DESCRIPTOR_TYPE.IOTLB]: 0b1110,
  [DESCRIPTOR_TYPE.PASID_CACHE]: (1 << PASID_CACHE_DOMAIN) | (1 << PASID_CACHE_PASID) | (1 << PASID_CACHE_GLOBAL),
  [DESCRIPTOR_TYPE.PASID_IOTLB]: (1 << PASID_IOTLB_PASID) | (1 << PASID_IOTLB_PAGE),
};
const SELECTIVE = GRANULARITY_SELECTIVE << 4;
const WAITS_FOR = WAIT_DESC.IF.inPlace | WAIT_DESC.SW.inPlace | WAIT_DESC.FN.inPlace | WAIT_DESC.PD.inPlace;

const names = new Map<number, string>(
  Object.entries(DESCRIPTOR_TYPE).map(([name, type]) => [type, name.toLowerCase().replaceAll("_", "-")]),
);

/** `pasid-cache`; `type 0x2a` for one that is not defined. */
export function descriptorTypeName(type: number): string {
  return names.get(type) ?? `type 0x${type.toString(16)}`;
}

/** The capability that a type needs: ECAP bits (6.5.2). */
function offers(ecap: Int32Array, type: number): boolean {
  switch (type) {
    case DESCRIPTOR_TYPE.CONTEXT_CACHE:
    case DESCRIPTOR_TYPE.IOTLB:
    case DESCRIPTOR_TYPE.WAIT:
      return true;
    case DESCRIPTOR_TYPE.DEVICE_TLB:
      return get(ecap, ECAP.DT) !== 0;
    case DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE:
      return get(ecap, ECAP.IR) !== 0;
    case DESCRIPTOR_TYPE.PASID_IOTLB:
    case DESCRIPTOR_TYPE.PASID_CACHE:
      return get(ecap, ECAP.SMTS) !== 0;
    case DESCRIPTOR_TYPE.PASID_DEVICE_TLB:
      return get(ecap, ECAP.SMTS) !== 0 && get(ecap, ECAP.DT) !== 0;
    case DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE:
      return get(ecap, ECAP.PRS) !== 0;
    default:
      return false;
  }
}

/** Which descriptors are in order for a unit with given CAP and ECAP (two words each). */
export class DescriptorRules {
  private readonly offered = new Uint8Array(TYPES);
  private readonly reserved = new Int32Array(TYPES * DESCRIPTOR_WORDS);
  private readonly granularities = new Uint8Array(TYPES);
  private readonly largestMask: number;
  private readonly scalable: boolean;
  private readonly abortDma: boolean;

  constructor(cap: Int32Array, ecap: Int32Array) {
    this.largestMask = get(cap, CAP.MAMV);
    this.scalable = get(ecap, ECAP.SMTS) !== 0;
    this.abortDma = get(ecap, ECAP.ADMS) !== 0;
    for (let type = 0; type < TYPES; type++) {
      this.offered[type] = offers(ecap, type) ? 1 : 0;
      this.granularities[type] = GRANULARITIES[type] ?? 0b1111;
      this.reserved.set(DESCRIPTOR_RESERVED[type] ?? [0, 0, 0, 0], type * DESCRIPTOR_WORDS);
    }
    if (get(ecap, ECAP.PDS) === 0) {
      this.reserved[DESCRIPTOR_TYPE.WAIT * DESCRIPTOR_WORDS] |= WAIT_DESC.PD.inPlace;
    }
  }

  /** Why no descriptor can be done in a table mode and width (6.5.2.11, table 26; 11.4.9.9), as an index; 0: they can. */
  queueProblem(wide: boolean, mode: number): number {
    if (mode !== TTM_LEGACY && mode !== TTM_SCALABLE && (mode !== TTM_ABORT_DMA || !this.abortDma)) {
      return TABLE_MODE;
    }
    if (wide) {
      return this.scalable ? NONE : WIDE;
    }
    return mode === TTM_LEGACY ? NONE : NARROW;
  }

  /**
   * What makes a descriptor invalid where `queueProblem` finds nothing: an index of DESCRIPTOR_PROBLEMS, 0 where it
   * is in order.
   *
   * @param w0,w1,w2,w3 its first four words
   * @param upper the last four of one of 256 bits, or-ed: reserved in all types but page group responses; else 0
   * @param mode RTADDR.TTM in use
   */
  problem(w0: number, w1: number, w2: number, w3: number, upper: number, type: number, mode: number): number {
    if (type >= TYPES || this.offered[type] === 0) {
      return INVALID_TYPE;
    }
    if (mode === TTM_LEGACY && type >= PASID_IOTLB) {
      return WRONG_MODE;
    }
    const { reserved } = this;
    const at = type * DESCRIPTOR_WORDS;
    const found = (w0 & reserved[at]) | (w1 & reserved[at + 1]) | (w2 & reserved[at + 2]) | (w3 & reserved[at + 3]);
    if ((found | upper) !== 0 && (found !== 0 || type !== PAGE_GROUP_RESPONSE)) {
      return RESERVED_BITS;
    }
    // G is at the same place in all types that have it.
    if (((this.granularities[type] >>> ((w0 >>> 4) & 3)) & 1) === 0) {
      return RESERVED_GRANULARITY;
    }
    if (type === IOTLB) {
      return (w0 & SELECTIVE) === SELECTIVE && (w2 & 0x3f) > this.largestMask ? ADDRESS_MASK : NONE;
    }
    return type === WAIT && (w0 & WAITS_FOR) === 0 ? EMPTY_WAIT : NONE;
  }
}

/**
 * Does what an invalidation descriptor says to a unit's caches (Intel VT-d 5.10, 6.5.2.1 to 6.5.2.4). Whether the
 * descriptor is legal is the queue's to say; a reserved granularity changes nothing here.
 *
 * @param words the descriptor's words, from index `base` on
 * @returns whether it was one that concerns the context cache, the PASID cache or the IOTLB
 */
export function dropCached(caches: UnitCaches, words: ArrayLike<number>, base = 0): boolean {
  switch (descriptorType(words[base])) {
    case DESCRIPTOR_TYPE.CONTEXT_CACHE:
      invalidateContexts(caches, words, base);
      return true;
    case DESCRIPTOR_TYPE.PASID_CACHE:
      invalidatePasids(caches, words, base);
      return true;
    case DESCRIPTOR_TYPE.IOTLB:
      invalidateIotlb(caches, words, base);
      return true;
    case DESCRIPTOR_TYPE.PASID_IOTLB:
      invalidatePasidIotlb(caches, words, base);
      return true;
    default:
      return false;
  }
}

function invalidateContexts(caches: UnitCaches, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(caches, get(words, CONTEXT_CACHE_DESC.DID, base));
  switch (get(words, CONTEXT_CACHE_DESC.G, base)) {
    case GRANULARITY_GLOBAL:
      caches.invalidateContextGlobal();
      break;
    case GRANULARITY_DOMAIN:
      caches.invalidateContextDomain(domain);
      break;
    case GRANULARITY_SELECTIVE:
      caches.invalidateContextDevice(domain, get(words, CONTEXT_CACHE_DESC.SID, base), get(words, CONTEXT_CACHE_DESC.FM, base));
      break;
    default:
  }
}

function invalidatePasids(caches: UnitCaches, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(caches, get(words, PASID_CACHE_DESC.DID, base));
  switch (get(words, PASID_CACHE_DESC.G, base)) {
    case PASID_CACHE_GLOBAL:
      caches.invalidatePasidGlobal();
      break;
    case PASID_CACHE_DOMAIN:
      caches.invalidatePasidDomain(domain);
      break;
    case PASID_CACHE_PASID:
      caches.invalidatePasid(domain, get(words, PASID_CACHE_DESC.PASID, base));
      break;
    default:
  }
}

function invalidateIotlb(caches: UnitCaches, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(caches, get(words, IOTLB_DESC.DID, base));
  switch (get(words, IOTLB_DESC.G, base)) {
    case GRANULARITY_GLOBAL:
      caches.invalidateIotlbGlobal();
      break;
    case GRANULARITY_DOMAIN:
      caches.invalidateIotlbDomain(domain);
      break;
    case GRANULARITY_SELECTIVE:
      caches.invalidateIotlbPages(domain, words[base + 3], words[base + 2] & ~0xfff, get(words, IOTLB_DESC.AM, base));
      break;
    default:
  }
}

function invalidatePasidIotlb(caches: UnitCaches, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(caches, get(words, PASID_IOTLB_DESC.DID, base));
  const pasid = get(words, PASID_IOTLB_DESC.PASID, base);
  switch (get(words, PASID_IOTLB_DESC.G, base)) {
    case PASID_IOTLB_PASID:
      caches.invalidatePasidIotlb(domain, pasid);
      break;
    case PASID_IOTLB_PAGE:
      caches.invalidatePasidIotlbPages(
        domain,
        pasid,
        words[base + 3],
        words[base + 2] & ~0xfff,
        get(words, PASID_IOTLB_DESC.AM, base),
      );
      break;
    default:
  }
}

/**
 * log2 of the bytes that a device-TLB descriptor means, from its address on, which is aligned to them: with S set the
 * lowest clear bit from bit 12 on tells (6.5.2.5, 6.5.2.6). 64: everything, where all bits are set.
 */
export function deviceRangeBits(words: ArrayLike<number>): number {
  const { S } = descriptorType(words[0]) === DESCRIPTOR_TYPE.DEVICE_TLB ? DEVICE_TLB_DESC : PASID_DEVICE_TLB_DESC;
  if (get(words, S) === 0) {
    return 12;
  }
  let bits = 12;
  while (bits < 64 && ((bits < 32 ? words[2] >>> bits : words[3] >>> (bits - 32)) & 1) !== 0) {
    bits++;
  }
  return Math.min(64, bits + 1);
}

/** Bits of a domain id from the unit's width on are ignored (6.5.2.2). */
function domainOf(caches: UnitCaches, domain: number): number {
  return domain & ~(-1 << caches.features.domainBits);
}
