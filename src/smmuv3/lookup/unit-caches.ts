import { Tlb } from "../../translation/index.js";
import { type CachedStream, ConfigurationCache } from "./configuration-cache.js";
import type { LookupFeatures } from "./features.js";
import { applyTlbi } from "./tlb-commands.js";

export interface UnitCachesOptions {
  /** Entries of the TLB, a power of two; default 4096. */
  readonly tlbEntries?: number;
  /** STEs and CDs that the configuration caches hold; defaults 1024 and 4096. */
  readonly streams?: number;
  readonly contexts?: number;
}

/** What an SMMU has cached, and what drops it (Arm IHI 0070, 3.21.3, 4.3 and 4.4). */
export class UnitCaches {
  readonly tlb: Tlb;
  protected readonly cache: ConfigurationCache;

  constructor(
    readonly features: LookupFeatures,
    options: UnitCachesOptions,
  ) {
    this.tlb = new Tlb(options.tlbEntries ?? 4096);
    this.cache = new ConfigurationCache(options.streams ?? 1024, options.contexts ?? 4096);
  }

  /** CMD_CFGI_STE. L1STDs are not cached: the leaf form does the same. */
  invalidateSte(sid: number): void {
    this.cache.drop(sid);
  }

  /** CMD_CFGI_STE_RANGE: the 2^(range + 1) StreamIDs around `sid` that differ in the low bits only (4.3.2); CMD_CFGI_ALL is range 31. */
  invalidateSteRange(sid: number, range: number): void {
    this.cache.dropBlock(sid, range + 1);
  }

  /** CMD_CFGI_CD. L1CDs are not cached: the leaf form does the same. */
  invalidateCd(sid: number, ssid: number): void {
    this.cache.dropCd(sid, ssid);
  }

  /** CMD_CFGI_CD_ALL. */
  invalidateCds(sid: number): void {
    this.cache.dropCdsOf(sid);
  }

  /** CMD_TLBI_*, given as its four words from index `base` on. Returns false where it is no TLB invalidation. */
  tlbi(command: ArrayLike<number>, base = 0): boolean {
    return applyTlbi(this.tlb, this.features, command, base);
  }

  /** STEs with their CDs, by StreamID, for who looks. */
  heldStreams(): IterableIterator<[number, CachedStream]> {
    return this.cache.pairs();
  }

  /** Forgets everything cached: what a reset does. */
  reset(): void {
    this.cache.dropAll();
    this.tlb.invalidateAll();
  }
}
