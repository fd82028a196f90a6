/** Structures of a VT-d unit in memory, field by field (Intel VT-d 5.x, chapter 9 and 11.4.7.6). */
import { CONTEXT, FRCD, FS_A, FS_D, FS_EA, FS_G, FS_P, FS_PS, FS_RW, FS_US, PASID_DIRECTORY, PASID_ENTRY, ROOT, SM_CONTEXT, SM_ROOT, SS_A, SS_D, SS_PS, SS_R, SS_SNP, SS_W, SS_X } from "../../vtd/spec/index.js";
import { address, type Field, field, type Layout } from "../../support/index.js";
import { levelShift } from "../../translation/index.js";
import { type StructureLayout, whenSet } from "./structure-layout.js";
import { faultWords } from "./vtd-fault-words.js";

const section = (number: string): string => `Intel VT-d ${number}`;

const PRESENT = { 0: "not present", 1: "present" };
const FPD = { 0: "faults are recorded", 1: "qualified faults are not recorded" };
const LEVELS = (value: number): string | null => (value >= 1 && value <= 3 ? `${value + 2} levels, ${39 + 9 * (value - 1)} bits` : null);

export const ROOT_LAYOUT: StructureLayout = { name: "root entry", section: section("9.1"), layout: { P: ROOT.P, CTP: ROOT.CTP }, meanings: { P: PRESENT } };

export const SM_ROOT_LAYOUT: StructureLayout = {
  name: "scalable-mode root entry",
  section: section("9.2"),
  layout: { ...SM_ROOT },
  meanings: { LP: PRESENT, UP: PRESENT },
};

export const CONTEXT_LAYOUT: StructureLayout = {
  name: "context entry",
  section: section("9.3"),
  layout: { P: CONTEXT.P, FPD: CONTEXT.FPD, TT: CONTEXT.TT, SSPTPTR: CONTEXT.SSPTPTR, AW: CONTEXT.AW, DID: CONTEXT.DID },
  meanings: {
    P: PRESENT,
    FPD,
    TT: { 0: "second stage, untranslated requests only", 1: "second stage, device-TLBs allowed", 2: "pass-through", 3: "reserved" },
    AW: LEVELS,
  },
};

export const SM_CONTEXT_LAYOUT: StructureLayout = {
  name: "scalable-mode context entry",
  section: section("9.4"),
  layout: { ...SM_CONTEXT },
  meanings: {
    P: PRESENT,
    FPD,
    DTE: { 0: "device-TLB refused", 1: "device-TLB allowed" },
    PASIDE: { 0: "requests with PASID are blocked", 1: "requests with PASID are allowed" },
    PRE: { 0: "page requests are refused", 1: "page requests are allowed" },
    PDTS: (value) => `${2 ** (value + 7)} directory entries, ${2 ** (value + 13)} PASIDs`,
    RID_PASID: (value) => `PASID of requests without one: ${value}`,
    RID_PRIV: whenSet("requests without PASID are privileged"),
  },
};

export const PASID_DIRECTORY_LAYOUT: StructureLayout = {
  name: "PASID directory entry",
  section: section("9.5"),
  layout: { ...PASID_DIRECTORY },
  meanings: { P: PRESENT, FPD },
};

export const PASID_ENTRY_LAYOUT: StructureLayout = {
  name: "PASID table entry",
  section: section("9.6"),
  layout: { ...PASID_ENTRY },
  meanings: {
    P: PRESENT,
    FPD,
    AW: LEVELS,
    SSEE: whenSet("the second stage tells execution apart"),
    PGTT: { 1: "first stage", 2: "second stage", 3: "nested: first and second stage", 4: "pass-through" },
    SSADE: whenSet("the second stage keeps accessed and dirty flags"),
    PWSNP: { 0: "walks do not snoop", 1: "walks snoop" },
    PGSNP: whenSet("accesses snoop whatever the request says"),
    SRE: { 0: "privileged requests are blocked", 1: "privileged requests are allowed" },
    ERE: whenSet("execute requests are allowed"),
    FSPM: { 0: "4 levels", 1: "5 levels", 2: "reserved", 3: "reserved" },
    WPE: whenSet("privileged writes obey R/W"),
    NXE: whenSet("XD counts"),
    EAFE: whenSet("the extended accessed flag is set"),
  },
};

/** Entries of tables by the level that has them: 1 to 5, as the specification counts. */
const ENTRY_NAMES = ["", "PTE", "PDE", "PDPE", "PML4E", "PML5E"];

/** What a paging entry is: level 1 has pages; PS makes one of level 2 or 3. */
export function entryKind(low: number, format: "first" | "second", level: number): "not present" | "table" | "page" {
  const present = format === "first" ? (low & FS_P) !== 0 : (low & (SS_R | SS_W)) !== 0;
  return !present ? "not present" : level === 1 || (level <= 3 && (low & FS_PS) !== 0) ? "page" : "table";
}

/**
 * The layout of a paging entry (9.8 first stage, 9.9 second stage).
 *
 * @param level 1 to 5
 */
export function entryLayout(low: number, format: "first" | "second", level: number): StructureLayout {
  const kind = entryKind(low, format, level);
  const first = format === "first";
  const pageBits = kind === "page" ? levelShift(12, 4 - level) : 12;
  return {
    name: first ? `first-stage ${ENTRY_NAMES[level]}` : `second-stage SS-${ENTRY_NAMES[level]}`,
    section: section(first ? "9.8" : "9.9"),
    layout: { ...(first ? firstStage(level, kind === "page") : secondStage(level, kind === "page")), ADDR: address(0, pageBits, 51) },
    meanings: {
      P: PRESENT,
      "R/W": { 0: "read", 1: "read and write" },
      "U/S": { 0: "privileged", 1: "privileged and unprivileged" },
      A: { 0: "not accessed", 1: "accessed" },
      D: { 0: "not written", 1: "written" },
      EA: whenSet("accessed by a device"),
      PS: { 0: "a table", 1: level <= 3 ? "a page" : "reserved" },
      G: whenSet("global"),
      XD: whenSet("not executable"),
      R: { 0: "no reads", 1: "reads" },
      W: { 0: "no writes", 1: "writes" },
      SNP: whenSet("accesses snoop"),
    },
  };
}

function flag(mask: number): Field {
  return field(0, 31 - Math.clz32(mask));
}

function firstStage(level: number, page: boolean): Layout {
  return {
    P: flag(FS_P),
    "R/W": flag(FS_RW),
    "U/S": flag(FS_US),
    PWT: field(0, 3),
    PCD: field(0, 4),
    A: flag(FS_A),
    EA: flag(FS_EA),
    ...(page ? { D: flag(FS_D), G: flag(FS_G), PAT: level === 1 ? field(0, 7) : field(0, 12) } : {}),
    ...(level > 1 ? { PS: flag(FS_PS) } : {}),
    XD: field(1, 31),
  };
}

function secondStage(level: number, page: boolean): Layout {
  return {
    R: flag(SS_R),
    W: flag(SS_W),
    X: flag(SS_X),
    A: flag(SS_A),
    ...(level > 1 ? { PS: flag(SS_PS) } : {}),
    ...(page ? { EMT: field(0, 3, 3), IPAT: field(0, 6), D: flag(SS_D), SNP: flag(SS_SNP), TM: field(1, 30) } : {}),
  };
}

export const FAULT_RECORD_LAYOUT: StructureLayout = {
  name: "fault recording register",
  section: section("11.4.7.6"),
  layout: { ...FRCD },
  meanings: {
    T1: { 0: "write or Page Request", 1: "read or AtomicOp" },
    T2: { 0: "write or read", 1: "Page Request or AtomicOp" },
    PRIV: whenSet("privileged mode was asked for"),
    EXE: whenSet("execution was asked for"),
    PP: { 0: "without PASID", 1: "with PASID" },
    AT: { 0: "untranslated", 1: "translation request", 2: "translated" },
    FR: faultWords,
    F: whenSet("a fault is in it"),
  },
};
