import { describe, expect, it } from "vitest";
import {
  ATC_SIZE_ALL,
  buildCd,
  buildEvent,
  buildL1Cd,
  buildL1Std,
  buildSte,
  CD,
  CLASS_IN,
  CLASS_TT,
  commandName,
  encodeCommand,
  EVENT,
  EVT,
  eventName,
  extract,
  deposit,
  fillBadAtsRequest,
  fillBadSubstream,
  fillEvent,
  fillFault,
  fillFetchAddress,
  fillFetchEvent,
  fillIpa,
  fillStreamDisabled,
  fillTranslationForbidden,
  get,
  getAddress,
  getWide,
  IDR0,
  IDR1,
  IDR5,
  OP,
  STE,
  unpack,
} from "../../../src/smmuv3/spec/index.js";

const hex = (words: Int32Array): string[] => Array.from(words, (w) => (w >>> 0).toString(16).padStart(8, "0"));

describe("images of entries", () => {
  it("builds QEMU's qtest stream table entry", () => {
    // tests/qtest/libqos/qos-smmuv3.c, nested: the macros of smmuv3-common.h worked by hand.
    const ste = buildSte({
      V: 1,
      CONFIG: 7,
      S1CONTEXTPTR: 0x4e178fc0,
      S2T0SZ: 0x14,
      S2SL0: 2,
      S2PS: 5,
      S2AA64: true,
      S2TTB: 0x4e4d0000,
    });
    expect(hex(ste).slice(0, 8)).toEqual([
      "4e178fcf",
      "00000000",
      "00000000",
      "00000000",
      "00000000",
      "000d0094",
      "4e4d0000",
      "00000000",
    ]);
    expect(hex(ste).slice(8)).toEqual(Array(8).fill("00000000"));
  });

  it("builds QEMU's qtest context descriptor", () => {
    const cd = buildCd({
      T0SZ: 16,
      EPD1: 1,
      V: 1,
      IPS: 4,
      AA64: 1,
      R: 1,
      A: 1,
      ASID: 0x1e20,
      NSCFG0: 1,
      TTB0: 0x4e4d0000,
      NSCFG1: 1,
    });
    expect(hex(cd).slice(0, 6)).toEqual(["c0000010", "1e206204", "4e4d0001", "00000000", "00000001", "00000000"]);
  });

  it("builds what Linux writes for a stage-1 stream and its descriptor", () => {
    // arm_smmu_make_cdtable_ste: V | S1_TRANS << 1 | S1FMT 64K_L2 | ptr | S1CDMAX 20; S1DSS SSID0, WBRA, WBRA, ISH, EATS, SHCFG incoming.
    const ste = buildSte({
      V: 1,
      CONFIG: 5,
      S1FMT: 2,
      S1CONTEXTPTR: 0x12_3456_7fc0n,
      S1CDMAX: 20,
      S1DSS: 2,
      S1CIR: 1,
      S1COR: 1,
      S1CSH: 3,
      S1STALLD: 1,
      EATS: 1,
      SHCFG: 1,
    });
    expect(hex(ste).slice(0, 4)).toEqual(["34567feb", "a0000012", "180000d6", "00001000"]);
    expect(unpack(STE, ste)).toMatchObject({ S1CONTEXTPTR: 0x12_3456_7fc0n, S1CDMAX: 20, CONFIG: 5, EATS: 1 });
  });

  it("builds level 1 descriptors", () => {
    expect(hex(buildL1Std({ SPAN: 9, L2PTR: 0x80_0000_4000n }))).toEqual(["00004009", "00000080"]);
    expect(hex(buildL1Cd({ V: 1, L2PTR: 0x5_0001_0000n }))).toEqual(["00010001", "00000005"]);
  });

  it("refuses values that do not fit", () => {
    expect(() => buildSte({ CONFIG: 8 })).toThrow("CONFIG: 0x8 is wider than 3 bits");
    expect(() => buildSte({ S1CONTEXTPTR: 0x1020 })).toThrow("S1CONTEXTPTR: 0x1020 has bits outside [55:6]");
    expect(() => buildCd({ ASID: -1 })).toThrow(RangeError);
    expect(() => encodeCommand(OP.CFGI_CD_ALL, { SID: 1, SSID: 1 })).toThrow("CMD_CFGI_CD_ALL has no field SSID");
  });

  it("reads fields where they lie, with an offset into an array", () => {
    const table = new Int32Array(32);
    table.set(buildSte({ V: 1, S1CDMAX: 31, S1CONTEXTPTR: 0xff_ffff_ffff_ffc0n, S2TTB: 0xf_ffff_ffff_fff0n }), 16);
    expect(get(table, STE.S1CDMAX, 16)).toBe(31);
    expect(getAddress(table, STE.S1CONTEXTPTR, 16)).toBe(0xff_ffff_ffff_ffc0);
    expect(getWide(table, STE.S2TTB, 16)).toBe(0xf_ffff_ffff_fff0n);
    expect(get(table, STE.V)).toBe(0);
    expect(get(Int32Array.of(0, 0, 0, 0, 0, 0, -1), CD.MAIR0)).toBe(0xffffffff);
  });
});

describe("images of commands", () => {
  const cases: Array<[string, Int32Array, string[]]> = [
    ["CFGI_STE leaf", encodeCommand(OP.CFGI_STE, { SID: 0x1234, LEAF: 1 }), ["00000003", "00001234", "00000001", "00000000"]],
    ["CFGI_ALL", encodeCommand(OP.CFGI_STE_RANGE, { RANGE: 31 }), ["00000004", "00000000", "0000001f", "00000000"]],
    ["CFGI_CD", encodeCommand(OP.CFGI_CD, { SID: 8, SSID: 0xabcde, LEAF: 1 }), ["abcde005", "00000008", "00000001", "00000000"]],
    ["TLBI_NH_ASID", encodeCommand(OP.TLBI_NH_ASID, { VMID: 0x12, ASID: 0xbeef }), ["00000011", "beef0012", "00000000", "00000000"]],
    [
      // Linux, 4K pages, TTL 3, 32 pages: num = 31, scale = 0.
      "TLBI_NH_VA range",
      encodeCommand(OP.TLBI_NH_VA, { NUM: 31, SCALE: 3, ASID: 1, LEAF: 1, TTL: 3, TG: 1, ADDRESS: 0xffff_8000_1234_5000n }),
      ["0031f012", "00010000", "12345701", "ffff8000"],
    ],
    ["TLBI_S2_IPA", encodeCommand(OP.TLBI_S2_IPA, { VMID: 7, ADDRESS: 0x80_0000_0000n }), ["0000002a", "00000007", "00000000", "00000080"]],
    [
      "ATC_INV all of a PASID",
      encodeCommand(OP.ATC_INV, { SSV: 1, SSID: 5, SID: 0x100, ATC_SIZE: ATC_SIZE_ALL }),
      ["00005840", "00000100", "00000034", "00000000"],
    ],
    [
      "CMD_SYNC MSI",
      encodeCommand(OP.SYNC, { SYNC_CS: 1, SYNC_MSH: 3, SYNC_MSIATTR: 15, SYNC_MSIDATA: 0, SYNC_MSIADDRESS: 0x8090040n }),
      ["0fc01046", "00000000", "08090040", "00000000"],
    ],
    ["RESUME abort", encodeCommand(OP.RESUME, { SID: 3, RESUME_AB: 1, STAG: 0x77 }), ["00002044", "00000003", "00000077", "00000000"]],
    ["PRI_RESP", encodeCommand(OP.PRI_RESP, { SID: 3, PRG_INDEX: 0x1ff, PRI_RESP: 2 }), ["00000041", "00000003", "000021ff", "00000000"]],
  ];
  it.each(cases)("%s", (_name, words, expected) => {
    expect(hex(words)).toEqual(expected);
  });

  it("names opcodes and events", () => {
    expect(commandName(0x28)).toBe("CMD_TLBI_S12_VMALL");
    expect(commandName(0xee)).toBe("CMD_0xee");
    expect(eventName(0x0b)).toBe("F_WALK_EABT");
    expect(eventName(0xe5)).toBe("EVENT_0xe5");
  });
});

describe("images of events", () => {
  const out = new Int32Array(8);
  const read = { rnw: true, ind: false, pnu: false };

  it("agrees with records that Linux logged", () => {
    // A published kernel log: 0x0000000100002810 0x0000020880000b17 0x00000009f44a0300 0.
    out.fill(-1);
    fillFault(out, EVENT.F_TRANSLATION, 1, 2, 9, 0xf44a0300 | 0, read, false, CLASS_IN);
    out[2] = (0x8000_0b17) | 0;
    expect(hex(out)).toEqual(["00002810", "00000001", "80000b17", "00000208", "f44a0300", "00000009", "00000000", "00000000"]);
    expect(hex(buildEvent(EVENT.F_TRANSLATION, { SSV: 1, SSID: 2, SID: 1, STAG: 0xb17, STALL: 1, RNW: 1, CLASS: 2, INPUT_ADDR: 0x9_f44a_0300n }))).toEqual(hex(out));
  });

  it("fills a stage-2 fault on a table walk", () => {
    fillFault(out, EVENT.F_PERMISSION, 0x18, -1, 0x12, 0x345, { rnw: false, ind: true, pnu: true }, true, CLASS_TT);
    fillIpa(out, 0xab, 0x89abcdef | 0);
    // InD is 0 for writes.
    expect(hex(out)).toEqual(["00000013", "00000018", "00000000", "00000182", "00000345", "00000012", "89abc000", "000000ab"]);
  });

  it("fills the others", () => {
    fillEvent(out, EVENT.C_BAD_STE, 0x20, 0xfffff);
    expect(hex(out)).toEqual(["fffff804", "00000020", ...Array<string>(6).fill("00000000")]);
    fillBadSubstream(out, 0x20, 3);
    expect(hex(out).slice(0, 2)).toEqual(["00003008", "00000020"]);
    fillStreamDisabled(out, 0x20);
    expect(hex(out)).toEqual(["00000006", "00000020", ...Array<string>(6).fill("00000000")]);
    fillFetchEvent(out, EVENT.F_STE_FETCH, 1, -1, 0xff00_0001 | 0, 0x47);
    expect(hex(out)).toEqual(["00000003", "00000001", "00000000", "00000000", "00000000", "00000000", "00000040", "00000001"]);
    fillTranslationForbidden(out, 1, 2, 3, true);
    expect(hex(out)).toEqual(["00000007", "00000001", "00000000", "00000008", "00000003", "00000002", "00000000", "00000000"]);
    fillBadAtsRequest(out, 1, 4, 2, 0x3fff, { read: true, write: true, execute: false, privileged: false, span: 1 });
    expect(hex(out)).toEqual(["00004805", "00000001", "c0000001", "00000000", "00003000", "00000002", "00000000", "00000000"]);
    fillFault(out, EVENT.F_WALK_EABT, 1, -1, 0, 0x1000, { rnw: true, ind: true, pnu: false }, false, CLASS_TT);
    fillFetchAddress(out, 0, 0x1008);
    expect(hex(out)).toEqual(["0000000b", "00000001", "00000000", "0000010c", "00001000", "00000000", "00001008", "00000000"]);
    expect(get(out, EVT.CLASS)).toBe(CLASS_TT);
    expect(getAddress(out, EVT.FETCH_ADDR)).toBe(0x1008);
  });
});

describe("registers", () => {
  it("takes QEMU's reset values of the identification registers apart", () => {
    // virt-11.1: IDR0 of stage=nested, IDR1, IDR5.
    const idr0 = 0x0d44101b;
    expect([IDR0.S2P, IDR0.S1P, IDR0.TTF, IDR0.COHACC, IDR0.ASID16, IDR0.VMID16].map((f) => extract(idr0, f))).toEqual([1, 1, 2, 1, 1, 1]);
    expect([IDR0.TTENDIAN, IDR0.STALL_MODEL, IDR0.TERM_MODEL, IDR0.ST_LEVEL].map((f) => extract(idr0, f))).toEqual([2, 1, 1, 1]);
    expect([IDR1.SIDSIZE, IDR1.SSIDSIZE, IDR1.EVENTQS, IDR1.CMDQS].map((f) => extract(0x02730010, f))).toEqual([16, 0, 19, 19]);
    expect([IDR5.OAS, IDR5.GRAN4K, IDR5.GRAN16K, IDR5.GRAN64K].map((f) => extract(0x74, f))).toEqual([4, 1, 1, 1]);
    expect(deposit(0x02730010, IDR1.SSIDSIZE, 20)).toBe(0x02730510);
  });
});
