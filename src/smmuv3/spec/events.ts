import { address, field, pack, type FieldValues } from "../../support/index.js";

/** Event record: 32 bytes, eight 32-bit words (Arm IHI 0070, 7.3). */
export const EVENT_WORDS = 8;

/** Event numbers. */
export const EVENT = {
  F_UUT: 0x01,
  C_BAD_STREAMID: 0x02,
  F_STE_FETCH: 0x03,
  C_BAD_STE: 0x04,
  F_BAD_ATS_TREQ: 0x05,
  F_STREAM_DISABLED: 0x06,
  F_TRANSL_FORBIDDEN: 0x07,
  C_BAD_SUBSTREAMID: 0x08,
  F_CD_FETCH: 0x09,
  C_BAD_CD: 0x0a,
  F_WALK_EABT: 0x0b,
  F_TRANSLATION: 0x10,
  F_ADDR_SIZE: 0x11,
  F_ACCESS: 0x12,
  F_PERMISSION: 0x13,
  F_TLB_CONFLICT: 0x20,
  F_CFG_CONFLICT: 0x21,
  E_PAGE_REQUEST: 0x24,
  F_VMS_FETCH: 0x25,
} as const;

/** Fields of all records; a record has those that its builder below fills, the rest is RES0. */
export const EVT = {
  NUMBER: field(0, 0, 8),
  SSV: field(0, 11),
  SSID: field(0, 12, 20),
  SID: field(1, 0, 32),
  STAG: field(2, 0, 16),
  /** F_UUT, F_STE_FETCH, F_CD_FETCH, F_WALK_EABT, F_TLB_CONFLICT, F_CFG_CONFLICT: IMPLEMENTATION DEFINED. */
  REASON: field(2, 0, 16),
  GPCF: field(2, 16),
  STALL: field(2, 31),
  /** F_BAD_ATS_TREQ: what the Translation Request asked for, before STE overrides, and how many STUs. */
  TREQ_SPAN: field(2, 0, 4),
  TREQ_PRIV: field(2, 28),
  TREQ_X: field(2, 29),
  TREQ_W: field(2, 30),
  TREQ_R: field(2, 31),
  PNU: field(3, 1),
  IND: field(3, 2),
  RNW: field(3, 3),
  NSIPA: field(3, 4),
  S2: field(3, 7),
  CLASS: field(3, 8, 2),
  INPUT_ADDR: address(4, 0, 63),
  IPA: address(6, 12, 55),
  FETCH_ADDR: address(6, 3, 55),
} as const;

/** Values of CLASS: what was being done when the fault happened. */
export const CLASS_CD = 0;
export const CLASS_TT = 1;
export const CLASS_IN = 2;

const names = new Map<number, string>(Object.entries(EVENT).map(([name, number]) => [number, name]));

/** The architecture's name of an event number; EVENT_0xNN for one that is not defined. */
export function eventName(number: number): string {
  return names.get(number) ?? `EVENT_0x${number.toString(16).padStart(2, "0")}`;
}

/** How an access shows in a record. `rnw` is set for reads; InD is 0 for writes (Arm IHI 0070, 7.3). */
export interface EventAccess {
  readonly rnw: boolean;
  readonly ind: boolean;
  readonly pnu: boolean;
}

/** The image of a record from named fields, eight words. Throws RangeError where a value does not fit. */
export function buildEvent(number: number, values: FieldValues<typeof EVT>): Int32Array {
  return pack(EVT, new Int32Array(EVENT_WORDS), { ...values, NUMBER: number });
}

/**
 * Starts a record: everything else becomes zero. `ssid` below 0 means that the transaction had none.
 * C_BAD_STREAMID, C_BAD_STE and C_BAD_CD are whole with this.
 */
export function fillEvent(out: Int32Array, number: number, sid: number, ssid: number): void {
  out.fill(0);
  out[0] = ssid < 0 ? number : number | 0x800 | (ssid << 12);
  out[1] = sid;
}

/** C_BAD_SUBSTREAMID: the SubstreamID is always valid, there is no SSV (7.3.9). */
export function fillBadSubstream(out: Int32Array, sid: number, ssid: number): void {
  out.fill(0);
  out[0] = EVENT.C_BAD_SUBSTREAMID | (ssid << 12);
  out[1] = sid;
}

/** F_STREAM_DISABLED: the StreamID alone (7.3.7). */
export function fillStreamDisabled(out: Int32Array, sid: number): void {
  out.fill(0);
  out[0] = EVENT.F_STREAM_DISABLED;
  out[1] = sid;
}

/** F_STE_FETCH, F_CD_FETCH, F_VMS_FETCH: the physical address of the fetch (7.3.4, 7.3.10). */
export function fillFetchEvent(
  out: Int32Array,
  number: number,
  sid: number,
  ssid: number,
  fetchHigh: number,
  fetchLow: number,
): void {
  fillEvent(out, number, sid, ssid);
  out[6] = fetchLow & ~7;
  out[7] = fetchHigh & 0xff_ffff;
}

/** F_TRANSL_FORBIDDEN: StreamID, input address, RnW (7.3.8). */
export function fillTranslationForbidden(out: Int32Array, sid: number, addressHigh: number, addressLow: number, rnw: boolean): void {
  out.fill(0);
  out[0] = EVENT.F_TRANSL_FORBIDDEN;
  out[1] = sid;
  out[3] = rnw ? 8 : 0;
  out[4] = addressLow;
  out[5] = addressHigh;
}

/** F_BAD_ATS_TREQ (7.3.6); `span` in STUs. */
export function fillBadAtsRequest(
  out: Int32Array,
  sid: number,
  ssid: number,
  addressHigh: number,
  addressLow: number,
  request: { readonly read: boolean; readonly write: boolean; readonly execute: boolean; readonly privileged: boolean; readonly span: number },
): void {
  fillEvent(out, EVENT.F_BAD_ATS_TREQ, sid, ssid);
  out[2] =
    (request.read ? 1 << 31 : 0) |
    (request.write ? 1 << 30 : 0) |
    (request.execute ? 1 << 29 : 0) |
    (request.privileged ? 1 << 28 : 0) |
    (request.span & 15);
  out[4] = addressLow & ~0xfff;
  out[5] = addressHigh;
}

/**
 * The part that F_UUT, F_WALK_EABT, F_TRANSLATION, F_ADDR_SIZE, F_ACCESS and F_PERMISSION share: StreamID,
 * SubstreamID, access, input address; for all but F_UUT also stage and CLASS. The caller adds the IPA
 * (`fillIpa`) or the fetch address (`fillFetchAddress`).
 */
export function fillFault(
  out: Int32Array,
  number: number,
  sid: number,
  ssid: number,
  addressHigh: number,
  addressLow: number,
  access: EventAccess,
  stage2: boolean,
  faultClass: number,
): void {
  fillEvent(out, number, sid, ssid);
  out[3] =
    (access.pnu ? 2 : 0) |
    (access.ind && access.rnw ? 4 : 0) |
    (access.rnw ? 8 : 0) |
    (stage2 ? 0x80 : 0) |
    (faultClass << 8);
  out[4] = addressLow;
  out[5] = addressHigh;
}

/** IPA[55:12] of a stage-2 fault (7.3.13). */
export function fillIpa(out: Int32Array, ipaHigh: number, ipaLow: number): void {
  out[6] = ipaLow & ~0xfff;
  out[7] = ipaHigh & 0xff_ffff;
}

/** FetchAddr[55:3] of F_WALK_EABT (7.3.12). */
export function fillFetchAddress(out: Int32Array, fetchHigh: number, fetchLow: number): void {
  out[6] = fetchLow & ~7;
  out[7] = fetchHigh & 0xff_ffff;
}
