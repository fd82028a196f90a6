/** What a unit's caches hold, for who looks at them. */
import { toBigInt } from "../support/index.js";
import type { Tlb } from "./tlb.js";
import { PERM_EXECUTE, PERM_PRIVILEGED_SHIFT, PERM_READ, PERM_WRITE } from "./types.js";

/** An entry of a cache of a translation unit. Addresses in bytes. */
export interface HeldEntry {
  readonly cache: "configuration" | "tlb";
  /** What it is of, in words: `STE`, `stage 1 and 2`. */
  readonly kind: string;
  /** StreamID or source id; null: it is tagged otherwise. */
  readonly sourceId: number | null;
  readonly pasid: number | null;
  /** VMID, ASID, domain id, by the architecture's names. */
  readonly tags: Readonly<Record<string, number>>;
  /** Of a TLB; else null. */
  readonly translation: HeldTranslation | null;
  /** It holds for every ASID of its VMID. */
  readonly global: boolean;
  /** Of configuration, as 64-bit words: what is kept of those that were read. Fields that the unit does not go by are zero. */
  readonly words: readonly bigint[];
}

export interface HeldTranslation {
  /** First input address. */
  readonly iova: bigint;
  readonly pageBits: number;
  readonly output: bigint;
  /** `rw-`, and those of privileged accesses where they differ: `r--, privileged rw-`. */
  readonly permissions: string;
}

/** PERM_* in words. */
export function permissionText(permissions: number): string {
  const letters = (bits: number): string => `${(bits & PERM_READ) === 0 ? "-" : "r"}${(bits & PERM_WRITE) === 0 ? "-" : "w"}${(bits & PERM_EXECUTE) === 0 ? "-" : "x"}`;
  const [usual, privileged] = [letters(permissions), letters(permissions >>> PERM_PRIVILEGED_SHIFT)];
  return usual === privileged ? usual : `${usual}, privileged ${privileged}`;
}

/** A structure's 32-bit words as 64-bit ones. */
export function wideWords(words: Int32Array): bigint[] {
  return Array.from({ length: words.length / 2 }, (_unused, n) => toBigInt(words[2 * n + 1], words[2 * n]));
}

/** What a TLB still hits, tagged by VMID and ASID, or domain id and PASID. */
export function* heldTranslations(tlb: Tlb): Generator<{ readonly vmid: number; readonly asid: number; readonly global: boolean; readonly translation: HeldTranslation }> {
  for (const entry of tlb.held()) {
    const { vmid, asid, global, pageBits } = entry;
    const translation = { iova: toBigInt(entry.high, entry.low), pageBits, output: toBigInt(entry.outHigh, entry.outLow), permissions: permissionText(entry.permissions) };
    yield { vmid, asid, global, translation };
  }
}
