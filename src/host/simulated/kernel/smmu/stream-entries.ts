/**
 * The stream table entries that the kernel's driver writes, and what it takes of a guest's entry
 * (Arm IHI 0070, 5.2; Linux arm_smmu_make_*_ste and arm_smmu_validate_vste).
 */
import {
  buildCd,
  buildSte,
  get,
  oasCode,
  put,
  STE,
  STE_CONFIG_ABORT,
  STE_CONFIG_BYPASS,
  STE_CONFIG_NESTED,
  STE_CONFIG_S1,
  STE_CONFIG_S2,
  STE_EATS_ABORT,
  STE_EATS_FULL,
  STE_S1DSS_BYPASS,
  STE_S1DSS_SSID0,
  STE_S1DSS_TERMINATE,
  STE_SHCFG_INCOMING,
  STE_WORDS,
} from "../../../../smmuv3/spec/index.js";
import type { ContextTable } from "./context-table.js";
import type { PageTable } from "../page-table.js";
import type { SmmuFeatures } from "./features.js";

/** Write-back, read- and write-allocate; inner shareable. */
const WBRA = 1;
const INNER_SHAREABLE = 3;

/** MAIR of the kernel's stage-1 tables: 0 Normal-NC, 1 Normal-WB, 2 Device-nGnRE. */
const MAIR0 = 0x0004_ff44;

/** All transactions abort, without an event. */
export function abortEntry(): Int32Array {
  return buildSte({ V: 1, CONFIG: STE_CONFIG_ABORT });
}

/** The kernel's own stage 1: a table of Context Descriptors. */
export function stage1Entry(
  features: SmmuFeatures,
  contexts: ContextTable,
  ats: boolean,
  withoutSubstream: "ssid0" | "terminate" | "bypass" = "ssid0",
): Int32Array {
  const dss = { ssid0: STE_S1DSS_SSID0, terminate: STE_S1DSS_TERMINATE, bypass: STE_S1DSS_BYPASS };
  return buildSte({
    V: 1,
    CONFIG: STE_CONFIG_S1,
    S1FMT: contexts.format,
    S1CONTEXTPTR: contexts.base,
    S1CDMAX: contexts.substreamBits,
    S1DSS: dss[withoutSubstream],
    S1CIR: WBRA,
    S1COR: WBRA,
    S1CSH: INNER_SHAREABLE,
    S1STALLD: features.stallOptional,
    EATS: ats ? STE_EATS_FULL : STE_EATS_ABORT,
    SHCFG: features.attributeOverride ? STE_SHCFG_INCOMING : 0,
  });
}

/** Stage 2 alone. */
export function stage2Entry(
  features: SmmuFeatures,
  table: PageTable,
  vmid: number,
  ats: boolean,
  dirty: boolean,
): Int32Array {
  return buildSte({
    V: 1,
    CONFIG: STE_CONFIG_S2,
    EATS: ats ? STE_EATS_FULL : STE_EATS_ABORT,
    S2FWB: features.forceWriteBack,
    SHCFG: features.attributeOverride ? STE_SHCFG_INCOMING : 0,
    S2VMID: vmid,
    S2T0SZ: 64 - table.inputBits,
    // 5.2, S2SL0 with 4 KiB granules: 2 starts at level 0, 1 at level 1.
    S2SL0: 2 - table.startLevel,
    S2IR0: WBRA,
    S2OR0: WBRA,
    S2SH0: INNER_SHAREABLE,
    S2TG: 0,
    S2PS: oasCode(features.outputBits),
    S2AA64: 1,
    S2PTW: 1,
    S2R: 1,
    S2HA: dirty,
    S2HD: dirty,
    S2TTB: table.root,
  });
}

/** The Context Descriptor of a stage-1 domain of the kernel. */
export function stage1Context(features: SmmuFeatures, table: PageTable, asid: number, dirty: boolean): Int32Array {
  return buildCd({
    V: 1,
    T0SZ: 64 - table.inputBits,
    TG0: 0,
    IR0: WBRA,
    OR0: WBRA,
    SH0: INNER_SHAREABLE,
    EPD1: 1,
    IPS: oasCode(features.outputBits),
    AA64: 1,
    HA: dirty,
    HD: dirty,
    R: 1,
    A: 1,
    ASET: 1,
    ASID: asid,
    TTB0: table.root,
    MAIR0,
  });
}

/** Words 0 to 3 of a guest's entry as the kernel keeps them. */
export interface GuestEntry {
  readonly words: Int32Array;
  readonly config: "translate" | "bypass" | "abort" | "invalid";
  /** The guest wants ATS: it will send the invalidations of the function's cache. */
  readonly ats: boolean;
}

/** The fields that a guest may set, by 32-bit word. */
const ALLOWED = ((): Int32Array => {
  const mask = new Int32Array(4);
  for (const name of ["V", "CONFIG", "S1FMT", "S1CDMAX", "S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "EATS"] as const) {
    mask[STE[name].word] |= STE[name].inPlace;
  }
  // S1ContextPtr is bits 51:6 of the first double word: the kernel takes no 56-bit addresses.
  mask[0] |= ~0x3f;
  mask[1] |= 0xf_ffff;
  return mask;
})();

/**
 * Classifies the first two double words of a guest's entry (four words); null where they are not legal or
 * have a field that is not allowed (EIO).
 */
export function readGuestEntry(words: Int32Array): GuestEntry | null {
  if (get(words, STE.V) === 0) {
    return { words: new Int32Array(4), config: "invalid", ats: false };
  }
  for (let i = 0; i < 4; i++) {
    if ((words[i] & ~ALLOWED[i]) !== 0) {
      return null;
    }
  }
  const config = get(words, STE.CONFIG);
  const eats = get(words, STE.EATS);
  if (config !== STE_CONFIG_ABORT && config !== STE_CONFIG_BYPASS && config !== STE_CONFIG_S1) {
    return null;
  }
  if (eats !== STE_EATS_ABORT && eats !== STE_EATS_FULL) {
    return null;
  }
  const kept = Int32Array.from(words.subarray(0, 4));
  put(kept, STE.EATS, 0);
  return {
    words: kept,
    config: config === STE_CONFIG_S1 ? "translate" : config === STE_CONFIG_BYPASS ? "bypass" : "abort",
    ats: config === STE_CONFIG_S1 && eats === STE_EATS_FULL,
  };
}

/** The physical entry for a guest's entry on top of a stage-2 entry. */
export function nestedEntry(guest: GuestEntry, stage2: Int32Array): Int32Array {
  if (guest.config === "bypass") {
    return stage2;
  }
  if (guest.config !== "translate") {
    return abortEntry();
  }
  const entry = new Int32Array(STE_WORDS);
  entry.set(stage2);
  entry[0] = guest.words[0];
  entry[1] = guest.words[1];
  put(entry, STE.CONFIG, STE_CONFIG_NESTED);
  entry[2] |= guest.words[2];
  entry[3] |= guest.words[3];
  // Events are merged, so that one guest cannot flood the queue of all.
  put(entry, STE.MEV, 1);
  return entry;
}
