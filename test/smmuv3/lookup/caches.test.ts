import { beforeEach, describe, expect, it } from "vitest";
import { ABORTED, BYPASSED, TRANSLATED } from "../../../src/smmuv3/lookup/index.js";
import { CFGI_RANGE_ALL, encodeCommand, OP, type CMD, type FieldValues } from "../../../src/smmuv3/spec/index.js";
import { ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { Bench, CDTAB, cdFields, RAM_BASE, S1_RO, S1_RW, S2_RW, stage2Fields, withIdr } from "./bench.js";

const SID = 4;
const IOVA = 0x1_2345_6000n;
const A = RAM_BASE + 0xa000;
const B = RAM_BASE + 0xb000;
let b: Bench;

const tlbi = (opcode: number, values: FieldValues<typeof CMD> = {}): void => {
  expect(b.translator.tlbi(encodeCommand(opcode, values))).toBe(true);
};
const where = (sid = SID, address: bigint | number = IOVA, ssid = -1): bigint | string => {
  const code = b.translate(sid, address, ACCESS_READ, ssid);
  return code === TRANSLATED || code === BYPASSED ? b.out : String(b.event?.name);
};

beforeEach(() => {
  b = new Bench();
});

describe("configuration caches", () => {
  beforeEach(() => {
    for (const sid of [SID, SID + 1, SID + 8, 0x40]) {
      b.ste(sid, { V: 1, CONFIG: 4 });
      expect(where(sid)).toBe(IOVA);
      b.ste(sid, { V: 0 });
    }
  });

  it("keep an STE until CFGI_STE", () => {
    expect(where(SID)).toBe(IOVA);
    b.translator.invalidateSte(SID + 1);
    expect(where(SID)).toBe(IOVA);
    b.translator.invalidateSte(SID);
    expect(where(SID)).toBe("C_BAD_STE");
    expect(where(SID + 1)).toBe("C_BAD_STE");
  });

  it("keep an illegal STE too", () => {
    b.translator.invalidateSte(SID);
    expect(where(SID)).toBe("C_BAD_STE");
    b.ste(SID, { V: 1, CONFIG: 4 });
    expect(where(SID)).toBe("C_BAD_STE");
    b.translator.invalidateSte(SID);
    expect(where(SID)).toBe(IOVA);
  });

  it("drop the aligned block of 2^(Range + 1) StreamIDs by CFGI_STE_RANGE", () => {
    b.translator.invalidateSteRange(SID + 1, 0);
    expect([SID, SID + 1, SID + 8, 0x40].map((sid) => where(sid))).toEqual(["C_BAD_STE", "C_BAD_STE", IOVA, IOVA]);
    b.translator.invalidateSteRange(1, 3);
    expect([SID + 8, 0x40].map((sid) => where(sid))).toEqual(["C_BAD_STE", IOVA]);
    b.translator.invalidateSteRange(0, 6);
    expect(where(0x40)).toBe("C_BAD_STE");
  });

  it("drop all by CFGI_ALL", () => {
    b.translator.invalidateSteRange(0x1234, CFGI_RANGE_ALL);
    expect([SID, SID + 1, SID + 8, 0x40].map((sid) => where(sid))).toEqual(Array(4).fill("C_BAD_STE"));
    b.ste(SID, { V: 1, CONFIG: 4 });
    expect(where(SID)).toBe("C_BAD_STE");
    b.translator.invalidateSteRange(0, CFGI_RANGE_ALL);
    expect(where(SID)).toBe(IOVA);
  });

  it("keep CDs until CFGI_CD, CFGI_CD_ALL or the STE's invalidation", () => {
    const root = b.page();
    const other = b.page();
    b.map(root, IOVA, A, S1_RW);
    b.map(other, IOVA, B, S1_RW);
    b.translator.reset();
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 2, S1DSS: 2 });
    const write = (tables: number, asid: number): void => {
      for (let i = 0; i < 3; i++) {
        b.cd(CDTAB + i * 64, cdFields(tables, { ASID: asid + i }));
      }
    };
    const all = (): Array<bigint | string> => [where(), where(SID, IOVA, 1), where(SID, IOVA, 2)];
    const [a, z] = [BigInt(A), BigInt(B)];
    write(root, 0x10);
    expect(all()).toEqual([a, a, a]);
    write(other, 0x20);
    expect(all()).toEqual([a, a, a]);
    b.translator.invalidateCd(SID, 1);
    expect(all()).toEqual([a, z, a]);
    b.translator.invalidateCd(SID + 1, 2);
    b.translator.invalidateCd(SID, 3);
    expect(all()).toEqual([a, z, a]);
    b.translator.invalidateCds(SID);
    expect(all()).toEqual([z, z, z]);
    write(root, 0x10);
    b.translator.invalidateCds(SID + 1);
    expect(all()).toEqual([z, z, z]);
    b.translator.invalidateSte(SID);
    expect(all()).toEqual([a, a, a]);
  });

  it("are bounded", () => {
    b = new Bench(withIdr(0, 0), { streams: 4, contexts: 8 });
    const root = b.page();
    b.map(root, IOVA, A, S1_RW);
    for (let i = 0; i < 32; i++) {
      b.cd(CDTAB + i * 64, cdFields(root));
    }
    for (let sid = 0; sid < 16; sid++) {
      b.ste(sid, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 5 });
      for (let ssid = 0; ssid < 32; ssid++) {
        expect(where(sid, IOVA, ssid)).toBe(BigInt(A));
      }
    }
    const cache = Reflect.get(b.translator, "cache") as { size: number; cdCount: number };
    expect(cache.size).toBeLessThanOrEqual(4);
    expect(cache.cdCount).toBeLessThanOrEqual(8);
  });
});

describe("TLB invalidations of stage 1", () => {
  let roots: number[];
  /** Streams 1 to 3: ASID 1 and 2 of VMID 1, ASID 1 of VMID 2; IOVA and the page after it, the first nG or global. */
  const build = (first: bigint): void => {
    roots = [b.page(), b.page(), b.page()];
    roots.forEach((root, i) => {
      b.ste(i + 1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB + i * 64, S2VMID: i === 2 ? 2 : 1 });
      b.cd(CDTAB + i * 64, cdFields(root, { ASID: i === 1 ? 2 : 1 }));
      b.map(root, IOVA, A, first);
      b.map(root, IOVA + 0x1000n, A, S1_RW);
    });
    expect(state()).toBe("AAA AAA");
    for (const root of roots) {
      b.map(root, IOVA, B, first);
      b.map(root, IOVA + 0x1000n, B, S1_RW);
    }
    expect(state()).toBe("AAA AAA");
  };
  /** What each stream sees at both pages. */
  const state = (): string =>
    [IOVA, IOVA + 0x1000n]
      .map((address) => [1, 2, 3].map((sid) => (where(sid, address) === BigInt(A) ? "A" : where(sid, address) === BigInt(B) ? "B" : "?")).join(""))
      .join(" ");

  const cases: Array<[string, bigint, () => void, string]> = [
    ["another VMID's NH_ALL", S1_RW, () => tlbi(OP.TLBI_NH_ALL, { VMID: 3 }), "AAA AAA"],
    ["NH_ALL", S1_RW, () => tlbi(OP.TLBI_NH_ALL, { VMID: 1 }), "BBA BBA"],
    ["NH_ASID", S1_RW, () => tlbi(OP.TLBI_NH_ASID, { VMID: 1, ASID: 2 }), "ABA ABA"],
    ["NH_VA", S1_RW, () => tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: IOVA }), "BAA AAA"],
    ["NH_VA of another page", S1_RW, () => tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: IOVA + 0x2000n }), "AAA AAA"],
    ["NH_VAA", S1_RW, () => tlbi(OP.TLBI_NH_VAA, { VMID: 1, ADDRESS: IOVA }), "BBA AAA"],
    ["NH_VA, range of two", S1_RW, () => tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: IOVA, TG: 1, NUM: 1, TTL: 3 }), "BAA BAA"],
    ["NH_VA, range that ends before", S1_RW, () => tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: IOVA - 0x2000n, TG: 1, NUM: 1 }), "AAA AAA"],
    ["NH_VA, range by scale", S1_RW, () => tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: 0, TG: 1, SCALE: 20, NUM: 1 }), "BAA BAA"],
    ["NH_VAA, all of the address space", S1_RW, () => tlbi(OP.TLBI_NH_VAA, { VMID: 1, ADDRESS: 0, TG: 3, SCALE: 39, NUM: 31 }), "BBA BBA"],
    ["S12_VMALL", S1_RW, () => tlbi(OP.TLBI_S12_VMALL, { VMID: 2 }), "AAB AAB"],
    ["NSNH_ALL", S1_RW, () => tlbi(OP.TLBI_NSNH_ALL), "BBB BBB"],
    ["S2_IPA", S1_RW, () => tlbi(OP.TLBI_S2_IPA, { VMID: 1, ADDRESS: BigInt(A) }), "AAA AAA"],
    ["NH_ASID leaves global entries", S1_RW & ~0x800n, () => tlbi(OP.TLBI_NH_ASID, { VMID: 1, ASID: 2 }), "AAA ABA"],
    ["NH_VA drops global entries", S1_RW & ~0x800n, () => tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 7, ADDRESS: IOVA }), "BBA AAA"],
  ];
  it.each(cases)("%s", (_name, first, command, expected) => {
    build(first);
    command();
    expect(state()).toBe(expected);
  });

  it("takes no range without RIL", () => {
    b = new Bench(withIdr(3, 0x400));
    build(S1_RW);
    tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: IOVA, TG: 1, NUM: 1 });
    expect(state()).toBe("BAA AAA");
  });

  it("has VMID 0 for all without stage 2", () => {
    b = new Bench(withIdr(0, 1));
    roots = [b.page()];
    b.ste(1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S2VMID: 9 });
    b.cd(CDTAB, cdFields(roots[0]));
    b.map(roots[0], IOVA, A, S1_RW);
    expect(where(1)).toBe(BigInt(A));
    b.map(roots[0], IOVA, B, S1_RW);
    tlbi(OP.TLBI_NH_ASID, { VMID: 5, ASID: 1 });
    expect(where(1)).toBe(BigInt(B));
  });

  it("reaches the upper half by its own addresses only", () => {
    const root = b.page();
    const upper = 0xffff_8000_0000_0000n;
    b.ste(1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S2VMID: 1 });
    b.cd(CDTAB, cdFields(root, { EPD1: 0, T1SZ: 16, TG1: 2, TTB1: root }));
    b.map(root, 0x8000_0000_0000n, A, S1_RW);
    const both = (): Array<bigint | string> => [where(1, 0x8000_0000_0000n), where(1, upper)];
    expect(both()).toEqual([BigInt(A), BigInt(A)]);
    b.map(root, 0x8000_0000_0000n, B, S1_RW);
    tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: upper, TG: 1, NUM: 31, SCALE: 39 });
    expect(both()).toEqual([BigInt(A), BigInt(B)]);
    tlbi(OP.TLBI_NH_VA, { VMID: 1, ASID: 1, ADDRESS: 0, TG: 1, NUM: 31, SCALE: 39 });
    expect(both()).toEqual([BigInt(B), BigInt(B)]);
  });

  it("keeps a permission until it is invalidated, and sees a larger one at once", () => {
    const root = b.page();
    b.ste(1, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
    b.cd(CDTAB, cdFields(root));
    b.map(root, IOVA, A, S1_RW);
    expect(b.translate(1, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
    b.map(root, IOVA, A, S1_RO);
    expect(b.translate(1, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
    tlbi(OP.TLBI_NH_VA, { ASID: 1, ADDRESS: IOVA });
    expect(b.translate(1, IOVA, ACCESS_WRITE)).toBe(ABORTED);
    expect(b.translate(1, IOVA, ACCESS_READ)).toBe(TRANSLATED);
    b.map(root, IOVA, A, S1_RW);
    expect(b.translate(1, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
  });

  it("says what is no TLB invalidation", () => {
    expect(b.translator.tlbi(encodeCommand(OP.SYNC))).toBe(false);
    expect(b.translator.tlbi(encodeCommand(OP.CFGI_STE, { SID }))).toBe(false);
    const queue = new Int32Array(8);
    queue.set(encodeCommand(OP.TLBI_NSNH_ALL), 4);
    expect(b.translator.tlbi(queue, 4)).toBe(true);
    expect(b.translator.tlbi(queue, 0)).toBe(false);
  });
});

describe("TLB invalidations of stage 2", () => {
  let root2: number;
  beforeEach(() => {
    root2 = b.page();
    const root = b.page();
    b.map(root, IOVA, 0x7000_0000, S1_RW);
    b.map(root2, CDTAB, CDTAB, S2_RW);
    for (let at = root; at < root + 0x10_0000; at += 0x1000) {
      b.map(root2, at, at, S2_RW);
    }
    b.map(root2, 0x7000_0000, A, S2_RW);
    b.cd(CDTAB, cdFields(root));
    b.ste(1, { V: 1, CONFIG: 6, ...stage2Fields(root2) });
    b.ste(2, { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, ...stage2Fields(root2) });
    expect(both()).toEqual([BigInt(A), BigInt(A)]);
    b.map(root2, 0x7000_0000, B, S2_RW);
    expect(both()).toEqual([BigInt(A), BigInt(A)]);
  });
  const both = (): Array<bigint | string> => [where(1, 0x7000_0000), where(2)];

  it("S2_IPA drops what stage 2 alone translated; nested entries need NH_ALL", () => {
    tlbi(OP.TLBI_S2_IPA, { VMID: 1, ADDRESS: 0x7000_1000 });
    expect(both()).toEqual([BigInt(A), BigInt(A)]);
    tlbi(OP.TLBI_S2_IPA, { VMID: 1, ADDRESS: 0x7000_0000 });
    expect(both()).toEqual([BigInt(B), BigInt(A)]);
    tlbi(OP.TLBI_NH_ALL, { VMID: 1 });
    expect(both()).toEqual([BigInt(B), BigInt(B)]);
  });

  it("S2_IPA by range", () => {
    tlbi(OP.TLBI_S2_IPA, { VMID: 1, ADDRESS: 0x6ff0_0000, TG: 1, SCALE: 3, NUM: 31, TTL: 3 });
    expect(both()).toEqual([BigInt(A), BigInt(A)]);
    tlbi(OP.TLBI_S2_IPA, { VMID: 1, ADDRESS: 0x6ff0_0000, TG: 1, SCALE: 4, NUM: 31 });
    expect(both()).toEqual([BigInt(B), BigInt(A)]);
  });

  it("NH_ALL leaves what stage 2 alone translated; S12_VMALL drops all", () => {
    tlbi(OP.TLBI_NH_ALL, { VMID: 1 });
    expect(both()).toEqual([BigInt(A), BigInt(B)]);
    tlbi(OP.TLBI_S12_VMALL, { VMID: 1 });
    expect(both()).toEqual([BigInt(B), BigInt(B)]);
  });
});
