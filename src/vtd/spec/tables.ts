/** Root, context, PASID directory and PASID table entries as 32-bit words (Intel VT-d 5.x, chapter 9). */
import { address, field } from "../../support/index.js";

export const ROOT_ENTRY_BYTES = 16;
export const ROOT_ENTRY_WORDS = 4;

/** Root entry of legacy mode (9.1): 256 of them, by bus number. Words 2 and 3 are reserved. */
export const ROOT = {
  P: field(0, 0),
  CTP: address(0, 12, 63),
} as const;

/** Scalable-mode root entry (9.2): the lower half is for devices 0 to 15, the upper one for 16 to 31. */
export const SM_ROOT = {
  LP: field(0, 0),
  LCTP: address(0, 12, 63),
  UP: field(2, 0),
  UCTP: address(2, 12, 63),
} as const;

export const CONTEXT_ENTRY_BYTES = 16;
export const CONTEXT_ENTRY_WORDS = 4;

/** Context entry of legacy mode (9.3): 256 of them in a table, by device and function. */
export const CONTEXT = {
  P: field(0, 0),
  FPD: field(0, 1),
  TT: field(0, 2, 2),
  SSPTPTR: address(0, 12, 63),
  /** Levels less two. */
  AW: field(2, 0, 3),
  /** Bits 70:67 are ignored by hardware. */
  IGNORED: field(2, 3, 4),
  DID: field(2, 8, 16),
} as const;

/** Values of CONTEXT.TT. 3 is reserved. */
export const TT_UNTRANSLATED_ONLY = 0;
export const TT_DEVICE_TLB = 1;
export const TT_PASS_THROUGH = 2;

export const SM_CONTEXT_ENTRY_BYTES = 32;
export const SM_CONTEXT_ENTRY_WORDS = 8;

/** Scalable-mode context entry (9.4): 128 of them in a table. */
export const SM_CONTEXT = {
  P: field(0, 0),
  FPD: field(0, 1),
  /** Device-TLB enable. */
  DTE: field(0, 2),
  PASIDE: field(0, 3),
  PRE: field(0, 4),
  /** 2^(PDTS + 7) directory entries. */
  PDTS: field(0, 9, 3),
  PASIDDIRPTR: address(0, 12, 63),
  /** PASID of requests without one; counts where ECAP.RPS is set, else 0. */
  RID_PASID: field(2, 0, 20),
  RID_PRIV: field(2, 20),
} as const;

export const PASID_DIRECTORY_ENTRY_BYTES = 8;
export const PASID_DIRECTORY_ENTRY_WORDS = 2;

/** PASID directory entry (9.5), by PASID bits 19:6. */
export const PASID_DIRECTORY = {
  P: field(0, 0),
  FPD: field(0, 1),
  SMPTBLPTR: address(0, 12, 63),
} as const;

export const PASID_ENTRY_BYTES = 64;
export const PASID_ENTRY_WORDS = 16;
/** Entries of a PASID table: it is a page, indexed by PASID bits 5:0. */
export const PASID_TABLE_ENTRIES = 64;
export const PASID_TABLE_BITS = 6;
export const MOST_PASID_BITS = 20;

/** PASID table entry (9.6). */
export const PASID_ENTRY = {
  P: field(0, 0),
  FPD: field(0, 1),
  /** Levels of the second stage less two. */
  AW: field(0, 2, 3),
  SSEE: field(0, 5),
  PGTT: field(0, 6, 3),
  SSADE: field(0, 9),
  SSPTPTR: address(0, 12, 63),
  DID: field(2, 0, 16),
  PWSNP: field(2, 23),
  PGSNP: field(2, 24),
  CD: field(2, 25),
  EMTE: field(2, 26),
  EMT: field(2, 27, 3),
  PWT: field(2, 30),
  PCD: field(2, 31),
  PAT: field(3, 0, 32),
  SRE: field(4, 0),
  ERE: field(4, 1),
  FSPM: field(4, 2, 2),
  WPE: field(4, 4),
  NXE: field(4, 5),
  SMEP: field(4, 6),
  EAFE: field(4, 7),
  FSPTPTR: address(4, 12, 63),
} as const;

/** Values of PGTT. The others are reserved. */
export const PGTT_FIRST_STAGE = 1;
export const PGTT_SECOND_STAGE = 2;
export const PGTT_NESTED = 3;
export const PGTT_PASS_THROUGH = 4;

/** Values of FSPM: 4 or 5 levels. */
export const FSPM_4_LEVELS = 0;
export const FSPM_5_LEVELS = 1;

/** First-stage paging entry bits of the low word (9.8); XD is bit 63. */
export const FS_P = 1 << 0;
export const FS_RW = 1 << 1;
export const FS_US = 1 << 2;
export const FS_A = 1 << 5;
export const FS_D = 1 << 6;
export const FS_PS = 1 << 7;
export const FS_G = 1 << 8;
export const FS_EA = 1 << 10;
/** Of the high word. */
export const FS_XD_HIGH = 1 << 31;

/** Second-stage paging entry bits of the low word (9.9). */
export const SS_R = 1 << 0;
export const SS_W = 1 << 1;
export const SS_X = 1 << 2;
export const SS_PS = 1 << 7;
export const SS_A = 1 << 8;
export const SS_D = 1 << 9;
export const SS_SNP = 1 << 11;
