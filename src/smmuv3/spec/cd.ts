import { address, field, pack, type FieldValues } from "../../support/index.js";

/** Context Descriptor: 64 bytes, sixteen 32-bit words (Arm IHI 0070, 5.4). */
export const CD_BYTES = 64;
export const CD_WORDS = 16;

export const CD = {
  T0SZ: field(0, 0, 6),
  TG0: field(0, 6, 2),
  IR0: field(0, 8, 2),
  OR0: field(0, 10, 2),
  SH0: field(0, 12, 2),
  EPD0: field(0, 14),
  ENDI: field(0, 15),
  T1SZ: field(0, 16, 6),
  TG1: field(0, 22, 2),
  IR1: field(0, 24, 2),
  OR1: field(0, 26, 2),
  SH1: field(0, 28, 2),
  EPD1: field(0, 30),
  V: field(0, 31),
  IPS: field(1, 0, 3),
  AFFD: field(1, 3),
  WXN: field(1, 4),
  UWXN: field(1, 5),
  TBI0: field(1, 6),
  TBI1: field(1, 7),
  PAN: field(1, 8),
  AA64: field(1, 9),
  HD: field(1, 10),
  HA: field(1, 11),
  S: field(1, 12),
  R: field(1, 13),
  A: field(1, 14),
  ASET: field(1, 15),
  ASID: field(1, 16, 16),
  NSCFG0: field(2, 0),
  HAD0: field(2, 1),
  E0PD0: field(2, 2),
  TTB0: address(2, 4, 55),
  NSCFG1: field(4, 0),
  HAD1: field(4, 1),
  E0PD1: field(4, 2),
  TTB1: address(4, 4, 55),
  MAIR0: field(6, 0, 32),
  MAIR1: field(7, 0, 32),
  AMAIR0: field(8, 0, 32),
  AMAIR1: field(9, 0, 32),
} as const;

/** Values of CD.TG0 and of STE.S2TG. */
export const TG0_4K = 0;
export const TG0_64K = 1;
export const TG0_16K = 2;
/** Values of CD.TG1, which differ from TG0's. */
export const TG1_16K = 1;
export const TG1_4K = 2;
export const TG1_64K = 3;

/** Level 1 Context Descriptor: 8 bytes (Arm IHI 0070, 5.3). */
export const L1CD_BYTES = 8;
export const L1CD = {
  V: field(0, 0),
  L2PTR: address(0, 12, 55),
} as const;

/** The image of a CD, sixteen words; fields that are not named are zero. Throws RangeError where a value does not fit. */
export function buildCd(values: FieldValues<typeof CD>): Int32Array {
  return pack(CD, new Int32Array(CD_WORDS), values);
}

/** The image of a Level 1 Context Descriptor, two words. */
export function buildL1Cd(values: FieldValues<typeof L1CD>): Int32Array {
  return pack(L1CD, new Int32Array(2), values);
}
