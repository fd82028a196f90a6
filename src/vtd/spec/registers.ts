/**
 * Register offsets in bytes from the remapping unit's base, and their fields (Intel VT-d 5.x, 11.4).
 * 64-bit registers stand at their low half; fields of one are by 32-bit word (0 low, 1 high).
 */
import { address, bits, field } from "../../support/index.js";

export const REG = {
  VER: 0x000,
  /** 64 bits. */
  CAP: 0x008,
  /** 64 bits. */
  ECAP: 0x010,
  GCMD: 0x018,
  GSTS: 0x01c,
  /** 64 bits. */
  RTADDR: 0x020,
  /** 64 bits. */
  CCMD: 0x028,
  FSTS: 0x034,
  FECTL: 0x038,
  FEDATA: 0x03c,
  FEADDR: 0x040,
  FEUADDR: 0x044,
  PMEN: 0x064,
  PLMBASE: 0x068,
  PLMLIMIT: 0x06c,
  /** 64 bits. */
  PHMBASE: 0x070,
  /** 64 bits. */
  PHMLIMIT: 0x078,
  /** 64 bits. */
  IQH: 0x080,
  /** 64 bits. */
  IQT: 0x088,
  /** 64 bits. */
  IQA: 0x090,
  ICS: 0x09c,
  IECTL: 0x0a0,
  IEDATA: 0x0a4,
  IEADDR: 0x0a8,
  IEUADDR: 0x0ac,
  /** 64 bits. */
  IQERCD: 0x0b0,
  /** 64 bits. */
  IRTA: 0x0b8,
  /** 64 bits. */
  PQH: 0x0c0,
  /** 64 bits. */
  PQT: 0x0c8,
  /** 64 bits. */
  PQA: 0x0d0,
  PRS: 0x0dc,
  PECTL: 0x0e0,
  PEDATA: 0x0e4,
  PEADDR: 0x0e8,
  PEUADDR: 0x0ec,
  /** 64 bits. */
  MTRRCAP: 0x100,
  /** 64 bits. */
  MTRRDEF: 0x108,
} as const;

/** CAP (11.4.2). FRO and SSLPS: the low word ends within FRO, so it is in two pieces. */
export const CAP = {
  /** 2^(4 + 2 * ND) domains. */
  ND: field(0, 0, 3),
  AFL: field(0, 3),
  RWBF: field(0, 4),
  PLMR: field(0, 5),
  PHMR: field(0, 6),
  CM: field(0, 7),
  /** Bit n: n + 2 levels; 1: 39 bits, 2: 48, 3: 57. */
  SAGAW: field(0, 8, 5),
  /** Maximum guest address width less one. */
  MGAW: field(0, 16, 6),
  ZLR: field(0, 22),
  /** Fault recording registers' offset in 16 bytes, bits 7:0. */
  FRO_LOW: field(0, 24, 8),
  /** Bits 9:8. */
  FRO_HIGH: field(1, 0, 2),
  /** Second-stage large pages: bit 0 2 MiB, bit 1 1 GiB. */
  SSLPS: field(1, 2, 4),
  PSI: field(1, 7),
  /** Number of fault recording registers less one. */
  NFR: field(1, 8, 8),
  /** Largest address mask of a page-selective invalidation. */
  MAMV: field(1, 16, 6),
  DWD: field(1, 22),
  DRD: field(1, 23),
  FS1GP: field(1, 24),
  PI: field(1, 27),
  FS5LP: field(1, 28),
  ECMDS: field(1, 29),
  ESIRTPS: field(1, 30),
  ESRTPS: field(1, 31),
} as const;

/** ECAP (11.4.3). */
export const ECAP = {
  /** Page-walk coherency of legacy mode. */
  C: field(0, 0),
  QI: field(0, 1),
  DT: field(0, 2),
  IR: field(0, 3),
  EIM: field(0, 4),
  PT: field(0, 6),
  SC: field(0, 7),
  /** IOTLB registers' offset in 16 bytes. */
  IRO: field(0, 8, 10),
  MHMV: field(0, 20, 4),
  MTS: field(0, 25),
  NEST: field(0, 26),
  PRS: field(0, 29),
  ERS: field(0, 30),
  SRS: field(0, 31),
  NWFS: field(1, 1),
  EAFS: field(1, 2),
  /** PASID width less one. */
  PSS: field(1, 3, 5),
  PASID: field(1, 8),
  DIT: field(1, 9),
  PDS: field(1, 10),
  SMTS: field(1, 11),
  VCS: field(1, 12),
  /** Accessed and dirty bits of the second stage. */
  SSADS: field(1, 13),
  SSTS: field(1, 14),
  FSTS: field(1, 15),
  SMPWCS: field(1, 16),
  RPS: field(1, 17),
  PMS: field(1, 19),
  ADMS: field(1, 20),
  RPRIVS: field(1, 21),
} as const;

/** GCMD and, at the same places, GSTS (11.4.4). */
export const GCMD = {
  CFI: bits(23),
  SIRTP: bits(24),
  IRE: bits(25),
  QIE: bits(26),
  WBF: bits(27),
  EAFL: bits(28),
  SFL: bits(29),
  SRTP: bits(30),
  TE: bits(31),
} as const;

/** RTADDR (11.4.5). */
export const RTADDR = {
  TTM: field(0, 10, 2),
  RTA: address(0, 12, 63),
} as const;

/** Values of RTADDR.TTM. */
export const TTM_LEGACY = 0;
export const TTM_SCALABLE = 1;
export const TTM_ABORT_DMA = 3;

/** CCMD: register-based invalidation of the context cache (11.4.6.1). */
export const CCMD = {
  DID: field(0, 0, 16),
  SID: field(0, 16, 16),
  FM: field(1, 0, 2),
  /** Granularity that was performed. */
  CAIG: field(1, 27, 2),
  CIRG: field(1, 29, 2),
  ICC: field(1, 31),
} as const;

/** Granularities of CCMD, IOTLB, and the context-cache and IOTLB descriptors. 0 is reserved. */
export const GRANULARITY_GLOBAL = 1;
export const GRANULARITY_DOMAIN = 2;
/** Device-selective for the context cache, page-selective for the IOTLB. */
export const GRANULARITY_SELECTIVE = 3;

/** IVA, at ECAP.IRO * 16 (11.4.6.2). */
export const IVA = {
  AM: field(0, 0, 6),
  IH: field(0, 6),
  ADDR: address(0, 12, 63),
} as const;

/** IOTLB, eight bytes behind IVA. */
export const IOTLB_REG_OFFSET = 8;
export const IOTLB_REG = {
  DID: field(1, 0, 16),
  DW: field(1, 16),
  DR: field(1, 17),
  IAIG: field(1, 25, 2),
  IIRG: field(1, 28, 2),
  IVT: field(1, 31),
} as const;

/** FSTS (11.4.7.1). All but PPF and FRI are cleared by writing 1. */
export const FSTS = {
  PFO: bits(0),
  PPF: bits(1),
  IQE: bits(4),
  ICE: bits(5),
  ITE: bits(6),
  PRO: bits(7),
  FRI: bits(8, 8),
} as const;

/** FECTL, IECTL and PECTL: the message's mask and pending bits. */
export const EVENT_CONTROL = {
  IP: bits(30),
  IM: bits(31),
} as const;

/** IQA (11.4.8.3). */
export const IQA = {
  /** 2^QS pages of 4 KiB. */
  QS: field(0, 0, 3),
  /** Descriptors of 256 bits. */
  DW: field(0, 11),
  ADDR: address(0, 12, 63),
} as const;

/** IQH and IQT: an offset in the queue; descriptors of 256 bits have bit 4 zero. */
export const IQ_POINTER_MASK = 0x7_fff0;

/** ICS. */
export const ICS = { IWC: bits(0) } as const;

/** IQERCD (11.4.8.9): why FSTS.IQE was set. */
export const IQERCD = {
  IQEI: field(0, 0, 4),
  ITESID: field(1, 0, 16),
  ICESID: field(1, 16, 16),
} as const;

/** Values of IQERCD.IQEI. */
export const IQEI = {
  NONE: 0,
  /** IQT is beyond the queue. */
  INVALID_TAIL: 1,
  FETCH: 2,
  /** A type that the table mode does not have. */
  INVALID_TYPE: 3,
  RESERVED_FIELD: 4,
  /** IQA.DW clear in scalable or abort-DMA mode, or set without ECAP.SMTS and ADMS. */
  INVALID_WIDTH: 5,
  /** IQT is not aligned for descriptors of 256 bits. */
  UNALIGNED_TAIL: 6,
  INVALID_TTM: 7,
} as const;

/** IRTA (11.4.9.1). */
export const IRTA = {
  /** 2^(S + 1) entries. */
  S: field(0, 0, 4),
  EIME: field(0, 11),
  ADDR: address(0, 12, 63),
} as const;

/** Messages written to this range are interrupts: no translation (3.14), and no memory for DMA. */
export const INTERRUPT_RANGE_FIRST = 0xfee0_0000;
export const INTERRUPT_RANGE_LAST = 0xfeef_ffff;
