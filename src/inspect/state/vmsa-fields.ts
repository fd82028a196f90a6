/** Descriptors of VMSAv8-64 tables, field by field (Arm DDI 0487, D8.3), 48-bit addresses. */
import { address, field, type Layout } from "../../support/index.js";
import { levelShift } from "../../translation/index.js";
import { type StructureLayout, whenSet } from "./structure-layout.js";

export type DescriptorKind = "invalid" | "table" | "block" | "page";

const VALID = { Valid: field(0, 0), Type: field(0, 1) };
const SHAREABILITY = { 0: "Non-shareable", 1: "reserved", 2: "Outer Shareable", 3: "Inner Shareable" };
const STAGE1_LEAF: Layout = {
  AttrIndx: field(0, 2, 3),
  NS: field(0, 5),
  AP: field(0, 6, 2),
  SH: field(0, 8, 2),
  AF: field(0, 10),
  nG: field(0, 11),
  GP: field(1, 18),
  DBM: field(1, 19),
  Contiguous: field(1, 20),
  PXN: field(1, 21),
  UXN: field(1, 22),
  PBHA: field(1, 27, 4),
};
const STAGE1_TABLE: Layout = { PXNTable: field(1, 27), UXNTable: field(1, 28), APTable: field(1, 29, 2), NSTable: field(1, 31) };
const STAGE2_LEAF: Layout = {
  MemAttr: field(0, 2, 4),
  S2AP: field(0, 6, 2),
  SH: field(0, 8, 2),
  AF: field(0, 10),
  FnXS: field(0, 11),
  DBM: field(1, 19),
  Contiguous: field(1, 20),
  XN: field(1, 21, 2),
  PBHA: field(1, 27, 4),
};

/** What a descriptor is (D8.3.1): level 3 has pages, levels 1 and 2 blocks where the granule has them. */
export function descriptorKind(low: number, level: number, granuleBits: number): DescriptorKind {
  const type = low & 3;
  if ((type & 1) === 0) {
    return "invalid";
  }
  if (level === 3) {
    return type === 3 ? "page" : "invalid";
  }
  return type === 3 ? "table" : level === 2 || (level === 1 && granuleBits === 12) ? "block" : "invalid";
}

/** The layout of one descriptor. */
export function descriptorLayout(low: number, stage: 1 | 2, level: number, granuleBits: number): StructureLayout {
  const kind = descriptorKind(low, level, granuleBits);
  const leaf = stage === 1 ? STAGE1_LEAF : STAGE2_LEAF;
  const layout: Layout =
    kind === "invalid"
      ? VALID
      : kind === "table"
        ? { ...VALID, NextLevelTable: address(0, granuleBits, 47), ...(stage === 1 ? STAGE1_TABLE : {}) }
        : { ...VALID, ...leaf, ...(kind === "block" ? { nT: field(0, 16) } : {}), OutputAddress: address(0, levelShift(granuleBits, level), 47) };
  return {
    name: `stage ${stage} level ${level}`,
    section: stage === 2 && kind !== "table" && kind !== "invalid" ? "Arm DDI 0487, D8.3.1 and D8.4.3" : "Arm DDI 0487, D8.3.1",
    layout,
    meanings: {
      Valid: { 0: "not valid", 1: "valid" },
      Type: level === 3 ? { 0: "reserved", 1: "a page" } : { 0: kind === "invalid" ? "reserved" : "a block", 1: "a table" },
      AttrIndx: (value) => `attribute ${value} of MAIR`,
      AP: { 0: "privileged read and write", 1: "read and write", 2: "privileged read", 3: "read" },
      S2AP: { 0: "no access", 1: "read", 2: "write", 3: "read and write" },
      SH: SHAREABILITY,
      AF: { 0: "not accessed: an access flag fault unless disabled", 1: "accessed" },
      nG: { 0: "global", 1: "of its ASID" },
      DBM: whenSet("dirty bit modifier"),
      Contiguous: whenSet("one of a contiguous group"),
      PXN: whenSet("not privileged-executable"),
      UXN: whenSet("not unprivileged-executable"),
      XN: { 0: "executable", 1: "executable, unprivileged alone with XNX", 2: "not executable", 3: "not executable, privileged alone with XNX" },
      PXNTable: whenSet("nothing below is privileged-executable"),
      UXNTable: whenSet("nothing below is unprivileged-executable"),
      APTable: { 1: "nothing below is unprivileged", 2: "nothing below is writable", 3: "nothing below is writable or unprivileged" },
    },
  };
}
