import { get, getAddress } from "../../support/index.js";
import {
  FAULT,
  FSPM_5_LEVELS,
  PASID_DIRECTORY,
  PASID_ENTRY,
  PGTT_FIRST_STAGE,
  PGTT_NESTED,
  PGTT_PASS_THROUGH,
  PGTT_SECOND_STAGE,
} from "../spec/index.js";
import type { X86Tables } from "../../translation/index.js";
import { pointerReserved, supportsWidth, zero } from "./context-entry.js";
import { highBeyond, isBeyond, lowBeyond, type VtdFeatures } from "./features.js";
import { firstStageTables, guestWidth, secondStageTables } from "./stage-tables.js";

/** What a PASID directory entry means. */
export class DirectoryView {
  /** 0, or why there is no PASID table: a FAULT reason. */
  reason = 0;
  faultsDisabled = false;
  /** Base of the PASID table (bytes). */
  table = 0;
}

/**
 * Judges a PASID directory entry (Intel VT-d 5.10, 9.5; conditions SPD.2, SPD.3).
 *
 * @param words the entry's two 32-bit words, from index `base` on
 * @returns 0 or a fault reason, as in `out.reason`
 */
export function decodeDirectory(words: ArrayLike<number>, features: VtdFeatures, out: DirectoryView, base = 0): number {
  out.faultsDisabled = get(words, PASID_DIRECTORY.FPD, base) !== 0;
  out.table = 0;
  if (get(words, PASID_DIRECTORY.P, base) === 0) {
    return (out.reason = FAULT.SM_DIRECTORY_NOT_PRESENT);
  }
  if (pointerReserved(words, base, 0xffc, features)) {
    return (out.reason = FAULT.SM_DIRECTORY_RESERVED);
  }
  out.table = getAddress(words, PASID_DIRECTORY.SMPTBLPTR, base);
  return (out.reason = 0);
}

/** Kinds of PASID entries: what `classifyPasidEntry` answers. The positive ones are PGTT's values. */
export const PASID_INVALID = -1;
export const PASID_NOT_PRESENT = 0;
export const PASID_FIRST_STAGE = PGTT_FIRST_STAGE;
export const PASID_SECOND_STAGE = PGTT_SECOND_STAGE;
export const PASID_NESTED = PGTT_NESTED;
export const PASID_PASS_THROUGH = PGTT_PASS_THROUGH;

/** What a PASID table entry means. Filled by `classifyPasidEntry`; what the kind ignores holds its resting value. */
export class PasidView {
  /** PASID_*. */
  kind: number = PASID_NOT_PRESENT;
  /** With PASID_INVALID and PASID_NOT_PRESENT why requests are blocked, a FAULT reason; else 0. */
  reason: number = FAULT.SM_PASID_NOT_PRESENT;
  /** FPD; it counts in entries that are not present, too. */
  faultsDisabled = false;
  domain = 0;
  /** First stage: base (bytes; a guest-physical address where nested) and levels. */
  firstStagePointer = 0;
  firstStageLevels: 4 | 5 = 4;
  /** Requests for privileged mode are let through (SRE), for execution (ERE, before revision 5). */
  supervisor = false;
  execute = false;
  /** Privileged writes obey R/W (WPE), extended accessed flag (EAFE), XD counts (NXE, before revision 5). */
  writeProtect = false;
  extendedAccessed = false;
  executeDisable = false;
  /** Second stage: base (bytes), AW, accessed and dirty flags. */
  secondStagePointer = 0;
  secondStageLevels: 3 | 4 | 5 = 4;
  accessedDirty = false;
  /** Accesses snoop whatever the request says (PGSNP); walks snoop (PWSNP). */
  pageSnoop = false;
  walkSnoop = false;
  stage1: X86Tables | undefined = undefined;
  stage2: X86Tables | undefined = undefined;
}

/**
 * Classifies a scalable-mode PASID table entry, once for the software path, the acceleration and the
 * simulated hardware (Intel VT-d 5.10, 9.6; conditions SPT.2 to SPT.4.4).
 *
 * AW is ignored where no second stage is used, also without ECAP.SSTS: revision 5 reserves it there, earlier
 * ones do not, and Linux programs it.
 *
 * @param words the entry's sixteen 32-bit words, from index `base` on
 * @param coherent the unit's walks are coherent whatever PWSNP says, as an emulated unit's are
 * @returns PASID_*, as in `out.kind`
 */
export function classifyPasidEntry(
  words: ArrayLike<number>,
  features: VtdFeatures,
  out: PasidView,
  base = 0,
  coherent = false,
): number {
  clear(out);
  out.faultsDisabled = get(words, PASID_ENTRY.FPD, base) !== 0;
  if (get(words, PASID_ENTRY.P, base) === 0) {
    out.reason = FAULT.SM_PASID_NOT_PRESENT;
    return (out.kind = PASID_NOT_PRESENT);
  }
  if (hasReservedBits(words, base, features)) {
    return invalid(out, FAULT.SM_PASID_RESERVED);
  }
  const kind = get(words, PASID_ENTRY.PGTT, base);
  if (!supportsKind(kind, features)) {
    return invalid(out, FAULT.SM_PASID_INVALID);
  }
  out.domain = get(words, PASID_ENTRY.DID, base);
  out.pageSnoop = get(words, PASID_ENTRY.PGSNP, base) !== 0;
  out.walkSnoop = get(words, PASID_ENTRY.PWSNP, base) !== 0;
  // SRE guards pass-through and second-stage requests too (SPT.6).
  out.supervisor = get(words, PASID_ENTRY.SRE, base) !== 0;
  out.execute = features.executeRequests && get(words, PASID_ENTRY.ERE, base) !== 0;
  const unsnooped = !coherent && !out.walkSnoop;
  if ((kind === PASID_SECOND_STAGE || kind === PASID_NESTED) && !takeSecondStage(words, base, features, out, unsnooped)) {
    return invalid(out, FAULT.SM_PASID_INVALID);
  }
  if ((kind === PASID_FIRST_STAGE || kind === PASID_NESTED) && !takeFirstStage(words, base, features, out, kind, unsnooped)) {
    return invalid(out, FAULT.SM_PASID_INVALID);
  }
  out.reason = 0;
  return (out.kind = kind);
}

/** SPT.4.2. */
function supportsKind(kind: number, features: VtdFeatures): boolean {
  switch (kind) {
    case PASID_FIRST_STAGE:
      return features.firstStage;
    case PASID_SECOND_STAGE:
      return features.secondStage;
    case PASID_NESTED:
      return features.nested;
    case PASID_PASS_THROUGH:
      return features.passThrough;
    default:
      return false;
  }
}

function takeSecondStage(words: ArrayLike<number>, base: number, features: VtdFeatures, out: PasidView, unsnooped: boolean): boolean {
  const aw = get(words, PASID_ENTRY.AW, base);
  if (!supportsWidth(aw, features)) {
    return false;
  }
  out.secondStageLevels = (aw + 2) as 3 | 4 | 5;
  out.secondStagePointer = getAddress(words, PASID_ENTRY.SSPTPTR, base);
  out.accessedDirty = get(words, PASID_ENTRY.SSADE, base) !== 0;
  out.stage2 = secondStageTables(aw, words[base + 1], words[base] & ~0xfff, features, out.accessedDirty, unsnooped);
  return true;
}

function takeFirstStage(
  words: ArrayLike<number>,
  base: number,
  features: VtdFeatures,
  out: PasidView,
  kind: number,
  unsnooped: boolean,
): boolean {
  const mode = get(words, PASID_ENTRY.FSPM, base);
  if (mode > (features.fiveLevels ? FSPM_5_LEVELS : 0)) {
    return false;
  }
  const low = words[base + PASID_ENTRY.FSPTPTR.word] & ~0xfff;
  const high = words[base + PASID_ENTRY.FSPTPTR.word + 1];
  // SPT.4.4: the pointer is an address of the second stage.
  if (kind === PASID_NESTED && isBeyond(Math.min(guestWidth(out.secondStageLevels), features.guestAddressBits), high, low)) {
    return false;
  }
  out.firstStagePointer = getAddress(words, PASID_ENTRY.FSPTPTR, base);
  out.firstStageLevels = mode === FSPM_5_LEVELS ? 5 : 4;
  out.writeProtect = get(words, PASID_ENTRY.WPE, base) !== 0;
  out.extendedAccessed = get(words, PASID_ENTRY.EAFE, base) !== 0;
  out.executeDisable = features.executeRequests && get(words, PASID_ENTRY.NXE, base) !== 0;
  out.stage1 = firstStageTables(out.firstStageLevels, high, low, features, out, unsnooped);
  return true;
}

/** SPT.3: what is reserved always, and what is without the capability that it belongs to. */
function hasReservedBits(words: ArrayLike<number>, base: number, features: VtdFeatures): boolean {
  const beyondLow = lowBeyond(features.hostAddressBits);
  const beyondHigh = highBeyond(features.hostAddressBits);
  const pointer = ~0xfff;
  const word0 =
    0xc20 |
    beyondLow |
    (features.secondStage ? 0 : pointer) |
    (features.secondStage && features.secondStageAccessedDirty ? 0 : PASID_ENTRY.SSADE.inPlace);
  const word1 = features.secondStage ? beyondHigh : -1;
  const word2 =
    0xf87f_0000 |
    (0xffff & (-1 << features.domainBits)) |
    (features.coherentWalks ? 0 : PASID_ENTRY.PWSNP.inPlace) |
    (features.snoopControl ? 0 : PASID_ENTRY.PGSNP.inPlace) |
    (features.memoryTypes ? 0 : PASID_ENTRY.CD.inPlace | PASID_ENTRY.EMTE.inPlace);
  const word3 = features.memoryTypes ? 0 : -1;
  const word4 =
    0xf00 |
    beyondLow |
    (features.supervisorRequests ? 0 : PASID_ENTRY.SRE.inPlace) |
    (features.executeRequests ? 0 : PASID_ENTRY.ERE.inPlace) |
    (features.firstStage ? 0 : pointer | PASID_ENTRY.FSPM.inPlace | PASID_ENTRY.WPE.inPlace) |
    (features.extendedAccessed ? 0 : PASID_ENTRY.EAFE.inPlace);
  const word5 = features.firstStage ? beyondHigh : -1;
  return (
    ((words[base] & word0) |
      (words[base + 1] & word1) |
      (words[base + 2] & word2) |
      (words[base + 3] & word3) |
      (words[base + 4] & word4) |
      (words[base + 5] & word5)) !==
      0 || !zero(words, base + 6, 10)
  );
}

function invalid(out: PasidView, reason: number): number {
  const faultsDisabled = out.faultsDisabled;
  clear(out);
  out.faultsDisabled = faultsDisabled;
  out.reason = reason;
  return (out.kind = PASID_INVALID);
}

function clear(out: PasidView): void {
  out.faultsDisabled = false;
  out.domain = 0;
  out.firstStagePointer = 0;
  out.firstStageLevels = 4;
  out.supervisor = false;
  out.execute = false;
  out.writeProtect = false;
  out.extendedAccessed = false;
  out.executeDisable = false;
  out.secondStagePointer = 0;
  out.secondStageLevels = 4;
  out.accessedDirty = false;
  out.pageSnoop = false;
  out.walkSnoop = false;
  out.stage1 = undefined;
  out.stage2 = undefined;
}
