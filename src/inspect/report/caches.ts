/** What caches hold, and whether the tables still say so. */
import type { FieldReport, Hex } from "./registers.js";

/** One entry of a cache, as it is held. */
export interface CachedEntry {
  /** Id of the IOMMU that holds it; of a device's cache the IOMMU that translates for it. */
  readonly iommu: string;
  readonly side: "guest" | "host";
  /** configuration: STE, CD, context and PASID entries; tlb: translations; device: a function's ATC or device TLB. */
  readonly cache: "configuration" | "tlb" | "device";
  /** `STE`, `CD`, `context entry`, `PASID entry`, `stage 1 and 2`, `stage 2`, `translation`. */
  readonly kind: string;
  /** StreamID or source id; null: the entry is tagged otherwise. */
  readonly streamId: number | null;
  /** Host PCI address, of a device's cache; else null. */
  readonly hostFunction: string | null;
  /** SubstreamID or PASID; null: none. */
  readonly pasid: number | null;
  /** VMID and ASID, domain id: by the architecture's names; empty: none. */
  readonly tags: Readonly<Record<string, number>>;
  /** Of translations: first IOVA, log2 bytes, address that it leads to, permissions `rw-`; else null. */
  readonly iova: Hex | null;
  readonly pageBits: number | null;
  readonly output: Hex | null;
  readonly permissions: string | null;
  readonly global: boolean;
  /** Of configuration: what is kept of the words that were read, fields that the unit does not go by are zero; all zero: it is illegal. Else empty. */
  readonly words: readonly Hex[];
}

export interface CachedEntryReport extends CachedEntry {
  /** Functions of the machine that it serves, by name. */
  readonly functions: readonly string[];
  readonly fields: readonly FieldReport[];
  /** Whether a fresh read of the tables gives the same; null: cannot be told. */
  readonly agrees: boolean | null;
  /** What the tables say: `the leaf is not valid`; empty where it agrees. */
  readonly tables: string;
  /** Commands that drop it, narrowest first: `CMD_TLBI_NH_VA ASID 1, address 0x1000, leaf`. */
  readonly dropped: readonly string[];
}

/** Answer of `x-viommu-caches`. */
export interface CachesReport {
  readonly entries: readonly CachedEntryReport[];
  /** Entries beyond those told. */
  readonly more: number;
  /** What cannot be known, a line each: a real host's caches. */
  readonly unknown: readonly string[];
}
