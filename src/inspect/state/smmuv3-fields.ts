/** Structures of an SMMUv3 in memory, field by field (Arm IHI 0070, chapters 5 and 7). */
import { CD, EVENT, EVT, eventName, L1CD, L1STD, OAS_BITS, STE } from "../../smmuv3/spec/index.js";
import { address, field, type Layout } from "../../support/index.js";
import type { Meanings } from "./fields.js";
import { type StructureLayout, whenSet } from "./structure-layout.js";

const section = (number: string): string => `Arm IHI 0070, ${number}`;

const CACHEABILITY = { 0: "Non-cacheable", 1: "Write-Back, Read-Allocate, Write-Allocate", 2: "Write-Through, Read-Allocate", 3: "Write-Back, Read-Allocate, no Write-Allocate" };
const SHAREABILITY = { 0: "Non-shareable", 1: "reserved", 2: "Outer Shareable", 3: "Inner Shareable" };
const GRANULE0 = { 0: "4KB granule", 1: "64KB granule", 2: "16KB granule", 3: "reserved" };
const GRANULE1 = { 0: "reserved", 1: "16KB granule", 2: "4KB granule", 3: "64KB granule" };
const VALID = { 0: "not valid", 1: "valid" };
const inputSize = (value: number): string => `${64 - value} bits of input address`;
const outputSize = (value: number): string => `${OAS_BITS[value]} bits of output address`;

export const L1STD_LAYOUT: StructureLayout = {
  name: "L1 stream table descriptor",
  section: section("5.1"),
  layout: { Span: L1STD.SPAN, L2Ptr: L1STD.L2PTR },
  meanings: { Span: (value) => (value === 0 ? "no table: no stream of it is valid" : value > 11 ? "reserved" : `a table of ${2 ** (value - 1)} STEs`) },
};

export const STE_LAYOUT: StructureLayout = {
  name: "STE",
  section: section("5.2"),
  layout: {
    V: STE.V,
    Config: STE.CONFIG,
    S1Fmt: STE.S1FMT,
    S1ContextPtr: STE.S1CONTEXTPTR,
    S1CDMax: STE.S1CDMAX,
    S1DSS: STE.S1DSS,
    S1CIR: STE.S1CIR,
    S1COR: STE.S1COR,
    S1CSH: STE.S1CSH,
    S2HWU59: STE.S2HWU59,
    S2HWU60: STE.S2HWU60,
    S2HWU61: STE.S2HWU61,
    S2HWU62: STE.S2HWU62,
    DRE: STE.DRE,
    CONT: STE.CONT,
    DCP: STE.DCP,
    PPAR: STE.PPAR,
    MEV: STE.MEV,
    SW: STE.SW,
    S2FWB: STE.S2FWB,
    S1MPAM: STE.S1MPAM,
    S1STALLD: STE.S1STALLD,
    EATS: STE.EATS,
    STRW: STE.STRW,
    MemAttr: STE.MEMATTR,
    MTCFG: STE.MTCFG,
    ALLOCCFG: STE.ALLOCCFG,
    SHCFG: STE.SHCFG,
    NSCFG: STE.NSCFG,
    PRIVCFG: STE.PRIVCFG,
    INSTCFG: STE.INSTCFG,
    S2VMID: STE.S2VMID,
    S2T0SZ: STE.S2T0SZ,
    S2SL0: STE.S2SL0,
    S2IR0: STE.S2IR0,
    S2OR0: STE.S2OR0,
    S2SH0: STE.S2SH0,
    S2TG: STE.S2TG,
    S2PS: STE.S2PS,
    S2AA64: STE.S2AA64,
    S2ENDI: STE.S2ENDI,
    S2AFFD: STE.S2AFFD,
    S2PTW: STE.S2PTW,
    S2HD: STE.S2HD,
    S2HA: STE.S2HA,
    S2S: STE.S2S,
    S2R: STE.S2R,
    S2TTB: STE.S2TTB,
  },
  meanings: {
    V: VALID,
    Config: (value) => (value < 4 ? "abort without an event" : ["both stages bypass", "stage 1", "stage 2", "stage 1 and stage 2"][value - 4]),
    S1Fmt: { 0: "linear CD table", 1: "two-level CD table, leaves of 64 CDs", 2: "two-level CD table, leaves of 1024 CDs", 3: "reserved" },
    S1CDMax: (value) => (value === 0 ? "one CD, no substreams" : `${2 ** value} CDs`),
    S1DSS: { 0: "without SubstreamID: abort", 1: "without SubstreamID: stage 1 bypass", 2: "without SubstreamID: CD 0", 3: "reserved" },
    S1CIR: CACHEABILITY,
    S1COR: CACHEABILITY,
    S1CSH: SHAREABILITY,
    MEV: whenSet("like events may be merged"),
    S2FWB: whenSet("stage 2 decides the memory type"),
    S1STALLD: whenSet("stage 1 may not stall"),
    EATS: { 0: "ATS is refused", 1: "full ATS", 2: "split-stage ATS", 3: "ATS checked by the DPT" },
    STRW: { 0: "EL1", 2: "EL2 or EL2-E2H" },
    MTCFG: whenSet("MemAttr replaces the memory type"),
    SHCFG: { 0: "Non-shareable", 1: "as incoming", 2: "Outer Shareable", 3: "Inner Shareable" },
    NSCFG: { 0: "as incoming", 2: "Secure", 3: "Non-secure" },
    PRIVCFG: { 0: "as incoming", 2: "unprivileged", 3: "privileged" },
    INSTCFG: { 0: "as incoming", 2: "data", 3: "instruction" },
    S2T0SZ: inputSize,
    S2IR0: CACHEABILITY,
    S2OR0: CACHEABILITY,
    S2SH0: SHAREABILITY,
    S2TG: GRANULE0,
    S2PS: outputSize,
    S2AA64: { 0: "VMSAv8-32 LPAE tables", 1: "VMSAv8-64 tables" },
    S2ENDI: { 0: "little-endian tables", 1: "big-endian tables" },
    S2AFFD: whenSet("no access flag faults"),
    S2PTW: whenSet("stage-1 tables in Device memory fault"),
    S2HD: whenSet("hardware sets dirty state"),
    S2HA: whenSet("hardware sets the access flag"),
    S2S: whenSet("stage 2 faults stall"),
    S2R: { 0: "stage 2 faults are not recorded", 1: "stage 2 faults are recorded" },
  },
};

export const L1CD_LAYOUT: StructureLayout = {
  name: "L1 CD descriptor",
  section: section("5.3"),
  layout: { V: L1CD.V, L2Ptr: L1CD.L2PTR },
  meanings: { V: VALID },
};

export const CD_LAYOUT: StructureLayout = {
  name: "CD",
  section: section("5.4"),
  layout: { ...CD },
  meanings: {
    V: VALID,
    T0SZ: inputSize,
    T1SZ: inputSize,
    TG0: GRANULE0,
    TG1: GRANULE1,
    IR0: CACHEABILITY,
    IR1: CACHEABILITY,
    OR0: CACHEABILITY,
    OR1: CACHEABILITY,
    SH0: SHAREABILITY,
    SH1: SHAREABILITY,
    EPD0: { 0: "TTB0 is walked", 1: "no walk of TTB0: a translation fault" },
    EPD1: { 0: "TTB1 is walked", 1: "no walk of TTB1: a translation fault" },
    ENDI: { 0: "little-endian tables", 1: "big-endian tables" },
    IPS: outputSize,
    AFFD: whenSet("no access flag faults"),
    WXN: whenSet("writable is not executable"),
    UWXN: whenSet("writable by unprivileged is not privileged-executable"),
    TBI0: whenSet("the top byte is ignored"),
    TBI1: whenSet("the top byte is ignored"),
    PAN: whenSet("no privileged access to what is unprivileged"),
    AA64: { 0: "VMSAv8-32 LPAE tables", 1: "VMSAv8-64 tables" },
    HD: whenSet("hardware sets dirty state"),
    HA: whenSet("hardware sets the access flag"),
    S: whenSet("stage 1 faults stall"),
    R: { 0: "stage 1 faults are not recorded", 1: "stage 1 faults are recorded" },
    A: { 0: "stage 1 faults read as zero, ignore writes", 1: "stage 1 faults abort" },
    ASET: { 0: "the ASID is shared with processes", 1: "the ASID is of this SMMU alone" },
    HAD0: whenSet("attributes of tables are ignored"),
    HAD1: whenSet("attributes of tables are ignored"),
    E0PD0: whenSet("unprivileged accesses fault"),
    E0PD1: whenSet("unprivileged accesses fault"),
  },
};

const EVENT_MEANINGS: Meanings = {
  NUMBER: (value) => eventName(value),
  SSV: { 0: "without SubstreamID", 1: "with SubstreamID" },
  STALL: { 0: "terminated", 1: "stalled" },
  PnU: { 0: "unprivileged", 1: "privileged" },
  InD: { 0: "data", 1: "instruction" },
  RnW: { 0: "write", 1: "read" },
  S2: { 0: "stage 1", 1: "stage 2" },
  CLASS: { 0: "fetching a CD", 1: "fetching a translation table", 2: "the input address", 3: "reserved" },
  R: whenSet("read asked for"),
  W: whenSet("write asked for"),
  X: whenSet("execute asked for"),
  Priv: whenSet("privileged"),
};
const NUMBER = { NUMBER: EVT.NUMBER };
const STREAM = { ...NUMBER, StreamID: EVT.SID };
const SUBSTREAM = { ...STREAM, SSV: EVT.SSV, SubstreamID: EVT.SSID };
const ACCESS = { PnU: EVT.PNU, InD: EVT.IND, RnW: EVT.RNW };
const INPUT = { InputAddr: EVT.INPUT_ADDR };
const FETCH = { ...SUBSTREAM, Reason: EVT.REASON, GPCF: EVT.GPCF, FetchAddr: EVT.FETCH_ADDR };
const FAULT = { ...SUBSTREAM, STAG: EVT.STAG, STALL: EVT.STALL, ...ACCESS, NSIPA: EVT.NSIPA, S2: EVT.S2, CLASS: EVT.CLASS, ...INPUT };

/** What each record has (7.3.2 to 7.3.20), and where. */
const EVENTS: Readonly<Record<number, readonly [number: string, layout: Layout]>> = {
  [EVENT.F_UUT]: ["7.3.2", { ...SUBSTREAM, Reason: EVT.REASON, ...ACCESS, ...INPUT }],
  [EVENT.C_BAD_STREAMID]: ["7.3.3", SUBSTREAM],
  [EVENT.F_STE_FETCH]: ["7.3.4", FETCH],
  [EVENT.C_BAD_STE]: ["7.3.5", SUBSTREAM],
  [EVENT.F_BAD_ATS_TREQ]: ["7.3.6", { ...SUBSTREAM, Span: EVT.TREQ_SPAN, Priv: EVT.TREQ_PRIV, X: EVT.TREQ_X, W: EVT.TREQ_W, R: EVT.TREQ_R, ...INPUT }],
  [EVENT.F_STREAM_DISABLED]: ["7.3.7", STREAM],
  [EVENT.F_TRANSL_FORBIDDEN]: ["7.3.8", { ...STREAM, RnW: EVT.RNW, ...INPUT }],
  [EVENT.C_BAD_SUBSTREAMID]: ["7.3.9", { ...STREAM, SubstreamID: EVT.SSID }],
  [EVENT.F_CD_FETCH]: ["7.3.10", FETCH],
  [EVENT.C_BAD_CD]: ["7.3.11", SUBSTREAM],
  [EVENT.F_WALK_EABT]: ["7.3.12", { ...SUBSTREAM, Reason: EVT.REASON, GPCF: EVT.GPCF, ...ACCESS, NSIPA: EVT.NSIPA, S2: EVT.S2, CLASS: EVT.CLASS, ...INPUT, FetchAddr: EVT.FETCH_ADDR }],
  [EVENT.F_TRANSLATION]: ["7.3.13", { ...FAULT, IPA: EVT.IPA }],
  [EVENT.F_ADDR_SIZE]: ["7.3.14", { ...FAULT, IPA: EVT.IPA }],
  [EVENT.F_ACCESS]: ["7.3.15", { ...FAULT, IPA: EVT.IPA }],
  [EVENT.F_PERMISSION]: ["7.3.16", { ...FAULT, IPA: EVT.IPA }],
  [EVENT.F_TLB_CONFLICT]: ["7.3.17", { ...SUBSTREAM, Reason: EVT.REASON, ...ACCESS, S2: EVT.S2, ...INPUT, IPA: EVT.IPA }],
  [EVENT.F_CFG_CONFLICT]: ["7.3.18", { ...SUBSTREAM, Reason: EVT.REASON }],
  [EVENT.E_PAGE_REQUEST]: ["7.3.19", { ...SUBSTREAM, Span: field(2, 0, 8), uX: field(3, 8), uW: field(3, 9), uR: field(3, 10), pX: field(3, 11), pW: field(3, 12), pR: field(3, 13), InputAddr: address(4, 12, 63) }],
  [EVENT.F_VMS_FETCH]: ["7.3.20", FETCH],
};

/** The layout of an event record, by its first word. */
export function eventLayout(number: number): StructureLayout {
  const [where, layout] = EVENTS[number] ?? ["7.3", SUBSTREAM];
  return { name: eventName(number), section: section(where), layout, meanings: EVENT_MEANINGS };
}
