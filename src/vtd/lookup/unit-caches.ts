import { NO_ASID, Tlb } from "../../translation/index.js";
import { highBeyond, type VtdFeatures } from "./features.js";
import type { PasidView } from "./pasid-entry.js";
import { type CachedContext, type CachedPasid, ContextCache, PasidCache } from "./structure-caches.js";

export interface UnitCachesOptions {
  /** Entries of the IOTLB, a power of two; default 4096. */
  readonly tlbEntries?: number;
  /** Entries of the context cache and of the PASID cache; defaults 1024 and 4096. */
  readonly contexts?: number;
  readonly pasids?: number;
}

/** Bits of an IOTLB tag above the PASID: controls of a PASID entry that are no property of the tables. */
const TAG_WRITE_PROTECT = 1 << 20;
const TAG_EXECUTE_DISABLE = 1 << 21;

/** What tags a PASID entry's translations beside its domain id: its PASID, and controls that other entries of the same tables need not share. */
export function tagOf(pasid: number, view: PasidView): number {
  return (
    pasid |
    (view.supervisor && view.writeProtect ? TAG_WRITE_PROTECT : 0) |
    (view.executeDisable ? TAG_EXECUTE_DISABLE : 0)
  );
}

/**
 * What a remapping unit has cached, and what drops it (Intel VT-d 5.10, 6.2 and 6.5).
 *
 * The IOTLB is tagged by domain id and PASID (second-stage translations by the domain id alone): software gives
 * entries of the same tags the same tables (6.2.2.1, 6.2.3.1).
 */
export class UnitCaches {
  readonly tlb: Tlb;
  protected readonly contexts: ContextCache;
  protected readonly pasids: PasidCache;
  /** Differences of the tags of one PASID; the first is 0. */
  private readonly tagVariants: readonly number[];

  constructor(
    readonly features: VtdFeatures,
    options: UnitCachesOptions,
  ) {
    this.tlb = new Tlb(options.tlbEntries ?? 4096, 1024, 57);
    this.contexts = new ContextCache(options.contexts ?? 1024);
    this.pasids = new PasidCache(options.pasids ?? 4096);
    const supervisors = features.supervisorRequests ? [0, TAG_WRITE_PROTECT] : [0];
    this.tagVariants = features.executeRequests ? supervisors.flatMap((tag) => [tag, tag | TAG_EXECUTE_DISABLE]) : supervisors;
  }

  /** Context entries and PASID entries held. */
  get contextCount(): number {
    return this.contexts.size;
  }

  get pasidCount(): number {
    return this.pasids.size;
  }

  /** Context entries by requester id, and PASID entries, for who looks. */
  heldContexts(): IterableIterator<[number, CachedContext]> {
    return this.contexts.pairs();
  }

  heldPasids(): Generator<CachedPasid> {
    return this.pasids.held();
  }

  /** All context entries. */
  invalidateContextGlobal(): void {
    this.contexts.dropAll();
  }

  /** Those of a domain; in scalable mode all (6.5.2.1). */
  invalidateContextDomain(domain: number): void {
    this.contexts.dropDomain(domain);
  }

  /**
   * Those of a requester, in legacy mode where they are of the domain.
   *
   * @param functionMask FM: 0 to 3, how many of the function number's bits, from bit 2 down, do not count (table 21)
   */
  invalidateContextDevice(domain: number, requesterId: number, functionMask: number): void {
    this.contexts.dropDevice(domain, requesterId, hiddenFunctionBits(functionMask));
  }

  /** All PASID entries; those of a domain; those of a domain and PASID (6.5.2.2). */
  invalidatePasidGlobal(): void {
    this.pasids.dropAll();
  }

  invalidatePasidDomain(domain: number): void {
    this.pasids.dropDomain(domain);
  }

  invalidatePasid(domain: number, pasid: number): void {
    this.pasids.dropPasid(domain, pasid);
  }

  invalidateIotlbGlobal(): void {
    this.tlb.invalidateAll();
  }

  invalidateIotlbDomain(domain: number): void {
    this.tlb.invalidateVmid(domain);
  }

  /**
   * Second-stage translations of the 2^`addressMask` pages around an address, and all of the domain that a first
   * stage had a part in (table 23). There is no cache of tables that the invalidation hint could preserve.
   */
  invalidateIotlbPages(domain: number, high: number, low: number, addressMask: number): void {
    const within = ~highBeyond(this.features.guestAddressBits);
    const highMask = highPageMask(addressMask) & within;
    const lowMask = lowPageMask(addressMask);
    this.tlb.invalidateIpaRange(domain, high & within & ~highMask, low & ~lowMask, (high & within) | highMask, low | lowMask);
  }

  /** All translations of a domain and PASID; second-stage ones of the domain too, as they do not tell their PASID (table 24). */
  invalidatePasidIotlb(domain: number, pasid: number): void {
    for (const variant of this.tagVariants) {
      this.tlb.invalidateAsid(domain, pasid | variant);
    }
    this.tlb.invalidateAsid(domain, NO_ASID);
  }

  /** First-stage and nested translations of a domain and PASID, of the 2^`addressMask` pages around an address. */
  invalidatePasidIotlbPages(domain: number, pasid: number, high: number, low: number, addressMask: number): void {
    const highMask = highPageMask(addressMask);
    const lowMask = lowPageMask(addressMask);
    for (const variant of this.tagVariants) {
      this.tlb.invalidateRange(domain, pasid | variant, high & ~highMask, low & ~lowMask, high | highMask, low | lowMask);
    }
  }

  /** Forgets everything cached: what a reset does, and SRTP with CAP.ESRTPS. */
  reset(): void {
    this.contexts.dropAll();
    this.pasids.dropAll();
    this.tlb.invalidateAll();
  }
}

/** Bits of a function number that FM of a context-cache invalidation hides, from its highest on (6.5.2.1): none, 2, 2:1, 2:0. */
export function hiddenFunctionBits(functionMask: number): number {
  return 7 & ~(7 >>> functionMask);
}

/** High-word bits of an address within 2^`addressMask` pages. */
function highPageMask(addressMask: number): number {
  return addressMask >= 52 ? -1 : addressMask <= 20 ? 0 : (1 << (addressMask - 20)) - 1;
}

/** The same of its low word. */
function lowPageMask(addressMask: number): number {
  return addressMask >= 20 ? -1 : (1 << (12 + addressMask)) - 1;
}
