import { address, field, pack, type FieldValues } from "../../support/index.js";

/** Command: 16 bytes, four 32-bit words (Arm IHI 0070, 4.1). */
export const CMD_WORDS = 4;

/** Opcodes by the name without CMD_. */
export const OP = {
  PREFETCH_CONFIG: 0x01,
  PREFETCH_ADDR: 0x02,
  CFGI_STE: 0x03,
  /** CFGI_ALL is this with RANGE = 31. */
  CFGI_STE_RANGE: 0x04,
  CFGI_CD: 0x05,
  CFGI_CD_ALL: 0x06,
  CFGI_VMS_PIDM: 0x07,
  TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11,
  TLBI_NH_VA: 0x12,
  TLBI_NH_VAA: 0x13,
  TLBI_EL3_ALL: 0x18,
  TLBI_EL3_VA: 0x1a,
  TLBI_EL2_ALL: 0x20,
  TLBI_EL2_ASID: 0x21,
  TLBI_EL2_VA: 0x22,
  TLBI_EL2_VAA: 0x23,
  TLBI_S12_VMALL: 0x28,
  TLBI_S2_IPA: 0x2a,
  TLBI_NSNH_ALL: 0x30,
  ATC_INV: 0x40,
  PRI_RESP: 0x41,
  RESUME: 0x44,
  STALL_TERM: 0x45,
  SYNC: 0x46,
} as const;

/** CMD_CFGI_* and CMD_TLBI_*, by their opcodes (Arm IHI 0070, 4.1.1): what drops entries of the SMMU's own caches, unlike ATC_INV. */
export function isCfgiOrTlbi(opcode: number): boolean {
  return opcode >= OP.CFGI_STE && opcode < OP.ATC_INV;
}

/** CFGI_STE_RANGE.RANGE that covers every StreamID: CMD_CFGI_ALL. */
export const CFGI_RANGE_ALL = 31;

/**
 * Fields of all commands; which ones a command has is in `commandFields`. NUM and SCALE are the range of
 * TLBI_*VA* and TLBI_S2_IPA where IDR3.RIL is set (Arm IHI 0070, 4.4.1.1).
 */
export const CMD = {
  OPCODE: field(0, 0, 8),
  /** Without SECURE state the command is CERROR_ILL where SSEC is set. */
  SSEC: field(0, 10),
  SSV: field(0, 11),
  SSID: field(0, 12, 20),
  SID: field(1, 0, 32),
  LEAF: field(2, 0),
  RANGE: field(2, 0, 5),
  NUM: field(0, 12, 5),
  SCALE: field(0, 20, 6),
  VMID: field(1, 0, 16),
  ASID: field(1, 16, 16),
  TTL: field(2, 8, 2),
  TG: field(2, 10, 2),
  /** VA[63:12] of TLBI_*VA*, IPA[51:12] of TLBI_S2_IPA. */
  ADDRESS: address(2, 12, 63),
  PREFETCH_SIZE: field(2, 0, 5),
  PREFETCH_STRIDE: field(2, 5, 5),
  /** ATC_INV: the invalidation is for all PASIDs (the Global Invalidate flag). */
  GLOBAL: field(0, 9),
  /** ATC_INV: 2^SIZE pages of 4 KiB; 52 and more is everything. */
  ATC_SIZE: field(2, 0, 6),
  PRG_INDEX: field(2, 0, 9),
  PRI_RESP: field(2, 12, 2),
  RESUME_AC: field(0, 12),
  RESUME_AB: field(0, 13),
  STAG: field(2, 0, 16),
  SYNC_CS: field(0, 12, 2),
  SYNC_MSH: field(0, 22, 2),
  SYNC_MSIATTR: field(0, 24, 4),
  SYNC_MSIDATA: field(1, 0, 32),
  SYNC_MSIADDRESS: address(2, 2, 51),
} as const;

/** Values of CMD_SYNC.CS: the completion signal. */
export const SYNC_CS_NONE = 0;
export const SYNC_CS_IRQ = 1;
export const SYNC_CS_SEV = 2;

/** Values of CMD_PRI_RESP.RESP. */
export const PRI_RESP_DENY = 0;
export const PRI_RESP_FAIL = 1;
export const PRI_RESP_SUCCESS = 2;

/** Values of TLBI.TG: 0 is no hint about the granule and no range. */
export const TLBI_TG_NONE = 0;
export const TLBI_TG_4K = 1;
export const TLBI_TG_16K = 2;
export const TLBI_TG_64K = 3;

/** ATC_INV.SIZE that covers the whole address space. */
export const ATC_SIZE_ALL = 52;

const names = new Map<number, string>(Object.entries(OP).map(([name, op]) => [op, `CMD_${name}`]));

/** The architecture's name of an opcode, such as CMD_CFGI_STE; CMD_0xNN for one that is not defined. */
export function commandName(opcode: number): string {
  return names.get(opcode) ?? `CMD_0x${opcode.toString(16).padStart(2, "0")}`;
}

type CommandFieldName = keyof typeof CMD;

const configured: readonly CommandFieldName[] = ["SSEC", "SSV", "SSID", "SID"];
const ranged: readonly CommandFieldName[] = ["NUM", "SCALE", "LEAF", "TTL", "TG", "ADDRESS"];

/** The fields that a command has, the opcode aside. */
export const commandFields: ReadonlyMap<number, readonly CommandFieldName[]> = new Map<number, readonly CommandFieldName[]>([
  [OP.PREFETCH_CONFIG, configured],
  [OP.PREFETCH_ADDR, [...configured, "PREFETCH_SIZE", "PREFETCH_STRIDE", "ADDRESS"]],
  [OP.CFGI_STE, ["SSEC", "SID", "LEAF"]],
  [OP.CFGI_STE_RANGE, ["SSEC", "SID", "RANGE"]],
  [OP.CFGI_CD, ["SSEC", "SSID", "SID", "LEAF"]],
  [OP.CFGI_CD_ALL, ["SSEC", "SID"]],
  [OP.CFGI_VMS_PIDM, ["SSEC", "VMID"]],
  [OP.TLBI_NH_ALL, ["VMID"]],
  [OP.TLBI_NH_ASID, ["VMID", "ASID"]],
  [OP.TLBI_NH_VA, ["VMID", "ASID", ...ranged]],
  [OP.TLBI_NH_VAA, ["VMID", ...ranged]],
  [OP.TLBI_EL3_ALL, []],
  [OP.TLBI_EL3_VA, ranged],
  [OP.TLBI_EL2_ALL, []],
  [OP.TLBI_EL2_ASID, ["ASID"]],
  [OP.TLBI_EL2_VA, ["ASID", ...ranged]],
  [OP.TLBI_EL2_VAA, ranged],
  [OP.TLBI_S12_VMALL, ["VMID"]],
  [OP.TLBI_S2_IPA, ["VMID", ...ranged]],
  [OP.TLBI_NSNH_ALL, []],
  [OP.ATC_INV, ["SSEC", "SSV", "SSID", "GLOBAL", "SID", "ATC_SIZE", "ADDRESS"]],
  [OP.PRI_RESP, ["SSEC", "SSV", "SSID", "SID", "PRG_INDEX", "PRI_RESP"]],
  [OP.RESUME, ["SSEC", "SID", "STAG", "RESUME_AC", "RESUME_AB"]],
  [OP.STALL_TERM, ["SSEC", "SID"]],
  [OP.SYNC, ["SYNC_CS", "SYNC_MSH", "SYNC_MSIATTR", "SYNC_MSIDATA", "SYNC_MSIADDRESS"]],
]);

/**
 * The image of a command, four words; fields that are not named are zero.
 * Throws RangeError where a value does not fit, or where the command has no such field.
 */
export function encodeCommand(opcode: number, values: FieldValues<typeof CMD> = {}): Int32Array {
  const allowed = commandFields.get(opcode);
  for (const name of Object.keys(values)) {
    if (allowed !== undefined && !allowed.includes(name as CommandFieldName)) {
      throw new RangeError(`${commandName(opcode)} has no field ${name}`);
    }
  }
  const words = pack(CMD, new Int32Array(CMD_WORDS), values);
  words[0] |= opcode;
  return words;
}
