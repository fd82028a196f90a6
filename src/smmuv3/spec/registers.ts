import { address, bits } from "../../support/index.js";

/**
 * Register offsets in bytes from the SMMU's base (Arm IHI 0070, 6.2): page 0 at 0, page 1 at 0x10000,
 * with 64-bit registers at their low word.
 */
export const REG = {
  IDR0: 0x0,
  IDR1: 0x4,
  IDR2: 0x8,
  IDR3: 0xc,
  IDR4: 0x10,
  IDR5: 0x14,
  IIDR: 0x18,
  AIDR: 0x1c,
  CR0: 0x20,
  CR0ACK: 0x24,
  CR1: 0x28,
  CR2: 0x2c,
  STATUSR: 0x40,
  GBPA: 0x44,
  AGBPA: 0x48,
  IRQ_CTRL: 0x50,
  IRQ_CTRLACK: 0x54,
  GERROR: 0x60,
  GERRORN: 0x64,
  /** 64 bits. */
  GERROR_IRQ_CFG0: 0x68,
  GERROR_IRQ_CFG1: 0x70,
  GERROR_IRQ_CFG2: 0x74,
  /** 64 bits. */
  STRTAB_BASE: 0x80,
  STRTAB_BASE_CFG: 0x88,
  /** 64 bits. */
  CMDQ_BASE: 0x90,
  CMDQ_PROD: 0x98,
  CMDQ_CONS: 0x9c,
  /** 64 bits. */
  EVENTQ_BASE: 0xa0,
  /** The page 0 places of EVENTQ_PROD and EVENTQ_CONS; on page 1 where the registers are. */
  EVENTQ_PROD_PAGE0: 0xa8,
  EVENTQ_CONS_PAGE0: 0xac,
  /** 64 bits. */
  EVENTQ_IRQ_CFG0: 0xb0,
  EVENTQ_IRQ_CFG1: 0xb8,
  EVENTQ_IRQ_CFG2: 0xbc,
  /** 64 bits. */
  PRIQ_BASE: 0xc0,
  PRIQ_PROD_PAGE0: 0xc8,
  PRIQ_CONS_PAGE0: 0xcc,
  /** 64 bits. */
  PRIQ_IRQ_CFG0: 0xd0,
  PRIQ_IRQ_CFG1: 0xd8,
  PRIQ_IRQ_CFG2: 0xdc,
  GATOS_CTRL: 0x100,
  /** 64 bits. */
  GATOS_SID: 0x108,
  /** 64 bits. */
  GATOS_ADDR: 0x110,
  /** 64 bits. */
  GATOS_PAR: 0x118,
  MPAMIDR: 0x130,
  GMPAM: 0x138,
  GBPMPAM: 0x13c,
  VATOS_SEL: 0x180,
  IDR6: 0x190,
  DPT_BASE: 0x200,
  DPT_BASE_CFG: 0x208,
  DPT_CFG_FAR: 0x210,
  /** First of the 256 IMPLEMENTATION DEFINED bytes' registers, 0xe00 to 0xeff. */
  IMPDEF: 0xe00,
  /** CMDQ_CONTROL_PAGE_BASEn (64 bits), +8 CMDQ_CONTROL_PAGE_CFGn, +12 CMDQ_CONTROL_PAGE_STATUSn; stride 32. */
  CMDQ_CONTROL_PAGE_BASE: 0x4000,
  CMDQ_CONTROL_PAGE_CFG: 0x4008,
  CMDQ_CONTROL_PAGE_STATUS: 0x400c,
  CMDQ_CONTROL_PAGE_STRIDE: 0x20,
  /** CoreSight identification registers, twelve words up to 0xffc. */
  IDREGS: 0xfd0,
  EVENTQ_PROD: 0x100a8,
  EVENTQ_CONS: 0x100ac,
  PRIQ_PROD: 0x100c8,
  PRIQ_CONS: 0x100cc,
} as const;

/** Bytes of the two register pages. */
export const REGISTER_BYTES = 0x20000;

export const IDR0 = {
  S2P: bits(0),
  S1P: bits(1),
  TTF: bits(2, 2),
  COHACC: bits(4),
  BTM: bits(5),
  HTTU: bits(6, 2),
  DORMHINT: bits(8),
  HYP: bits(9),
  ATS: bits(10),
  NS1ATS: bits(11),
  ASID16: bits(12),
  MSI: bits(13),
  SEV: bits(14),
  ATOS: bits(15),
  PRI: bits(16),
  VMW: bits(17),
  VMID16: bits(18),
  CD2L: bits(19),
  VATOS: bits(20),
  TTENDIAN: bits(21, 2),
  ATSRECERR: bits(23),
  STALL_MODEL: bits(24, 2),
  TERM_MODEL: bits(26),
  ST_LEVEL: bits(27, 2),
  RME_IMPL: bits(30),
} as const;

export const IDR0_TTF_AARCH32 = 1;
export const IDR0_TTF_AARCH64 = 2;
export const IDR0_TTF_AARCH32_64 = 3;
export const IDR0_TTENDIAN_MIXED = 0;
export const IDR0_TTENDIAN_LITTLE = 2;
export const IDR0_TTENDIAN_BIG = 3;
/** Stall and terminate, both. */
export const IDR0_STALL_MODEL_BOTH = 0;
/** Stall not supported: every fault terminates. */
export const IDR0_STALL_MODEL_TERMINATE = 1;
/** Stall is forced. */
export const IDR0_STALL_MODEL_FORCED = 2;

export const IDR1 = {
  SIDSIZE: bits(0, 6),
  SSIDSIZE: bits(6, 5),
  PRIQS: bits(11, 5),
  EVENTQS: bits(16, 5),
  CMDQS: bits(21, 5),
  ATTR_PERMS_OVR: bits(26),
  ATTR_TYPES_OVR: bits(27),
  REL: bits(28),
  QUEUES_PRESET: bits(29),
  TABLES_PRESET: bits(30),
  ECMDQ: bits(31),
} as const;

export const IDR2 = { BA_VATOS: bits(0, 10) } as const;

export const IDR3 = {
  HAD: bits(2),
  PBHA: bits(3),
  XNX: bits(4),
  PPS: bits(5),
  MPAM: bits(7),
  FWB: bits(8),
  STT: bits(9),
  RIL: bits(10),
  BBML: bits(11, 2),
  E0PD: bits(13),
  PTWNNC: bits(14),
  DPT: bits(15),
} as const;

export const IDR5 = {
  OAS: bits(0, 3),
  GRAN4K: bits(4),
  GRAN16K: bits(5),
  GRAN64K: bits(6),
  VAX: bits(10, 2),
  STALL_MAX: bits(16, 16),
} as const;

/** Bits of an output address by the encoding of IDR5.OAS, CD.IPS and STE.S2PS; the last is treated as 52. */
export const OAS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;

/** The code of an output size in bits: of IDR5.OAS, STE.S2PS and CD.IPS. Throws RangeError for a width without one. */
export function oasCode(bits: number): number {
  const code = (OAS_BITS as readonly number[]).indexOf(bits);
  if (code < 0) {
    throw new RangeError(`no output size has ${bits} bits`);
  }
  return code;
}

export const IIDR = {
  IMPLEMENTER: bits(0, 12),
  REVISION: bits(12, 4),
  VARIANT: bits(16, 4),
  PRODUCT_ID: bits(20, 12),
} as const;

export const CR0 = {
  SMMUEN: bits(0),
  PRIQEN: bits(1),
  EVENTQEN: bits(2),
  CMDQEN: bits(3),
  ATSCHK: bits(4),
  VMW: bits(6, 3),
  DPT_WALK_EN: bits(10),
} as const;

/** Fields as in CR0. */
export const CR0ACK = CR0;

export const CR1 = {
  QUEUE_IC: bits(0, 2),
  QUEUE_OC: bits(2, 2),
  QUEUE_SH: bits(4, 2),
  TABLE_IC: bits(6, 2),
  TABLE_OC: bits(8, 2),
  TABLE_SH: bits(10, 2),
} as const;

export const CR2 = {
  E2H: bits(0),
  RECINVSID: bits(1),
  PTM: bits(2),
  REC_CFG_ATS: bits(3),
} as const;

export const STATUSR = { DORMANT: bits(0) } as const;

export const GBPA = {
  MEMATTR: bits(0, 4),
  MTCFG: bits(4),
  ALLOCCFG: bits(8, 4),
  SHCFG: bits(12, 2),
  PRIVCFG: bits(16, 2),
  INSTCFG: bits(18, 2),
  ABORT: bits(20),
  UPDATE: bits(31),
} as const;

export const IRQ_CTRL = {
  GERROR_IRQEN: bits(0),
  PRIQ_IRQEN: bits(1),
  EVENTQ_IRQEN: bits(2),
} as const;

/** Fields of GERROR and GERRORN: an error is active where the two differ. */
export const GERROR = {
  CMDQ_ERR: bits(0),
  EVENTQ_ABT_ERR: bits(2),
  PRIQ_ABT_ERR: bits(3),
  MSI_CMDQ_ABT_ERR: bits(4),
  MSI_EVENTQ_ABT_ERR: bits(5),
  MSI_PRIQ_ABT_ERR: bits(6),
  MSI_GERROR_ABT_ERR: bits(7),
  SFM_ERR: bits(8),
  CMDQP_ERR: bits(9),
} as const;

/** The bits of GERROR without ECMDQ. */
export const GERROR_MASK = 0x1fd;

/** 64-bit *_IRQ_CFG0: the MSI's address (a wired interrupt is used where it is 0). */
export const IRQ_CFG0 = { ADDR: address(0, 2, 51) } as const;
/** *_IRQ_CFG1: the MSI's payload. */
export const IRQ_CFG1 = { DATA: bits(0, 32) } as const;
/** *_IRQ_CFG2; PRIQ_IRQ_CFG2 has LO as well. */
export const IRQ_CFG2 = { MEMATTR: bits(0, 4), SH: bits(4, 2), LO: bits(31) } as const;

/** 64 bits. RA is bit 62. */
export const STRTAB_BASE = { ADDR: address(0, 6, 51), RA: { word: 1, shift: 30 } } as const;

export const STRTAB_BASE_CFG = {
  LOG2SIZE: bits(0, 6),
  SPLIT: bits(6, 5),
  FMT: bits(16, 2),
} as const;

export const STRTAB_FMT_LINEAR = 0;
export const STRTAB_FMT_2LEVEL = 1;

/** CMDQ_BASE, EVENTQ_BASE, PRIQ_BASE (64 bits); the hint RA or WA is bit 62. */
export const Q_BASE = { LOG2SIZE: bits(0, 5), ADDR: address(0, 5, 51) } as const;

/** CMDQ_CONS.ERR: why command processing stopped (Arm IHI 0070, 6.3.28). */
export const CMDQ_CONS = { RD: bits(0, 20), ERR: bits(24, 7) } as const;
export const CMDQ_PROD = { WR: bits(0, 20) } as const;
/** EVENTQ_PROD.OVFLG and EVENTQ_CONS.OVACKFLG; an overflow is unacknowledged where the two differ. */
export const Q_OVERFLOW = bits(31);

export const CERROR_NONE = 0;
export const CERROR_ILL = 1;
export const CERROR_ABT = 2;
export const CERROR_ATC_INV_SYNC = 3;

/** Bytes of one entry of each queue. */
export const CMDQ_ENTRY_BYTES = 16;
export const EVENTQ_ENTRY_BYTES = 32;
export const PRIQ_ENTRY_BYTES = 16;
