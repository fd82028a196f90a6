import { get } from "../../support/index.js";
import {
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  descriptorType,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_SELECTIVE,
  IOTLB_DESC,
  PASID_CACHE_DESC,
  PASID_CACHE_DOMAIN,
  PASID_CACHE_GLOBAL,
  PASID_CACHE_PASID,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  PASID_IOTLB_PASID,
} from "../spec/index.js";
import type { VtdTranslator } from "./vtd-translator.js";

/**
 * Does what an invalidation descriptor says to a unit's caches (Intel VT-d 5.10, 6.5.2.1 to 6.5.2.4). Whether the
 * descriptor is legal is the queue's to say; a reserved granularity changes nothing here.
 *
 * @param words the descriptor's words, from index `base` on
 * @returns whether it was one that concerns the context cache, the PASID cache or the IOTLB
 */
export function applyInvalidation(translator: VtdTranslator, words: ArrayLike<number>, base = 0): boolean {
  switch (descriptorType(words[base])) {
    case DESCRIPTOR_TYPE.CONTEXT_CACHE:
      invalidateContexts(translator, words, base);
      return true;
    case DESCRIPTOR_TYPE.PASID_CACHE:
      invalidatePasids(translator, words, base);
      return true;
    case DESCRIPTOR_TYPE.IOTLB:
      invalidateIotlb(translator, words, base);
      return true;
    case DESCRIPTOR_TYPE.PASID_IOTLB:
      invalidatePasidIotlb(translator, words, base);
      return true;
    default:
      return false;
  }
}

function invalidateContexts(translator: VtdTranslator, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(translator, get(words, CONTEXT_CACHE_DESC.DID, base));
  switch (get(words, CONTEXT_CACHE_DESC.G, base)) {
    case GRANULARITY_GLOBAL:
      translator.invalidateContextGlobal();
      break;
    case GRANULARITY_DOMAIN:
      translator.invalidateContextDomain(domain);
      break;
    case GRANULARITY_SELECTIVE:
      translator.invalidateContextDevice(domain, get(words, CONTEXT_CACHE_DESC.SID, base), get(words, CONTEXT_CACHE_DESC.FM, base));
      break;
    default:
  }
}

function invalidatePasids(translator: VtdTranslator, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(translator, get(words, PASID_CACHE_DESC.DID, base));
  switch (get(words, PASID_CACHE_DESC.G, base)) {
    case PASID_CACHE_GLOBAL:
      translator.invalidatePasidGlobal();
      break;
    case PASID_CACHE_DOMAIN:
      translator.invalidatePasidDomain(domain);
      break;
    case PASID_CACHE_PASID:
      translator.invalidatePasid(domain, get(words, PASID_CACHE_DESC.PASID, base));
      break;
    default:
  }
}

function invalidateIotlb(translator: VtdTranslator, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(translator, get(words, IOTLB_DESC.DID, base));
  switch (get(words, IOTLB_DESC.G, base)) {
    case GRANULARITY_GLOBAL:
      translator.invalidateIotlbGlobal();
      break;
    case GRANULARITY_DOMAIN:
      translator.invalidateIotlbDomain(domain);
      break;
    case GRANULARITY_SELECTIVE:
      translator.invalidateIotlbPages(domain, words[base + 3], words[base + 2] & ~0xfff, get(words, IOTLB_DESC.AM, base));
      break;
    default:
  }
}

function invalidatePasidIotlb(translator: VtdTranslator, words: ArrayLike<number>, base: number): void {
  const domain = domainOf(translator, get(words, PASID_IOTLB_DESC.DID, base));
  const pasid = get(words, PASID_IOTLB_DESC.PASID, base);
  switch (get(words, PASID_IOTLB_DESC.G, base)) {
    case PASID_IOTLB_PASID:
      translator.invalidatePasidIotlb(domain, pasid);
      break;
    case PASID_IOTLB_PAGE:
      translator.invalidatePasidIotlbPages(
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

/** Bits of a domain id from the unit's width on are ignored (6.5.2.2). */
function domainOf(translator: VtdTranslator, domain: number): number {
  return domain & ~(-1 << translator.features.domainBits);
}
