import { stage1StartLevel, type StageTables } from "../../translation/index.js";
import { CD, get, getAddress, IDR0_TTENDIAN_BIG } from "../spec/index.js";
import { granuleOfTg0, granuleOfTg1, largestTxsz, outputBitsOf, type LookupFeatures } from "./features.js";

export const CD_OK = 0;
/** The CD raises C_BAD_CD. */
export const CD_ILLEGAL = -1;

/** What a CD means. Filled by `decodeCd`. */
export class CdView {
  /** CD_OK or CD_ILLEGAL. */
  code = CD_ILLEGAL;
  /** Why the CD is illegal, in words; else empty. */
  reason = "";
  /** ASID that tags translations. */
  asid = 0;
  /** Tables of the lower and the upper range; undefined where walks are disabled (EPD0, EPD1). */
  lower: StageTables | undefined = undefined;
  upper: StageTables | undefined = undefined;
  t0sz = 16;
  t1sz = 16;
  tbi0 = false;
  tbi1 = false;
  /** Unprivileged accesses to a range fault (E0PD0, E0PD1). */
  e0pd0 = false;
  e0pd1 = false;
  /** Stage 1 faults abort (A), are recorded (R). */
  aborts = true;
  records = false;
}

/**
 * Judges a CD reached through a legal STE (Arm IHI 0070, 5.4.2 CdIllegal(), in its order, for SMMUv3.1
 * and later). VMSAv8-32 LPAE and big-endian tables are refused as if the SMMU had no support for them.
 *
 * @param words the CD's sixteen 32-bit words, from index `base` on
 * @returns CD_OK or CD_ILLEGAL, as in `out.code`
 */
export function decodeCd(words: ArrayLike<number>, features: LookupFeatures, out: CdView, base = 0): number {
  out.lower = undefined;
  out.upper = undefined;
  const reason = cdReason(words, base, features, out);
  if (reason !== undefined) {
    out.reason = reason;
    out.lower = undefined;
    out.upper = undefined;
    return (out.code = CD_ILLEGAL);
  }
  out.reason = "";
  return (out.code = CD_OK);
}

function cdReason(words: ArrayLike<number>, base: number, features: LookupFeatures, out: CdView): string | undefined {
  if (get(words, CD.V, base) === 0) {
    return "CD.V is 0";
  }
  out.aborts = get(words, CD.A, base) !== 0;
  out.records = get(words, CD.R, base) !== 0;
  if (features.abortOnly && !out.aborts) {
    return "CD.A is 0, IDR0.TERM_MODEL is 1";
  }
  if (get(words, CD.S, base) !== 0) {
    return "CD.S is set, IDR0.STALL_MODEL has no stalls";
  }
  const uses0 = get(words, CD.EPD0, base) === 0;
  const uses1 = get(words, CD.EPD1, base) === 0;
  if ((uses0 || uses1) && (get(words, CD.ENDI, base) !== 0 || features.endianness === IDR0_TTENDIAN_BIG)) {
    return "CD.ENDI does not fit IDR0.TTENDIAN";
  }
  if (get(words, CD.AA64, base) === 0) {
    return "CD.AA64 selects VMSAv8-32 LPAE tables";
  }
  if (!features.aarch64) {
    return "CD.AA64 is set, IDR0.TTF has no VMSAv8-64";
  }
  const access = get(words, CD.HA, base);
  const dirty = get(words, CD.HD, base);
  if ((access | dirty) !== 0 && features.httu === 0) {
    return "CD.HA or HD is set, IDR0.HTTU is 0";
  }
  if (dirty !== 0 && features.httu === 1) {
    return "CD.HD is set, IDR0.HTTU has the access flag only";
  }
  const asid = get(words, CD.ASID, base);
  if (!features.asid16 && asid > 0xff) {
    return `CD.ASID is ${asid}, IDR0.ASID16 is 0`;
  }
  out.asid = asid;
  out.t0sz = get(words, CD.T0SZ, base);
  out.t1sz = get(words, CD.T1SZ, base);
  out.tbi0 = get(words, CD.TBI0, base) !== 0;
  out.tbi1 = get(words, CD.TBI1, base) !== 0;
  out.e0pd0 = features.e0pd && get(words, CD.E0PD0, base) !== 0;
  out.e0pd1 = features.e0pd && get(words, CD.E0PD1, base) !== 0;
  const accessFlagFaultsDisabled = get(words, CD.AFFD, base) !== 0 || access !== 0;
  if (uses0) {
    const tables = rangeTables(words, base, 0, features, accessFlagFaultsDisabled);
    if (typeof tables === "string") {
      return tables;
    }
    out.lower = tables;
  }
  if (uses1) {
    const tables = rangeTables(words, base, 1, features, accessFlagFaultsDisabled);
    if (typeof tables === "string") {
      return tables;
    }
    out.upper = tables;
  }
  return undefined;
}

/** Tables of one of the two ranges, or why the CD is illegal. */
function rangeTables(
  words: ArrayLike<number>,
  base: number,
  range: 0 | 1,
  features: LookupFeatures,
  accessFlagFaultsDisabled: boolean,
): StageTables | string {
  const granuleBits =
    range === 0 ? granuleOfTg0(get(words, CD.TG0, base), features) : granuleOfTg1(get(words, CD.TG1, base), features);
  if (granuleBits === 0) {
    return `CD.TG${range} is reserved or not supported`;
  }
  const txsz = get(words, range === 0 ? CD.T0SZ : CD.T1SZ, base);
  if (txsz < 16 || txsz > largestTxsz(granuleBits, features)) {
    return `CD.T${range}SZ is ${txsz}`;
  }
  const outputBits = outputBitsOf(get(words, CD.IPS, base), granuleBits, features);
  const tableBase = getAddress(words, range === 0 ? CD.TTB0 : CD.TTB1, base);
  if (tableBase >= 2 ** outputBits) {
    return `CD.TTB${range} is beyond ${outputBits} bits`;
  }
  return {
    granuleBits,
    inputBits: 64 - txsz,
    startLevel: stage1StartLevel(granuleBits, 64 - txsz),
    baseHigh: Math.floor(tableBase / 0x1_0000_0000),
    baseLow: tableBase | 0,
    outputBits,
    accessFlagFaultsDisabled,
    hierarchicalDisabled: features.hierarchicalDisable && get(words, range === 0 ? CD.HAD0 : CD.HAD1, base) !== 0,
    writeImpliesNoExecute: get(words, CD.WXN, base) !== 0,
    privilegedAccessNever: get(words, CD.PAN, base) !== 0,
    executeNeverPerPrivilege: false,
    protectedTableWalk: false,
  };
}
