import { address, field, pack, type FieldValues } from "../../support/index.js";

/** Stream Table Entry: 64 bytes, sixteen 32-bit words (Arm IHI 0070, 5.2). */
export const STE_BYTES = 64;
export const STE_WORDS = 16;

export const STE = {
  V: field(0, 0),
  CONFIG: field(0, 1, 3),
  S1FMT: field(0, 4, 2),
  S1CONTEXTPTR: address(0, 6, 55),
  S1CDMAX: field(1, 27, 5),
  S1DSS: field(2, 0, 2),
  S1CIR: field(2, 2, 2),
  S1COR: field(2, 4, 2),
  S1CSH: field(2, 6, 2),
  S2HWU59: field(2, 8),
  S2HWU60: field(2, 9),
  S2HWU61: field(2, 10),
  S2HWU62: field(2, 11),
  DRE: field(2, 12),
  CONT: field(2, 13, 4),
  DCP: field(2, 17),
  PPAR: field(2, 18),
  MEV: field(2, 19),
  SW: field(2, 20, 4),
  S2FWB: field(2, 25),
  S1MPAM: field(2, 26),
  S1STALLD: field(2, 27),
  EATS: field(2, 28, 2),
  STRW: field(2, 30, 2),
  MEMATTR: field(3, 0, 4),
  MTCFG: field(3, 4),
  ALLOCCFG: field(3, 5, 4),
  SHCFG: field(3, 12, 2),
  NSCFG: field(3, 14, 2),
  PRIVCFG: field(3, 16, 2),
  INSTCFG: field(3, 18, 2),
  S2VMID: field(4, 0, 16),
  S2T0SZ: field(5, 0, 6),
  S2SL0: field(5, 6, 2),
  S2IR0: field(5, 8, 2),
  S2OR0: field(5, 10, 2),
  S2SH0: field(5, 12, 2),
  S2TG: field(5, 14, 2),
  S2PS: field(5, 16, 3),
  S2AA64: field(5, 19),
  S2ENDI: field(5, 20),
  S2AFFD: field(5, 21),
  S2PTW: field(5, 22),
  S2HD: field(5, 23),
  S2HA: field(5, 24),
  S2S: field(5, 25),
  S2R: field(5, 26),
  S2TTB: address(6, 4, 55),
} as const;

/** Values of STE.CONFIG; anything with bit 2 clear aborts without an event. */
export const STE_CONFIG_ABORT = 0;
export const STE_CONFIG_BYPASS = 4;
export const STE_CONFIG_S1 = 5;
export const STE_CONFIG_S2 = 6;
export const STE_CONFIG_NESTED = 7;

/** Values of STE.S1FMT. */
export const STE_S1FMT_LINEAR = 0;
/** Two levels, leaf tables of 64 CDs. */
export const STE_S1FMT_4K_L2 = 1;
/** Two levels, leaf tables of 1024 CDs. */
export const STE_S1FMT_64K_L2 = 2;

/** Values of STE.S1DSS: what a transaction without a SubstreamID does where substreams are on. */
export const STE_S1DSS_TERMINATE = 0;
export const STE_S1DSS_BYPASS = 1;
export const STE_S1DSS_SSID0 = 2;

/** Values of STE.EATS. */
export const STE_EATS_ABORT = 0;
export const STE_EATS_FULL = 1;
/** Split-stage ATS: the device caches stage 1, Translated transactions get stage 2. */
export const STE_EATS_S1CHK = 2;

/** Values of STE.SHCFG. */
export const STE_SHCFG_NON_SHAREABLE = 0;
export const STE_SHCFG_INCOMING = 1;
export const STE_SHCFG_OUTER = 2;
export const STE_SHCFG_INNER = 3;

/** Values of STE.PRIVCFG and GBPA.PRIVCFG (unprivileged, privileged) and of INSTCFG (data, instruction); 0 and 1 use the incoming. */
export const OVERRIDE_INCOMING = 0;
export const OVERRIDE_CLEAR = 2;
export const OVERRIDE_SET = 3;

/** Level 1 Stream Table Descriptor: 8 bytes (Arm IHI 0070, 5.1). */
export const L1STD_BYTES = 8;
export const L1STD = {
  SPAN: field(0, 0, 5),
  L2PTR: address(0, 6, 55),
} as const;

/** The image of an STE, sixteen words; fields that are not named are zero. Throws RangeError where a value does not fit. */
export function buildSte(values: FieldValues<typeof STE>): Int32Array {
  return pack(STE, new Int32Array(STE_WORDS), values);
}

/** The image of a Level 1 Stream Table Descriptor, two words. */
export function buildL1Std(values: FieldValues<typeof L1STD>): Int32Array {
  return pack(L1STD, new Int32Array(2), values);
}
