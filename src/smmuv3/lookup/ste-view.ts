import { stage2StartLevel, type StageTables } from "../../translation/index.js";
import {
  get,
  getAddress,
  IDR0_TTENDIAN_BIG,
  OVERRIDE_CLEAR,
  STE,
  STE_CONFIG_ABORT,
  STE_CONFIG_BYPASS,
  STE_CONFIG_NESTED,
  STE_EATS_ABORT,
  STE_EATS_S1CHK,
  STE_S1FMT_4K_L2,
  STE_S1FMT_64K_L2,
} from "../spec/index.js";
import { granuleOfTg0, largestTxsz, outputBitsOf, type LookupFeatures } from "./features.js";

/** `decodeSte`'s answer for an STE that raises C_BAD_STE; every other answer is a STE_CONFIG_* value. */
export const STE_ILLEGAL = -1;

/** What an STE means. Filled by `decodeSte`; fields that the configuration ignores hold their resting value. */
export class SteView {
  /** STE_ILLEGAL, STE_CONFIG_ABORT, _BYPASS, _S1, _S2 or _NESTED. */
  kind: number = STE_CONFIG_ABORT;
  /** Why the STE is illegal, in words; else empty. */
  reason = "";
  /** log2 of the number of CDs; 0 where substreams are disabled or not supported. */
  cdBits = 0;
  /** Bits of the SubstreamID that index a leaf table of a two-level CD table; 0 for a linear one. */
  cdSplit = 0;
  /** S1ContextPtr: an IPA with stage 2, else physical; not aligned to the table yet. Bytes. */
  contextPointer = 0;
  /** STE_S1DSS_*; only where cdBits is not 0. */
  defaultSubstream = 0;
  /** STE_EATS_*; 0 also where it is ignored. STE_EATS_S1CHK is as 0 while CR0.ATSCHK is 0. */
  eats = STE_EATS_ABORT;
  /** 0 for the incoming attribute, else OVERRIDE_CLEAR or OVERRIDE_SET. */
  privileged = 0;
  instruction = 0;
  /** VMID that tags translations; 0 where S2VMID is ignored. */
  vmid = 0;
  /** Stage 2's tables; undefined where stage 2 bypasses. */
  stage2: StageTables | undefined = undefined;
  /** Stage 2 faults are recorded (S2R). */
  stage2Records = false;
}

/**
 * Classifies an STE of the Non-secure stream table, once for the software path, the simulated hardware
 * and the acceleration (Arm IHI 0070, 5.2.2 SteIllegal(), in its order, for SMMUv3.1 and later).
 *
 * STE.STRW is ignored (IDR0.HYP is 0): every stream is of EL1. Two things are refused as if the SMMU had no support
 * for them, since no tables of the kind are walked: VMSAv8-32 LPAE and big-endian stage-2 tables.
 *
 * @param words the STE's sixteen 32-bit words, from index `base` on
 * @returns STE_ILLEGAL or STE_CONFIG_*, as in `out.kind`
 */
export function decodeSte(words: ArrayLike<number>, features: LookupFeatures, out: SteView, base = 0): number {
  out.reason = "";
  out.cdBits = 0;
  out.cdSplit = 0;
  out.contextPointer = 0;
  out.defaultSubstream = 0;
  out.eats = STE_EATS_ABORT;
  out.privileged = 0;
  out.instruction = 0;
  out.vmid = 0;
  out.stage2 = undefined;
  out.stage2Records = false;

  if (get(words, STE.V, base) === 0) {
    return illegal(out, "STE.V is 0");
  }
  const config = get(words, STE.CONFIG, base);
  if ((config & 4) === 0) {
    return (out.kind = STE_CONFIG_ABORT);
  }
  const translates1 = (config & 1) !== 0;
  const translates2 = (config & 2) !== 0;
  if (translates1 && !features.stage1) {
    return illegal(out, "STE.Config enables stage 1, IDR0.S1P is 0");
  }
  if (translates2 && !features.stage2) {
    return illegal(out, "STE.Config enables stage 2, IDR0.S2P is 0");
  }
  const reason =
    atsReason(words, base, config, features, out) ??
    (translates1 ? stage1Reason(words, base, translates2, features, out) : undefined) ??
    (translates2 ? stage2Reason(words, base, features, out) : undefined) ??
    vmidReason(words, base, config, features, out);
  if (reason !== undefined) {
    return illegal(out, reason);
  }
  if (features.permissionOverrides) {
    const privileged = get(words, STE.PRIVCFG, base);
    const instruction = get(words, STE.INSTCFG, base);
    out.privileged = privileged < OVERRIDE_CLEAR ? 0 : privileged;
    out.instruction = instruction < OVERRIDE_CLEAR ? 0 : instruction;
  }
  return (out.kind = config);
}

function illegal(out: SteView, reason: string): number {
  out.reason = reason;
  out.stage2 = undefined;
  return (out.kind = STE_ILLEGAL);
}

/** 5.2 STE.EATS: ignored without ATS and where both stages bypass. */
function atsReason(words: ArrayLike<number>, base: number, config: number, features: LookupFeatures, out: SteView): string | undefined {
  if (!features.ats || config === STE_CONFIG_BYPASS) {
    return undefined;
  }
  const eats = get(words, STE.EATS, base);
  if (eats === STE_EATS_S1CHK && (config !== STE_CONFIG_NESTED || features.noSplitStageAts)) {
    return "STE.EATS selects split-stage ATS without nested translation or with IDR0.NS1ATS";
  }
  // 0b11 needs IDR3.DPT, without which it behaves as 0b00.
  out.eats = eats === 3 ? STE_EATS_ABORT : eats;
  return undefined;
}

function stage1Reason(
  words: ArrayLike<number>,
  base: number,
  nested: boolean,
  features: LookupFeatures,
  out: SteView,
): string | undefined {
  if (get(words, STE.S1STALLD, base) !== 0) {
    return "STE.S1STALLD is set, IDR0.STALL_MODEL does not offer both models";
  }
  if (features.ssidBits !== 0) {
    const cdBits = get(words, STE.S1CDMAX, base);
    if (cdBits > features.ssidBits) {
      return `STE.S1CDMax is ${cdBits}, IDR1.SSIDSIZE ${features.ssidBits}`;
    }
    if (cdBits !== 0) {
      const format = get(words, STE.S1FMT, base);
      const split = format === STE_S1FMT_4K_L2 ? 6 : format === STE_S1FMT_64K_L2 ? 10 : 0;
      if (split !== 0 && !features.twoLevelCd) {
        return "STE.S1Fmt selects a two-level table, IDR0.CD2L is 0";
      }
      out.cdBits = cdBits;
      out.cdSplit = split;
      out.defaultSubstream = get(words, STE.S1DSS, base);
    }
  }
  out.contextPointer = getAddress(words, STE.S1CONTEXTPTR, base);
  // 3.4.3: an IPA with stage 2, a physical address without.
  const bits = nested ? features.inputBits : features.outputBits;
  if (out.contextPointer >= 2 ** bits) {
    return `STE.S1ContextPtr is beyond ${bits} bits`;
  }
  return undefined;
}

function stage2Reason(words: ArrayLike<number>, base: number, features: LookupFeatures, out: SteView): string | undefined {
  out.stage2Records = get(words, STE.S2R, base) !== 0;
  if (get(words, STE.S2S, base) !== 0) {
    return "STE.S2S is set, IDR0.STALL_MODEL has no stalls";
  }
  if (get(words, STE.S2AA64, base) === 0) {
    return "STE.S2AA64 selects VMSAv8-32 LPAE tables";
  }
  if (!features.aarch64) {
    return "STE.S2AA64 is set, IDR0.TTF has no VMSAv8-64";
  }
  const access = get(words, STE.S2HA, base);
  const dirty = get(words, STE.S2HD, base);
  if ((access | dirty) !== 0 && features.httu === 0) {
    return "STE.S2HA or S2HD is set, IDR0.HTTU is 0";
  }
  if (dirty !== 0 && features.httu === 1) {
    return "STE.S2HD is set, IDR0.HTTU has the access flag only";
  }
  const granuleBits = granuleOfTg0(get(words, STE.S2TG, base), features);
  if (granuleBits === 0) {
    return "STE.S2TG is reserved or not supported";
  }
  const outputBits = outputBitsOf(get(words, STE.S2PS, base), granuleBits, features);
  const tableBase = getAddress(words, STE.S2TTB, base);
  if (tableBase >= 2 ** outputBits) {
    return `STE.S2TTB is beyond ${outputBits} bits`;
  }
  const txsz = get(words, STE.S2T0SZ, base);
  if (txsz < Math.max(granuleBits === 16 ? 12 : 16, 64 - features.inputBits) || txsz > largestTxsz(granuleBits, features)) {
    return `STE.S2T0SZ is ${txsz}`;
  }
  const startLevel = stage2StartLevel(granuleBits, get(words, STE.S2SL0, base), 64 - txsz, features.outputBits);
  if (startLevel < 0) {
    return "STE.S2SL0 does not fit S2T0SZ and S2TG";
  }
  if (get(words, STE.S2ENDI, base) !== 0 || features.endianness === IDR0_TTENDIAN_BIG) {
    return "STE.S2ENDI does not fit IDR0.TTENDIAN";
  }
  out.stage2 = {
    granuleBits,
    inputBits: 64 - txsz,
    startLevel,
    baseHigh: Math.floor(tableBase / 0x1_0000_0000),
    baseLow: tableBase | 0,
    outputBits,
    accessFlagFaultsDisabled: get(words, STE.S2AFFD, base) !== 0 || access !== 0,
    hierarchicalDisabled: true,
    writeImpliesNoExecute: false,
    privilegedAccessNever: false,
    executeNeverPerPrivilege: features.executeNeverPerPrivilege,
    protectedTableWalk: get(words, STE.S2PTW, base) !== 0,
  };
  return undefined;
}

/** 5.2 STE.S2VMID: tags translations, where there is a stage 2 at all. */
function vmidReason(words: ArrayLike<number>, base: number, config: number, features: LookupFeatures, out: SteView): string | undefined {
  if (!features.stage2 || config === STE_CONFIG_BYPASS) {
    return undefined;
  }
  out.vmid = get(words, STE.S2VMID, base);
  return !features.vmid16 && out.vmid > 0xff ? `STE.S2VMID is ${out.vmid}, IDR0.VMID16 is 0` : undefined;
}
