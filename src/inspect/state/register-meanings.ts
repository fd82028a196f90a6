/** What values of register fields say, by register and field. */
import { extract, GERROR, OAS_BITS } from "../../smmuv3/spec/index.js";
import { lowWord } from "../../support/index.js";
import type { Meanings } from "./fields.js";

const CERRORS = { 0: "no error", 1: "CERROR_ILL: the command is illegal", 2: "CERROR_ABT: the command cannot be fetched", 3: "CERROR_ATC_INV_SYNC: an ATC_INV before the CMD_SYNC timed out" };
const ON = { 0: "off", 1: "on" };
const STAGE = { 0: "not offered", 1: "offered" };

const SMMU: Readonly<Record<string, Meanings>> = {
  IDR0: {
    S2P: { 0: "no stage 2", 1: "stage 2" },
    S1P: { 0: "no stage 1", 1: "stage 1" },
    TTF: { 1: "AArch32", 2: "AArch64", 3: "AArch32 and AArch64" },
    COHACC: { 0: "accesses are not coherent", 1: "accesses are coherent" },
    HTTU: { 0: "none", 1: "access flag", 2: "access flag and dirty state" },
    ATS: STAGE,
    PRI: STAGE,
    MSI: STAGE,
    SEV: STAGE,
    CD2L: { 0: "linear tables of context descriptors", 1: "two-level tables of context descriptors" },
    TTENDIAN: { 0: "mixed", 2: "little", 3: "big" },
    STALL_MODEL: { 0: "stall and terminate", 1: "terminate", 2: "stall" },
    ST_LEVEL: { 0: "linear stream table", 1: "linear or two-level stream table" },
  },
  IDR1: { SIDSIZE: bitsOf, SSIDSIZE: bitsOf, CMDQS: entries, EVENTQS: entries, PRIQS: entries },
  IDR3: { RIL: { 0: "no range invalidation", 1: "range invalidation" }, BBML: (value) => `level ${value}` },
  IDR5: { OAS: (value) => `${OAS_BITS[value]} bits`, GRAN4K: STAGE, GRAN16K: STAGE, GRAN64K: STAGE, VAX: { 0: "48-bit virtual addresses", 1: "52-bit virtual addresses" } },
  ...same(["CR0", "CR0ACK"], { SMMUEN: { 0: "GBPA decides", 1: "streams are translated" }, PRIQEN: ON, EVENTQEN: ON, CMDQEN: ON, ATSCHK: { 0: "Translated transactions pass", 1: "Translated transactions are checked" } }),
  CR2: { RECINVSID: { 0: "C_BAD_STREAMID is not recorded", 1: "C_BAD_STREAMID is recorded" } },
  GBPA: { ABORT: { 0: "bypass while SMMUEN is 0", 1: "abort while SMMUEN is 0" } },
  ...same(["IRQ_CTRL", "IRQ_CTRLACK"], { GERROR_IRQEN: ON, PRIQ_IRQEN: ON, EVENTQ_IRQEN: ON }),
  STRTAB_BASE_CFG: { FMT: { 0: "linear", 1: "two levels" }, LOG2SIZE: (value) => `${2 ** value} StreamIDs`, SPLIT: (value) => `second level of ${2 ** value}` },
  ...same(["CMDQ_BASE", "EVENTQ_BASE", "PRIQ_BASE"], { LOG2SIZE: entries }),
  CMDQ_CONS: { ERR: CERRORS },
};

const STATUS = { 0: "off", 1: "on" };
const GRANULARITY = { 1: "global", 2: "domain", 3: "selective" };

const VTD: Readonly<Record<string, Meanings>> = {
  CAP: {
    ND: (value) => `${2 ** (4 + 2 * value)} domains`,
    CM: { 0: "no caching mode", 1: "caching mode" },
    SAGAW: (value) => [39, 48, 57].filter((_width, index) => (value & (2 << index)) !== 0).map((width) => `${width} bits`).join(", ") || null,
    MGAW: (value) => `${value + 1} bits`,
    NFR: (value) => `${value + 1} fault recording registers`,
  },
  ECAP: {
    QI: STAGE,
    DT: STAGE,
    IR: STAGE,
    EIM: STAGE,
    PT: STAGE,
    NEST: STAGE,
    PRS: STAGE,
    PASID: STAGE,
    SMTS: { 0: "no scalable mode", 1: "scalable mode" },
    SSTS: STAGE,
    FSTS: STAGE,
    PSS: (value) => `PASIDs of ${value + 1} bits`,
  },
  GSTS: { TES: { 0: "requests are not translated", 1: "requests are translated" }, RTPS: { 0: "no root table was taken", 1: "the root table was taken" }, QIES: STATUS, IRES: STATUS, IRTPS: { 0: "no interrupt table was taken", 1: "the interrupt table was taken" } },
  RTADDR: { TTM: { 0: "legacy mode", 1: "scalable mode", 2: "reserved", 3: "abort-DMA mode" } },
  CCMD: { CIRG: GRANULARITY, CAIG: GRANULARITY },
  IOTLB: { IIRG: GRANULARITY, IAIG: GRANULARITY },
  FSTS: { PFO: { 1: "faults were lost" }, PPF: { 1: "a fault record is pending" }, IQE: { 1: "invalidation queue error" }, ICE: { 1: "invalidation completion error" }, ITE: { 1: "invalidation time-out" } },
  ...same(["FECTL", "IECTL", "PECTL"], { IM: { 0: "messages are sent", 1: "messages are masked" }, IP: { 1: "a message is pending" } }),
  IQA: { QS: (value) => `${2 ** value} pages of 4 KiB`, DW: { 0: "descriptors of 128 bits", 1: "descriptors of 256 bits" } },
  IQERCD: { IQEI: (value) => (value === 0 ? null : iqeiText(value)) },
  IRTA: { S: (value) => `${2 ** (value + 1)} entries`, EIME: { 0: "8-bit APIC ids", 1: "32-bit APIC ids" } },
};

/** IQERCD.IQEI in words (11.4.8.9). */
export function iqeiText(value: number): string {
  return (
    [
      "no reason is told",
      "the tail is beyond the queue",
      "the descriptor cannot be fetched",
      "no such type of descriptor here",
      "a reserved field is set",
      "the width of descriptors does not fit the table mode",
      "the tail is not aligned for descriptors of 256 bits",
      "RTADDR.TTM is reserved",
    ][value] ?? `reason ${value}`
  );
}

/** CMDQ_CONS.ERR in words (Arm IHI 0070, 7.1). */
export function cerrorText(value: number): string {
  return CERRORS[value as keyof typeof CERRORS] ?? `error ${value}`;
}

/** `registers`: an error of GERROR is active where GERRORN differs. */
export function registerMeanings(architecture: "smmuv3" | "vtd", registers: ReadonlyMap<string, bigint>): Readonly<Record<string, Meanings>> {
  if (architecture === "vtd") {
    return VTD;
  }
  const active = lowWord((registers.get("GERROR") ?? 0n) ^ (registers.get("GERRORN") ?? 0n));
  const errors: Meanings = Object.fromEntries(Object.entries(GERROR).map(([name, error]) => [name, () => (extract(active, error) !== 0 ? "active" : null)]));
  return { ...SMMU, GERROR: errors, GERRORN: errors };
}

function same(registers: readonly string[], meanings: Meanings): Record<string, Meanings> {
  return Object.fromEntries(registers.map((name) => [name, meanings]));
}

function bitsOf(value: number): string {
  return `${value} bits`;
}

function entries(value: number): string {
  return `${2 ** value} entries`;
}
