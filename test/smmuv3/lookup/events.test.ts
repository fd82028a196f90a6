import { beforeEach, describe, expect, it } from "vitest";
import { ABORTED, BYPASSED, READ_AS_ZERO, TRANSLATED } from "../../../src/smmuv3/lookup/index.js";
import { buildL1Cd, buildL1Std } from "../../../src/smmuv3/spec/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { Bench, CDTAB, cdFields, RAM_BASE, S1_RO, S1_RW, S2_RO, S2_RW, stage2Fields, STRTAB, withIdr } from "./bench.js";

/** Where nothing answers. */
const HOLE = 0x9000_0000;
const SID = 5;
const IOVA = 0x12_3456_7000n;

let b: Bench;
let root: number;
beforeEach(() => {
  b = new Bench();
  root = b.page();
  b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
  b.cd(CDTAB, cdFields(root));
});

describe("configuration errors and their records", () => {
  it("C_BAD_STREAMID: beyond the table, recorded only with RECINVSID", () => {
    expect(b.translate(0x100, IOVA)).toBe(ABORTED);
    expect(b.event).toBeUndefined();
    b.translator.recordInvalidSid = true;
    expect(b.translate(0x100, IOVA, ACCESS_WRITE, 7)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00007802", "00000100", ...Array<string>(6).fill("00000000")]);
    // The effective size is not beyond SIDSIZE.
    b.translator.table.log2Size = 32;
    expect(b.translate(0x1_0000, IOVA)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_STREAMID", SID: 0x1_0000 });
    expect(b.translate(0xffff_ffff, IOVA)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_STREAMID", SID: 0xffff_ffff });
  });

  it("F_STE_FETCH: linear, with the address of the entry", () => {
    b.translator.table.base = HOLE;
    expect(b.translate(SID, IOVA, ACCESS_READ, 3)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00003803", "00000005", "00000000", "00000000", "00000000", "00000000", "90000140", "00000000"]);
    // Not cached: the next one finds it.
    b.translator.table.base = STRTAB;
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event?.name).toBe("F_TRANSLATION");
  });

  it("C_BAD_STE", () => {
    b.ste(SID, { V: 0, CONFIG: 4 });
    expect(b.translate(SID, IOVA, ACCESS_WRITE | ACCESS_PRIVILEGED)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00000004", "00000005", ...Array<string>(6).fill("00000000")]);
    expect(b.translator.reason).toBe("STE.V is 0");
  });

  it("aborts without a record where Config is 0b0xx", () => {
    for (const config of [0, 1, 2, 3]) {
      b.ste(config, { V: 1, CONFIG: config });
      expect(b.translate(config, IOVA)).toBe(ABORTED);
      expect(b.event).toBeUndefined();
    }
  });

  it("bypasses with Config 0b100, up to the IAS", () => {
    b.ste(1, { V: 1, CONFIG: 4 });
    expect(b.translate(1, 0xffff_ffff_ffffn)).toBe(BYPASSED);
    expect(b.out).toBe(0xffff_ffff_ffffn);
    expect(b.translate(1, 0x1_0000_0000_0000n, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_ADDR_SIZE", SID: 1, CLASS: 2, INPUT_ADDR: 0x1_0000_0000_0000n });
    expect(b.translate(1, -1n)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_ADDR_SIZE", SID: 1, CLASS: 2, RNW: 1, INPUT_ADDR: 0xffff_ffff_ffff_ffffn });
  });

  it("C_BAD_SUBSTREAMID: no substreams", () => {
    b.ste(1, { V: 1, CONFIG: 4 });
    b.ste(2, { V: 1, CONFIG: 6, ...stage2Fields(root) });
    for (const sid of [1, 2, SID]) {
      expect(b.translate(sid, IOVA, ACCESS_READ, 9)).toBe(ABORTED);
      // SSV is RES0: the SubstreamID is always valid.
      expect(b.eventWords).toEqual(["00009008", `0000000${sid}`, ...Array<string>(6).fill("00000000")]);
    }
  });

  it("C_BAD_SUBSTREAMID: beyond S1CDMax, and on an SMMU without substreams", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3, S1DSS: 2 });
    expect(b.translate(SID, IOVA, ACCESS_READ, 8)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_SUBSTREAMID", SID, SSID: 8 });
    const none = new Bench(withIdr(1, 0x7c0));
    none.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3 });
    expect(none.translate(SID, IOVA, ACCESS_READ, 1)).toBe(ABORTED);
    expect(none.event).toEqual({ name: "C_BAD_SUBSTREAMID", SID, SSID: 1 });
  });

  it("C_BAD_SUBSTREAMID: L1CD not valid, or pointing out of range", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 12, S1FMT: 1, S1DSS: 2 });
    b.writeWords(CDTAB, buildL1Cd({ V: 0, L2PTR: CDTAB }));
    expect(b.translate(SID, IOVA, ACCESS_READ, 0x41)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_SUBSTREAMID", SID, SSID: 0x41 });
    // Without a SubstreamID, by S1DSS: recorded as 0.
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.eventWords!.slice(0, 2)).toEqual(["00000008", "00000005"]);
    b.writeWords(CDTAB, buildL1Cd({ V: 1, L2PTR: 0x1_0000_0000_0000n }));
    expect(b.translate(SID, IOVA, ACCESS_READ, 0x3f)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_SUBSTREAMID", SID, SSID: 0x3f });
  });

  it("F_STREAM_DISABLED: the StreamID alone", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3, S1DSS: 0 });
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00000006", "00000005", ...Array<string>(6).fill("00000000")]);
    b.ste(SID + 1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3, S1DSS: 3 });
    expect(b.translate(SID + 1, IOVA)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_STREAM_DISABLED", SID: SID + 1 });
    b.ste(SID + 2, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3, S1DSS: 2 });
    expect(b.translate(SID + 2, IOVA, ACCESS_READ, 0)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_STREAM_DISABLED", SID: SID + 2 });
  });

  it("F_CD_FETCH: the CD, and the L1CD", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: HOLE, S1CDMAX: 3, S1DSS: 2 });
    expect(b.translate(SID, IOVA, ACCESS_READ, 2)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00002809", "00000005", "00000000", "00000000", "00000000", "00000000", "90000080", "00000000"]);
    b.ste(SID + 1, { V: 1, CONFIG: 5, S1CONTEXTPTR: HOLE, S1CDMAX: 12, S1FMT: 2 });
    expect(b.translate(SID + 1, IOVA, ACCESS_READ, 0x800)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_CD_FETCH", SID: SID + 1, SSV: 1, SSID: 0x800, FETCH_ADDR: BigInt(HOLE + 16), ...fetchAliases(HOLE + 16) });
  });

  it("C_BAD_CD", () => {
    b.cd(CDTAB, { ...cdFields(root), V: 0 });
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["0000000a", "00000005", ...Array<string>(6).fill("00000000")]);
    b.ste(SID + 1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3 });
    expect(b.translate(SID + 1, IOVA, ACCESS_READ, 1)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_CD", SID: SID + 1, SSV: 1, SSID: 1 });
    expect(b.translator.reason).toBe("CD.V is 0");
  });
});

describe("faults of stage 1", () => {
  it("F_TRANSLATION: no descriptor, with the access as it came", () => {
    expect(b.translate(SID, IOVA, ACCESS_READ)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["00000010", "00000005", "00000000", "00000208", "34567000", "00000012", "00000000", "00000000"]);
    expect(b.translate(SID, IOVA, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.eventWords![3]).toBe("00000200");
    expect(b.translate(SID, IOVA, ACCESS_READ | ACCESS_EXECUTE | ACCESS_PRIVILEGED)).toBe(ABORTED);
    expect(b.eventWords![3]).toBe("0000020e");
    expect(b.translate(SID, IOVA, ACCESS_WRITE | ACCESS_EXECUTE)).toBe(ABORTED);
    expect(b.eventWords![3]).toBe("00000200");
  });

  it("F_TRANSLATION: outside TTB0's range, in a disabled range, between the ranges", () => {
    for (const address of [0x1_0000_0000_0000n, 0xffff_0000_0000_0000n, 0x00ff_0000_0000_0000n]) {
      expect(b.translate(SID, address)).toBe(ABORTED);
      expect(b.event).toEqual({ name: "F_TRANSLATION", SID, RNW: 1, CLASS: 2, INPUT_ADDR: address });
    }
    b.cd(CDTAB, cdFields(root, { EPD0: 1 }));
    b.translator.invalidateCds(SID);
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event?.name).toBe("F_TRANSLATION");
  });

  it("F_ADDR_SIZE: a descriptor beyond IPS", () => {
    b.cd(CDTAB, cdFields(root, { IPS: 0 }));
    b.map(root, IOVA, 0x1_0000_0000, S1_RW);
    expect(b.translate(SID, IOVA + 8n, ACCESS_READ)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_ADDR_SIZE", SID, RNW: 1, CLASS: 2, INPUT_ADDR: IOVA + 8n });
  });

  it("F_ACCESS: the access flag", () => {
    b.map(root, IOVA, RAM_BASE, S1_RW & ~0x400n);
    expect(b.translate(SID, IOVA, ACCESS_READ)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_ACCESS", SID, RNW: 1, CLASS: 2, INPUT_ADDR: IOVA });
  });

  it("F_PERMISSION", () => {
    b.map(root, IOVA, RAM_BASE, S1_RO);
    expect(b.translate(SID, IOVA, ACCESS_READ)).toBe(TRANSLATED);
    // Also against the TLB's entry.
    expect(b.translate(SID, IOVA, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_PERMISSION", SID, CLASS: 2, INPUT_ADDR: IOVA });
  });

  it("F_WALK_EABT: CLASS is TT, with the descriptor's address", () => {
    b.cd(CDTAB, cdFields(HOLE));
    expect(b.translate(SID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["0000000b", "00000005", "00000000", "0000010a", "34567000", "00000012", "90000000", "00000000"]);
    // Whatever CD.R and CD.A say.
    b.cd(CDTAB, cdFields(HOLE, { R: 0, A: 0 }));
    b.translator.invalidateSte(SID);
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event?.name).toBe("F_WALK_EABT");
  });

  it("does what CD.A, R and S say", () => {
    const outcome = (fields: object, access = ACCESS_READ): [number, unknown] => {
      b.cd(CDTAB, cdFields(root, fields));
      b.translator.invalidateCd(SID, 0);
      return [b.translate(SID, IOVA, access), b.event];
    };
    const event = { name: "F_TRANSLATION", SID, RNW: 1, CLASS: 2, INPUT_ADDR: IOVA };
    expect(outcome({ A: 1, R: 1 })).toEqual([ABORTED, event]);
    expect(outcome({ A: 1, R: 0 })).toEqual([ABORTED, undefined]);
    expect(outcome({ A: 0, R: 1 })).toEqual([READ_AS_ZERO, event]);
    expect(outcome({ A: 0, R: 0 })).toEqual([READ_AS_ZERO, undefined]);
    // Translation-related faults only.
    expect(outcome({ A: 0, TTB0: HOLE })[0]).toBe(ABORTED);
  });

  it("shows the access after the STE's overrides, and checks that one", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, PRIVCFG: 3, INSTCFG: 3 });
    expect(b.translate(SID, IOVA, ACCESS_READ)).toBe(ABORTED);
    expect(b.event).toMatchObject({ PNU: 1, IND: 1, RNW: 1 });
    expect(b.translate(SID, IOVA, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_TRANSLATION", SID, PNU: 1, CLASS: 2, INPUT_ADDR: IOVA });
    // A page of EL1 alone: allowed by PRIVCFG, and forbidden by it.
    b.map(root, IOVA, RAM_BASE, S1_RW & ~0x40n);
    expect(b.translate(SID, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, PRIVCFG: 2, INSTCFG: 2 });
    b.translator.invalidateSte(SID);
    expect(b.translate(SID, IOVA, ACCESS_WRITE | ACCESS_PRIVILEGED)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_PERMISSION", SID, CLASS: 2, INPUT_ADDR: IOVA });
    expect(b.translate(SID, IOVA, ACCESS_READ | ACCESS_EXECUTE | ACCESS_PRIVILEGED)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_PERMISSION", SID, RNW: 1, CLASS: 2, INPUT_ADDR: IOVA });
    // Without IDR1.ATTR_PERMS_OVR the fields are nothing.
    const plain = new Bench(withIdr(1, 1 << 26));
    plain.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, PRIVCFG: 3 });
    plain.cd(CDTAB, cdFields(plain.page()));
    plain.translate(SID, IOVA, ACCESS_READ);
    expect(plain.event).toEqual({ name: "F_TRANSLATION", SID, RNW: 1, CLASS: 2, INPUT_ADDR: IOVA });
  });
});

describe("faults of stage 2", () => {
  const SECOND = { V: 1, CONFIG: 6 };
  let root2: number;
  beforeEach(() => {
    root2 = b.page();
  });

  it.each([
    ["F_TRANSLATION", 0x1000n, undefined, ACCESS_READ],
    ["F_ACCESS", 0x1000n, S2_RW & ~0x400n, ACCESS_READ],
    ["F_PERMISSION", 0x1000n, S2_RO, ACCESS_WRITE],
  ])("%s of an input IPA", (name, ipa, attributes, access) => {
    b.ste(SID, { ...SECOND, ...stage2Fields(root2) });
    if (attributes !== undefined) {
      b.map(root2, ipa, RAM_BASE, attributes);
    }
    expect(b.translate(SID, ipa + 0x18n, access)).toBe(ABORTED);
    expect(b.event).toEqual({
      name,
      SID,
      ...(access === ACCESS_READ ? { RNW: 1 } : {}),
      S2: 1,
      CLASS: 2,
      INPUT_ADDR: ipa + 0x18n,
      ...ipaAliases(ipa),
    });
  });

  it("F_ADDR_SIZE of a stage-2 descriptor, F_TRANSLATION beyond S2T0SZ, F_ADDR_SIZE beyond the IAS", () => {
    b.ste(SID, { ...SECOND, ...stage2Fields(root2, { S2PS: 0, S2T0SZ: 25, S2SL0: 1 }) });
    b.write64(root2, 0x1_0000_0000n | 3n);
    expect(b.translate(SID, 0x1000)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_ADDR_SIZE", S2: 1, CLASS: 2, IPA: 0x1000n });
    expect(b.translate(SID, 0x80_0000_0000n)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_TRANSLATION", S2: 1, CLASS: 2, IPA: 0x80_0000_0000n });
    expect(b.translate(SID, 0x1_0000_0000_0000n)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_ADDR_SIZE", SID, RNW: 1, CLASS: 2, INPUT_ADDR: 0x1_0000_0000_0000n });
  });

  it("F_WALK_EABT", () => {
    b.ste(SID, { ...SECOND, ...stage2Fields(HOLE) });
    expect(b.translate(SID, 0x80_0000_1000n)).toBe(ABORTED);
    expect(b.eventWords).toEqual(["0000000b", "00000005", "00000000", "00000288", "00001000", "00000080", "90000008", "00000000"]);
  });

  it("does what S2R says", () => {
    b.ste(SID, { ...SECOND, ...stage2Fields(root2, { S2R: 0 }) });
    expect(b.translate(SID, 0x1000)).toBe(ABORTED);
    expect(b.event).toBeUndefined();
  });
});

describe("nested translation", () => {
  /** Stage 2 maps IPA = physical address, but what a test takes away. */
  let root2: number;
  const NESTED = { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB };
  const identity = (ipa: number | bigint, attributes = S2_RW): void => {
    const page = BigInt(ipa) & ~0xfffn;
    b.map(root2, page, page, attributes);
  };
  beforeEach(() => {
    root2 = b.page();
    b.ste(SID, { ...NESTED, ...stage2Fields(root2) });
    b.map(root, IOVA, 0x7000_0000, S1_RW);
  });
  const faultOnCd = (): void => {
    b.translate(SID, IOVA + 0x10n, ACCESS_WRITE);
  };

  it("reports stage-2 faults on the CD's fetch with CLASS CD and the CD's IPA", () => {
    faultOnCd();
    expect(b.event).toEqual({ name: "F_TRANSLATION", SID, S2: 1, INPUT_ADDR: IOVA + 0x10n, ...ipaAliases(BigInt(CDTAB)) });
    identity(CDTAB, S2_RW & ~0x400n);
    faultOnCd();
    expect(b.event).toMatchObject({ name: "F_ACCESS", S2: 1, IPA: BigInt(CDTAB) });
    identity(CDTAB, S2_RW & ~0x40n);
    faultOnCd();
    expect(b.event).toMatchObject({ name: "F_PERMISSION", S2: 1, IPA: BigInt(CDTAB) });
    expect(b.event).not.toHaveProperty("CLASS");
    b.map(root2, CDTAB, HOLE, S2_RW);
    faultOnCd();
    expect(b.event).toEqual({ name: "F_CD_FETCH", SID, FETCH_ADDR: BigInt(HOLE), ...fetchAliases(HOLE) });
    b.ste(SID, { ...NESTED, ...stage2Fields(HOLE) });
    b.translator.invalidateSte(SID);
    faultOnCd();
    expect(b.event).toMatchObject({ name: "F_WALK_EABT", S2: 1, INPUT_ADDR: IOVA + 0x10n, FETCH_ADDR: BigInt(HOLE) });
    expect(b.event).not.toHaveProperty("CLASS");
  });

  it("reports stage-2 faults on the tables with CLASS TT and the descriptor's IPA", () => {
    identity(CDTAB);
    faultOnCd();
    expect(b.event).toMatchObject({ name: "F_TRANSLATION", S2: 1, CLASS: 1, INPUT_ADDR: IOVA + 0x10n, IPA: BigInt(root) });
    // Whatever CD.A and R say: stage 2's faults are the STE's.
    b.cd(CDTAB, cdFields(root, { A: 0, R: 0 }));
    b.translator.invalidateCds(SID);
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event).toMatchObject({ S2: 1, CLASS: 1 });
  });

  it("reports stage-2 faults on the output with CLASS IN and its IPA, stage-1 faults as without stage 2", () => {
    identity(CDTAB);
    for (let at = root; at < root + 0x20_0000; at += 0x1000) {
      identity(at);
    }
    expect(b.translate(SID, IOVA + 0x10n, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_TRANSLATION", SID, S2: 1, CLASS: 2, INPUT_ADDR: IOVA + 0x10n, ...ipaAliases(0x7000_0000n) });
    b.map(root2, 0x7000_0000, RAM_BASE + 0x5000, S2_RO);
    expect(b.translate(SID, IOVA + 0x10n)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x5010));
    expect(b.translate(SID, IOVA + 0x10n, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_PERMISSION", S2: 1, CLASS: 2, IPA: 0x7000_0000n });
    expect(b.translate(SID, 0n)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_TRANSLATION", SID, RNW: 1, CLASS: 2 });
    // An IPA that stage 2 sends nowhere: stage 1's descriptor aborts.
    b.map(root2, root, HOLE, S2_RW);
    b.translator.reset();
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_WALK_EABT", CLASS: 1, RNW: 1, FETCH_ADDR: BigInt(HOLE) });
    expect(b.event).not.toHaveProperty("S2");
  });

  it("fetches through the L1CD and stage 2", () => {
    b.ste(SID, { ...NESTED, ...stage2Fields(root2), S1CDMAX: 12, S1FMT: 1 });
    identity(CDTAB);
    b.writeWords(CDTAB + 8, buildL1Cd({ V: 1, L2PTR: 0x6000_0000 }));
    b.translate(SID, IOVA, ACCESS_READ, 0x42);
    expect(b.event).toMatchObject({ name: "F_TRANSLATION", S2: 1, SSV: 1, SSID: 0x42, IPA: 0x6000_0000n });
    b.map(root2, 0x6000_0000, CDTAB + 0x1000, S2_RW);
    b.cd(CDTAB + 0x1080, cdFields(root));
    b.translate(SID, IOVA, ACCESS_READ, 0x42);
    expect(b.event).toMatchObject({ name: "F_TRANSLATION", S2: 1, CLASS: 1, SSV: 1, SSID: 0x42 });
  });
});

describe("two-level stream tables", () => {
  const L2 = 0x4030_0000;
  beforeEach(() => {
    b.translator.table.format = 1;
    b.translator.table.split = 8;
    b.translator.table.log2Size = 16;
    b.translator.recordInvalidSid = true;
  });

  it("finds the entry through the level 1 descriptor", () => {
    b.writeWords(STRTAB + 3 * 8, buildL1Std({ SPAN: 9, L2PTR: L2 }));
    b.writeWords(L2 + 0xff * 64, Int32Array.from([9, ...Array<number>(15).fill(0)]));
    expect(b.translate(0x3ff, IOVA)).toBe(BYPASSED);
    expect(b.translate(0x3fe, IOVA)).toBe(ABORTED);
    expect(b.event?.name).toBe("C_BAD_STE");
  });

  it.each([
    ["span 0", 0, 0x300],
    ["reserved span", 12, 0x300],
    ["span beyond the split", 10, 0x300],
    ["StreamID beyond the span", 3, 0x304],
  ])("C_BAD_STREAMID: %s", (_name, span, sid) => {
    b.writeWords(STRTAB + 3 * 8, buildL1Std({ SPAN: span, L2PTR: L2 }));
    expect(b.translate(sid, IOVA)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "C_BAD_STREAMID", SID: sid });
  });

  it("takes reserved splits as 6, aligns both levels by their sizes", () => {
    b.translator.table.split = 7;
    b.translator.table.log2Size = 13;
    // 2^(13 - 6) descriptors of 8 bytes: 1 KiB.
    b.translator.table.base = STRTAB + 0x3c0;
    b.writeWords(STRTAB + 0x7f * 8, buildL1Std({ SPAN: 7, L2PTR: L2 + 0xfc0 }));
    b.writeWords(L2 + 0x3f * 64, Int32Array.from([9, ...Array<number>(15).fill(0)]));
    expect(b.translate(0x1fff, IOVA)).toBe(BYPASSED);
  });

  it("F_STE_FETCH: the descriptor, the entry", () => {
    b.translator.table.base = HOLE;
    expect(b.translate(0x300, IOVA)).toBe(ABORTED);
    expect(b.event).toEqual({ name: "F_STE_FETCH", SID: 0x300, FETCH_ADDR: BigInt(HOLE + 24), ...fetchAliases(HOLE + 24) });
    b.translator.table.base = STRTAB;
    b.writeWords(STRTAB + 3 * 8, buildL1Std({ SPAN: 9, L2PTR: 0x1_0000_0000_0000n }));
    expect(b.translate(0x301, IOVA)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_STE_FETCH", SID: 0x301, FETCH_ADDR: 0x1_0000_0000_0040n });
  });

  it("is linear where the SMMU has no two-level tables, aligned to its size", () => {
    const linear = new Bench(withIdr(0, 3 << 27));
    linear.translator.table.format = 1;
    linear.translator.table.base = STRTAB + 0x1fc0;
    linear.ste(SID, { V: 1, CONFIG: 4 });
    expect(linear.translate(SID, IOVA)).toBe(BYPASSED);
  });
});

describe("the SMMU disabled", () => {
  it("bypasses or aborts by GBPA, without records, up to the OAS", () => {
    b.translator.enabled = false;
    b.translator.recordInvalidSid = true;
    expect(b.translate(0xffff_ffff, IOVA, ACCESS_WRITE, 4)).toBe(BYPASSED);
    expect(b.out).toBe(IOVA);
    expect(b.translate(SID, 1n << 48n)).toBe(ABORTED);
    expect(b.event).toBeUndefined();
    b.translator.globalAbort = true;
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event).toBeUndefined();
  });

  it("checks a small OAS too", () => {
    const small = new Bench(withIdr(5, 7, 0));
    small.translator.enabled = false;
    expect(small.translate(SID, 0xffff_ffffn)).toBe(BYPASSED);
    expect(small.translate(SID, 0x1_0000_0000n)).toBe(ABORTED);
  });
});

/** IPA[55:12] and FetchAddr[55:3] share words: both names show the same bits. */
function ipaAliases(ipa: bigint): object {
  const page = ipa & ~0xfffn;
  return { IPA: page, FETCH_ADDR: page };
}

function fetchAliases(address: number): object {
  return { IPA: BigInt(address) & ~0xfffn };
}
