/** An STE and a CD out of what an SMMU keeps of them: the fields that it goes by, the others zero. Equal words mean the same to it. */
import { stage2StartLevel, type StageTables } from "../../translation/index.js";
import { buildCd, buildSte, CD_WORDS, oasCode, STE_CONFIG_ABORT, STE_S1FMT_4K_L2, STE_S1FMT_64K_L2, STE_S1FMT_LINEAR, STE_WORDS, TG0_16K, TG0_4K, TG0_64K, TG1_16K, TG1_4K, TG1_64K } from "../spec/index.js";
import { CD_OK, type CdView } from "./cd-view.js";
import { STE_ILLEGAL, type SteView } from "./ste-view.js";

/** Sixteen words; all zero: it is illegal. */
export function keptSte(view: SteView): Int32Array {
  if (view.kind === STE_ILLEGAL) {
    return new Int32Array(STE_WORDS);
  }
  if (view.kind <= STE_CONFIG_ABORT) {
    return buildSte({ V: 1, CONFIG: STE_CONFIG_ABORT });
  }
  const { stage2 } = view;
  return buildSte({
    V: 1,
    CONFIG: view.kind,
    S1FMT: view.cdSplit === 6 ? STE_S1FMT_4K_L2 : view.cdSplit === 10 ? STE_S1FMT_64K_L2 : STE_S1FMT_LINEAR,
    S1CONTEXTPTR: view.contextPointer,
    S1CDMAX: view.cdBits,
    S1DSS: view.defaultSubstream,
    EATS: view.eats,
    PRIVCFG: view.privileged,
    INSTCFG: view.instruction,
    S2VMID: view.vmid,
    ...(stage2 === undefined
      ? {}
      : {
          S2T0SZ: 64 - stage2.inputBits,
          S2SL0: startLevelCode(stage2),
          S2TG: { 12: TG0_4K, 14: TG0_16K, 16: TG0_64K }[stage2.granuleBits],
          S2PS: oasCode(stage2.outputBits),
          S2AA64: 1,
          S2AFFD: stage2.accessFlagFaultsDisabled,
          S2PTW: stage2.protectedTableWalk,
          S2R: view.stage2Records,
          S2TTB: baseOf(stage2),
        }),
  });
}

/** Sixteen words; all zero: it is illegal. */
export function keptCd(view: CdView): Int32Array {
  if (view.code !== CD_OK) {
    return new Int32Array(CD_WORDS);
  }
  const { lower, upper } = view;
  const either = lower ?? upper;
  return buildCd({
    V: 1,
    AA64: 1,
    A: view.aborts,
    R: view.records,
    ASID: view.asid,
    T0SZ: view.t0sz,
    T1SZ: view.t1sz,
    TBI0: view.tbi0,
    TBI1: view.tbi1,
    E0PD0: view.e0pd0,
    E0PD1: view.e0pd1,
    EPD0: lower === undefined,
    EPD1: upper === undefined,
    ...(either === undefined ? {} : { IPS: oasCode(either.outputBits), AFFD: either.accessFlagFaultsDisabled, WXN: either.writeImpliesNoExecute, PAN: either.privilegedAccessNever }),
    ...(lower === undefined ? {} : { TG0: { 12: TG0_4K, 14: TG0_16K, 16: TG0_64K }[lower.granuleBits], HAD0: lower.hierarchicalDisabled, TTB0: baseOf(lower) }),
    ...(upper === undefined ? {} : { TG1: { 12: TG1_4K, 14: TG1_16K, 16: TG1_64K }[upper.granuleBits], HAD1: upper.hierarchicalDisabled, TTB1: baseOf(upper) }),
  });
}

function baseOf({ baseHigh, baseLow }: StageTables): number {
  return baseHigh * 0x1_0000_0000 + (baseLow >>> 0);
}

/** S2SL0 of a start level (5.2). */
function startLevelCode({ granuleBits, inputBits, startLevel }: StageTables): number {
  return [0, 1, 2].find((code) => stage2StartLevel(granuleBits, code, inputBits, 48) === startLevel) ?? 0;
}
