import { address, field } from "./fields.js";

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
