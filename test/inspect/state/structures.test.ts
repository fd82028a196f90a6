import { describe, expect, it } from "vitest";
import { CD_LAYOUT, CONTEXT_LAYOUT, decodeStructure, descriptorLayout, entryLayout, eventLayout, FAULT_RECORD_LAYOUT, faultWords, PASID_ENTRY_LAYOUT, SM_CONTEXT_LAYOUT, STE_LAYOUT } from "../../../src/inspect/state/index.js";
import { buildCd, buildEvent, buildSte, CD, EVENT, STE, STE_CONFIG_NESTED } from "../../../src/smmuv3/spec/index.js";
import { FAULT, FRCD, PASID_ENTRY } from "../../../src/vtd/spec/index.js";

const told = (fields: ReturnType<typeof decodeStructure>) => Object.fromEntries(fields.map(({ name, value, meaning }) => [name, meaning === null ? value : `${value} ${meaning}`]));

describe("fields of structures", () => {
  it("of an STE and a CD: all that the specification names, the lowest bit first", () => {
    const ste = decodeStructure(STE_LAYOUT, buildSte({ V: 1, CONFIG: STE_CONFIG_NESTED, S1CONTEXTPTR: 0x1_2345_6780, S1CDMAX: 4, S2T0SZ: 16, S2TTB: 0x8000_0000 }));
    expect(ste).toHaveLength(Object.keys(STE).length);
    expect(ste.map(({ low }) => low)).toEqual(ste.map(({ low }) => low).sort((a, b) => a - b));
    expect(told(ste)).toMatchObject({ V: "0x1 valid", Config: "0x7 stage 1 and stage 2", S1ContextPtr: "0x123456780", S1CDMax: "0x4 16 CDs", S2T0SZ: "0x10 48 bits of input address", S2TTB: "0x80000000" });
    expect(ste.find(({ name }) => name === "S1ContextPtr")).toMatchObject({ high: 55, low: 6 });
    const cd = decodeStructure(CD_LAYOUT, buildCd({ V: 1, TG0: 2, ASID: 7, AA64: 1 }));
    expect(cd).toHaveLength(Object.keys(CD).length);
    expect(told(cd)).toMatchObject({ V: "0x1 valid", TG0: "0x2 16KB granule", ASID: "0x7", AA64: "0x1 VMSAv8-64 tables" });
  });

  it("of 64-bit words the same as of 32-bit ones", () => {
    expect(decodeStructure(STE_LAYOUT, [0x0800_0000_0000_000bn, 0n, 0n, 0n, 0n, 0n, 0n, 0n])).toEqual(decodeStructure(STE_LAYOUT, buildSte({ V: 1, CONFIG: 5, S1CDMAX: 1 })));
  });

  it("of descriptors by level and granule", () => {
    const table = decodeStructure(descriptorLayout(0x1003, 1, 0, 12), Int32Array.of(0x4000_1003, 0x1000_0000));
    expect(told(table)).toMatchObject({ Type: "0x1 a table", NextLevelTable: "0x40001000", UXNTable: "0x1 nothing below is unprivileged-executable" });
    const block = decodeStructure(descriptorLayout(0x4020_0401, 2, 2, 12), Int32Array.of(0x4020_04c1, 0));
    expect(told(block)).toMatchObject({ Type: "0x0 a block", OutputAddress: "0x40200000", S2AP: "0x3 read and write", AF: "0x1 accessed" });
    // 64K granule: blocks of 512 MiB at level 2, none at level 1.
    expect(descriptorLayout(1, 1, 2, 16).layout.OutputAddress).toMatchObject({ bottom: 29 });
    expect(Object.keys(descriptorLayout(1, 1, 1, 16).layout)).toEqual(["Valid", "Type"]);
    expect(told(decodeStructure(descriptorLayout(1, 1, 3, 12), Int32Array.of(1, 0)))).toEqual({ Valid: "0x1 valid", Type: "0x0 reserved" });
  });

  it("of an event: those of its record", () => {
    const words = buildEvent(EVENT.F_TRANSLATION, { SID: 0x100, S2: 1, CLASS: 1, RNW: 1, INPUT_ADDR: 0x1000n, IPA: 0x8000n });
    expect(told(decodeStructure(eventLayout(EVENT.F_TRANSLATION), words))).toMatchObject({ NUMBER: "0x10 F_TRANSLATION", StreamID: "0x100", S2: "0x1 stage 2", CLASS: "0x1 fetching a translation table", RnW: "0x1 read", IPA: "0x8000" });
    expect(eventLayout(EVENT.F_PERMISSION).section).toBe("Arm IHI 0070, 7.3.16");
    expect(Object.keys(eventLayout(EVENT.C_BAD_STE).layout)).toEqual(["NUMBER", "StreamID", "SSV", "SubstreamID"]);
  });

  it("of VT-d's entries and fault records", () => {
    expect(decodeStructure(PASID_ENTRY_LAYOUT, new Int32Array(16))).toHaveLength(Object.keys(PASID_ENTRY).length);
    expect(told(decodeStructure(PASID_ENTRY_LAYOUT, [0x4000_00c9n, 5n, 0x5000_0000n]))).toMatchObject({ PGTT: "0x3 nested: first and second stage", AW: "0x2 4 levels, 48 bits", SSPTPTR: "0x40000000", DID: "0x5", FSPTPTR: "0x50000000" });
    expect(told(decodeStructure(CONTEXT_LAYOUT, [0x1009n, 0x0702n]))).toMatchObject({ TT: "0x2 pass-through", AW: "0x2 4 levels, 48 bits", DID: "0x7" });
    expect(told(decodeStructure(SM_CONTEXT_LAYOUT, [0x2209n, 3n, 0n, 0n]))).toMatchObject({ PDTS: "0x1 256 directory entries, 16384 PASIDs", RID_PASID: "0x3 PASID of requests without one: 3" });
    expect(told(decodeStructure(entryLayout(0x83, "first", 2), [0x20_0083n]))).toMatchObject({ PS: "0x1 a page", ADDR: "0x200000", "U/S": "0x0 privileged" });
    expect(entryLayout(0x3, "second", 4).name).toBe("second-stage SS-PML4E");
    const record = decodeStructure(FAULT_RECORD_LAYOUT, Int32Array.of(0x5000, 0, 0x100, 0x8000_0071 | 0));
    expect(record).toHaveLength(Object.keys(FRCD).length);
    expect(told(record)).toMatchObject({ FI: "0x5000", SID: "0x100", FR: "0x71 a first-stage entry is not present", F: "0x1 a fault is in it" });
    expect(Object.values(FAULT).map(faultWords).filter((words) => words.startsWith("fault reason"))).toEqual([]);
    expect(faultWords(0xfe)).toBe("fault reason 0xfe");
  });
});
