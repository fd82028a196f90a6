import { get, getAddress } from "../../support/index.js";
import {
  CONTEXT,
  FAULT,
  ROOT,
  SM_CONTEXT,
  SM_ROOT,
  TT_DEVICE_TLB,
  TT_PASS_THROUGH,
  TT_UNTRANSLATED_ONLY,
} from "../spec/index.js";
import type { X86Tables } from "../../translation/index.js";
import { highBeyond, lowBeyond, type VtdFeatures } from "./features.js";
import { secondStageTables } from "./stage-tables.js";

/** What a root entry, or the half of one that a device uses, means. */
export class RootView {
  /** 0, or why there is no context table: a FAULT reason. */
  reason = 0;
  /** Base of the context table (bytes). */
  contextTable = 0;
}

/**
 * Judges a root entry (Intel VT-d 5.10, 9.1, 9.2; conditions LRT.2, LRT.3, SRT.2, SRT.3).
 *
 * @param words the entry's four 32-bit words, from index `base` on
 * @param scalable RTADDR.TTM is scalable mode
 * @param devfn device and function number: in scalable mode it says which half
 * @returns 0 or a fault reason, as in `out.reason`
 */
export function decodeRoot(
  words: ArrayLike<number>,
  features: VtdFeatures,
  scalable: boolean,
  devfn: number,
  out: RootView,
  base = 0,
): number {
  out.contextTable = 0;
  if (!scalable) {
    if (get(words, ROOT.P, base) === 0) {
      return (out.reason = FAULT.ROOT_NOT_PRESENT);
    }
    if (pointerReserved(words, base, 0xffe, features) || (words[base + 2] | words[base + 3]) !== 0) {
      return (out.reason = FAULT.ROOT_RESERVED);
    }
    out.contextTable = getAddress(words, ROOT.CTP, base);
    return (out.reason = 0);
  }
  const at = devfn < 0x80 ? base : base + 2;
  if (get(words, SM_ROOT.LP, at) === 0) {
    return (out.reason = FAULT.SM_ROOT_NOT_PRESENT);
  }
  if (pointerReserved(words, at, 0xffe, features)) {
    return (out.reason = FAULT.SM_ROOT_RESERVED);
  }
  out.contextTable = getAddress(words, SM_ROOT.LCTP, at);
  return (out.reason = 0);
}

/** What a context entry of either mode means. Filled by `decodeContext` and `decodeScalableContext`. */
export class ContextView {
  /** 0, or why requests through the entry are blocked: a FAULT reason. */
  reason = 0;
  scalable = false;
  /** Qualified faults are not reported (FPD); it counts in entries that are not present, too. */
  faultsDisabled = false;

  /** Legacy mode: CONTEXT.TT, one of TT_*. */
  type = TT_UNTRANSLATED_ONLY;
  /** Legacy mode: domain id; 0 in scalable mode, whose entries have none. */
  domain = 0;
  /** Legacy mode: the tables; undefined with pass-through. */
  stage2: X86Tables | undefined = undefined;

  /** Translation Requests and Translated requests are let through (TT = 01b, DTE). */
  deviceTlb = false;
  /** Scalable mode: requests with PASID (PASIDE) are let through. */
  pasids = false;
  /** Scalable mode: the PASID directory (bytes), and the number of PASIDs it covers: 2^(PDTS + 13). */
  directory = 0;
  pasidLimit = 0;
  /** Scalable mode: PASID and privilege of requests without PASID. */
  ridPasid = 0;
  ridPrivileged = false;
}

/**
 * Judges a context entry of legacy mode (9.3; conditions LCT.2 to LCT.4.2).
 *
 * @param words the entry's four 32-bit words, from index `base` on
 * @returns 0 or a fault reason, as in `out.reason`
 */
export function decodeContext(words: ArrayLike<number>, features: VtdFeatures, out: ContextView, base = 0): number {
  clear(out, words, base, false);
  if (get(words, CONTEXT.P, base) === 0) {
    return (out.reason = FAULT.CONTEXT_NOT_PRESENT);
  }
  const type = get(words, CONTEXT.TT, base);
  const domain = get(words, CONTEXT.DID, base);
  // 9.3 SSPTPTR: ignored with pass-through.
  const pointer = type === TT_PASS_THROUGH ? (words[base] & 0xff0) !== 0 : pointerReserved(words, base, 0xff0, features);
  if (pointer || (words[base + 2] & 0xff00_0080) !== 0 || words[base + 3] !== 0 || domain >>> features.domainBits !== 0) {
    return (out.reason = FAULT.CONTEXT_RESERVED);
  }
  const width = get(words, CONTEXT.AW, base);
  if (
    type > TT_PASS_THROUGH ||
    (type === TT_DEVICE_TLB && !features.deviceTlb) ||
    (type === TT_PASS_THROUGH && !features.passThrough) ||
    !supportsWidth(width, features)
  ) {
    return (out.reason = FAULT.CONTEXT_INVALID);
  }
  out.type = type;
  out.domain = domain;
  out.deviceTlb = type === TT_DEVICE_TLB;
  if (type !== TT_PASS_THROUGH) {
    // 9.8: SNP counts where ECAP.SC is set; there are no accessed and dirty flags in legacy mode.
    out.stage2 = secondStageTables(width, words[base + 1], words[base] & ~0xfff, features, false, false);
  }
  return (out.reason = 0);
}

/**
 * Judges a scalable-mode context entry (9.4; conditions SCT.2 to SCT.4.2).
 *
 * @param words the entry's eight 32-bit words, from index `base` on
 * @returns 0 or a fault reason, as in `out.reason`
 */
export function decodeScalableContext(words: ArrayLike<number>, features: VtdFeatures, out: ContextView, base = 0): number {
  clear(out, words, base, true);
  if (get(words, SM_CONTEXT.P, base) === 0) {
    return (out.reason = FAULT.SM_CONTEXT_NOT_PRESENT);
  }
  // EPTR and HPTE (bits 6 and 5) need ECAP.PTRS and HPTS, which no unit here has.
  const reserved =
    0x1e0 |
    (features.pageRequests ? 0 : SM_CONTEXT.PRE.inPlace) |
    (features.pasid ? 0 : SM_CONTEXT.PASIDE.inPlace) |
    (features.deviceTlb ? 0 : SM_CONTEXT.DTE.inPlace);
  const reservedRid =
    0xffe0_0000 | (features.ridPasid ? 0 : SM_CONTEXT.RID_PASID.inPlace) | (features.ridPrivilege ? 0 : SM_CONTEXT.RID_PRIV.inPlace);
  if (pointerReserved(words, base, reserved, features) || (words[base + 2] & reservedRid) !== 0 || !zero(words, base + 3, 5)) {
    return (out.reason = FAULT.SM_CONTEXT_RESERVED);
  }
  const pageRequests = get(words, SM_CONTEXT.PRE, base) !== 0;
  const deviceTlb = get(words, SM_CONTEXT.DTE, base) !== 0;
  const ridPasid = get(words, SM_CONTEXT.RID_PASID, base);
  const pasidLimit = 1 << (get(words, SM_CONTEXT.PDTS, base) + 13);
  if ((pageRequests && !deviceTlb) || ridPasid >= pasidLimit) {
    return (out.reason = FAULT.SM_CONTEXT_INVALID);
  }
  out.deviceTlb = deviceTlb;
  out.pasids = get(words, SM_CONTEXT.PASIDE, base) !== 0;
  out.directory = getAddress(words, SM_CONTEXT.PASIDDIRPTR, base);
  out.pasidLimit = pasidLimit;
  out.ridPasid = ridPasid;
  out.ridPrivileged = get(words, SM_CONTEXT.RID_PRIV, base) !== 0;
  return (out.reason = 0);
}

function clear(out: ContextView, words: ArrayLike<number>, base: number, scalable: boolean): void {
  out.scalable = scalable;
  out.faultsDisabled = get(words, CONTEXT.FPD, base) !== 0;
  out.type = TT_UNTRANSLATED_ONLY;
  out.domain = 0;
  out.stage2 = undefined;
  out.deviceTlb = false;
  out.pasids = false;
  out.directory = 0;
  out.pasidLimit = 0;
  out.ridPasid = 0;
  out.ridPrivileged = false;
}

/** Whether SAGAW has tables of AW + 2 levels; 3, 4 and 5 are defined. */
export function supportsWidth(aw: number, features: VtdFeatures): boolean {
  return aw >= 1 && aw <= 3 && (features.secondStageLevels & (1 << aw)) !== 0;
}

/** Whether a pointer's two words have reserved bits: those of `low`, and the address's from the host's width on. */
export function pointerReserved(words: ArrayLike<number>, at: number, low: number, features: VtdFeatures): boolean {
  const bits = features.hostAddressBits;
  return ((words[at] & (low | lowBeyond(bits))) | (words[at + 1] & highBeyond(bits))) !== 0;
}

export function zero(words: ArrayLike<number>, from: number, count: number): boolean {
  let all = 0;
  for (let i = 0; i < count; i++) {
    all |= words[from + i];
  }
  return all === 0;
}
