import { beforeEach, describe, expect, it } from "vitest";
import { ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { dropCached, BLOCKED, BYPASSED, TRANSLATED } from "../../../src/vtd/lookup/index.js";
import {
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_TYPE,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_SELECTIVE,
  IOTLB_DESC,
  PASID_CACHE_DESC,
  PASID_IOTLB_DESC,
} from "../../../src/vtd/spec/index.js";
import { pack } from "../../../src/support/index.js";
import { Bench, firstStage, FS_RW, nested, passThrough, RAM_BASE, RID, ROOT_TABLE, secondStage, SS_RW } from "./bench.js";

const IOVA = 0x12_3456_7000n;
const PAGE = BigInt(RAM_BASE) + 0x80_0000n;
const CE = 5n;
const AW48 = 2n;
const SCE = 1n | 4n | 8n;

let b: Bench;
beforeEach(() => {
  b = new Bench();
});

/** Descriptors by hand: type in bits 3:0, granularity in bits 5:4, DID from bit 16. */
function descriptor(type: number, granularity: number, domain: number, word1 = 0, word2 = 0, word3 = 0): Int32Array {
  return Int32Array.of(type | (granularity << 4) | (domain << 16), word1, word2, word3);
}

describe("the context cache", () => {
  const other = RID + 1;
  const far = RID + 0x100;
  /** Three requesters, two of domain 7; all pass through, then no more. */
  const prepare = (): void => {
    for (const [rid, domain] of [
      [RID, 7n],
      [other, 8n],
      [far, 7n],
    ] as const) {
      b.legacy(rid, 9n, AW48 | (domain << 8n));
      expect(b.translate(rid, IOVA)).toBe(BYPASSED);
      b.legacy(rid, 0n, 0n);
    }
  };
  const held = (): boolean[] => [RID, other, far].map((rid) => b.translate(rid, IOVA) === BYPASSED);

  it("holds entries that are stale, and their root entry", () => {
    prepare();
    b.write(ROOT_TABLE + 16, 0n, 0n);
    expect(held()).toEqual([true, true, true]);
    expect(b.translator.contextCount).toBe(3);
  });

  it.each([
    ["global", GRANULARITY_GLOBAL, 0, 0, 0, [false, false, false]],
    ["of a domain", GRANULARITY_DOMAIN, 7, 0, 0, [false, true, false]],
    ["of a device", GRANULARITY_SELECTIVE, 7, RID, 0, [false, true, true]],
    ["of a device in another domain", GRANULARITY_SELECTIVE, 8, RID, 0, [true, true, true]],
    ["of another device", GRANULARITY_SELECTIVE, 8, other, 0, [true, false, true]],
    ["of all functions", GRANULARITY_SELECTIVE, 8, RID, 3, [true, false, true]],
    ["of functions that bit 2 does not tell apart", GRANULARITY_SELECTIVE, 7, RID ^ 4, 1, [false, true, true]],
    ["of functions that bit 0 tells apart", GRANULARITY_SELECTIVE, 7, RID ^ 1, 2, [true, true, true]],
    ["reserved", 0, 7, RID, 0, [true, true, true]],
  ])("is dropped: %s", (_name, granularity, domain, sid, mask, expected) => {
    prepare();
    expect(dropCached(b.translator, descriptor(1, granularity, domain, sid | (mask << 16)))).toBe(true);
    expect(held()).toEqual(expected);
  });

  it("has no domains in scalable mode: domain-selective is global, and a device's DID is ignored", () => {
    const directory = b.page();
    b.pasid(directory, 0, ...passThrough());
    const at = b.scalable(RID, BigInt(directory) | SCE);
    b.scalable(other, BigInt(directory) | SCE);
    for (const rid of [RID, other]) {
      expect(b.translate(rid, IOVA)).toBe(BYPASSED);
    }
    b.write(at, 0n);
    b.write(at + 32, 0n);
    b.translator.invalidateContextDevice(99, RID, 0);
    expect([RID, other].map((rid) => b.translate(rid, IOVA))).toEqual([BLOCKED, BYPASSED]);
    b.translator.invalidateContextDomain(99);
    expect(b.translate(other, IOVA)).toBe(BLOCKED);
  });

  it("does not answer for another mode", () => {
    b.legacy(RID, 9n, AW48);
    expect(b.translate(RID, IOVA)).toBe(BYPASSED);
    b.translator.mode = 1;
    expect(b.translate(RID, IOVA)).toBe(BLOCKED);
  });

  it("has room for so many entries only", () => {
    b = new Bench(undefined, { contexts: 2 });
    prepare();
    // The first one was given up for the third.
    expect(b.translator.contextCount).toBe(2);
    expect(held()).toEqual([false, true, true]);
  });

  it("does not hold what faults, so that a present entry is seen at once", () => {
    b.legacy(RID, 0n, 0n);
    expect(b.translate(RID, IOVA)).toBe(BLOCKED);
    b.legacy(RID, 9n, AW48);
    expect(b.translate(RID, IOVA)).toBe(BYPASSED);
  });
});

describe("the PASID cache", () => {
  let entries: number[];
  const far = RID + 1;
  /** PASIDs 1 (domain 5), 2 (domain 6) of one requester, 1 (domain 5) of another; gone from memory. */
  beforeEach(() => {
    const directory = b.page();
    const second = b.page();
    entries = [
      b.pasid(directory, 1, ...passThrough(5n)),
      b.pasid(directory, 2, ...passThrough(6n)),
      b.pasid(second, 1, ...passThrough(5n)),
    ];
    b.scalable(RID, BigInt(directory) | SCE);
    b.scalable(far, BigInt(second) | SCE);
    expect(held()).toEqual([true, true, true]);
    entries.forEach((at) => b.write64(at, 0n));
  });
  const held = (): boolean[] =>
    [
      [RID, 1],
      [RID, 2],
      [far, 1],
    ].map(([rid, pasid]) => b.translate(rid, IOVA, ACCESS_READ, pasid) === BYPASSED);

  it("holds entries that are stale, also when the context entry goes", () => {
    b.translator.invalidateContextGlobal();
    b.translator.invalidateIotlbGlobal();
    expect(held()).toEqual([true, true, true]);
    expect(b.translator.pasidCount).toBe(3);
  });

  it.each([
    ["global", 3, 0, 0, [false, false, false]],
    ["of a domain", 0, 5, 0, [false, true, false]],
    ["of a PASID", 1, 5, 1, [false, true, false]],
    ["of a PASID in another domain", 1, 6, 1, [true, true, true]],
    ["of another PASID", 1, 6, 2, [true, false, true]],
    ["reserved", 2, 5, 1, [true, true, true]],
  ])("is dropped: %s", (_name, granularity, domain, pasid, expected) => {
    expect(dropCached(b.translator, descriptor(7, granularity, domain, pasid))).toBe(true);
    expect(held()).toEqual(expected);
    expect(b.translator.pasidCount).toBe(expected.filter(Boolean).length);
  });

  it("has room for so many entries only", () => {
    b = new Bench(undefined, { pasids: 4 });
    const directory = b.page();
    b.scalable(RID, BigInt(directory) | SCE);
    for (let pasid = 1; pasid <= 5; pasid++) {
      b.pasid(directory, pasid, ...passThrough());
      expect(b.translate(RID, IOVA, ACCESS_READ, pasid)).toBe(BYPASSED);
    }
    expect(b.translator.pasidCount).toBe(1);
  });

  it("finds one PASID of a domain among 100,000 without looking at the others", () => {
    b = new Bench(undefined, { pasids: 200_000 });
    const directory = b.page();
    for (let pages = 1; pages < 4; pages++) {
      b.page();
    }
    const table = b.page();
    b.scalable(RID, BigInt(directory) | SCE | (7n << 9n));
    for (let slot = 0; slot < 1600; slot++) {
      b.write64(directory + slot * 8, BigInt(table) | 1n);
    }
    for (let index = 0; index < 64; index++) {
      b.write(table + index * 64, ...passThrough(5n));
    }
    for (let pasid = 1; pasid <= 100_000; pasid++) {
      if (b.translate(RID, IOVA, ACCESS_READ, pasid) !== BYPASSED) {
        throw new Error(`PASID ${pasid}`);
      }
    }
    expect(b.translator.pasidCount).toBe(100_000);
    for (let pasid = 1; pasid <= 1000; pasid++) {
      b.translator.invalidatePasid(5, pasid);
    }
    expect(b.translator.pasidCount).toBe(99_000);
  });
});

describe("the IOTLB", () => {
  /** Where each of the kinds of entries leads now. */
  const where = (rid: number, address: bigint, pasid = -1): number => {
    expect(b.translate(rid, address, ACCESS_WRITE, pasid)).toBe(TRANSLATED);
    return Number((b.out - PAGE) >> 12n);
  };

  it("legacy mode: by domain, and by page", () => {
    const root = b.page();
    b.legacy(RID, BigInt(root) | CE, AW48 | (7n << 8n));
    const addresses = [IOVA, IOVA + 0x1000n, IOVA + 0x2000n];
    addresses.forEach((address) => b.map(root, address, PAGE, SS_RW, SS_RW));
    const all = (): number[] => addresses.map((address) => where(RID, address));
    expect(all()).toEqual([0, 0, 0]);
    addresses.forEach((address) => b.map(root, address, PAGE + 0x1000n, SS_RW, SS_RW));
    expect(all()).toEqual([0, 0, 0]);
    const page = (address: bigint, mask: number, domain = 7): void => {
      const words = descriptor(2, 3, domain, 0, Number(BigInt.asIntN(32, address)) | mask, Number(address >> 32n));
      expect(dropCached(b.translator, words)).toBe(true);
    };
    page(IOVA, 0, 8);
    b.translator.invalidateContextGlobal();
    expect(all()).toEqual([0, 0, 0]);
    page(IOVA + 0x1000n, 0);
    expect(all()).toEqual([0, 1, 0]);
    addresses.forEach((address) => b.map(root, address, PAGE + 0x2000n, SS_RW, SS_RW));
    // Two pages around an address are aligned: from IOVA + 0x1000 on.
    page(IOVA + 0x2000n, 1);
    expect(all()).toEqual([0, 2, 2]);
    page(IOVA, 40);
    expect(all()).toEqual([2, 2, 2]);
    addresses.forEach((address) => b.map(root, address, PAGE + 0x3000n, SS_RW, SS_RW));
    dropCached(b.translator, descriptor(2, 2, 6));
    expect(all()).toEqual([2, 2, 2]);
    dropCached(b.translator, descriptor(2, 2, 7));
    expect(all()).toEqual([3, 3, 3]);
    addresses.forEach((address) => b.map(root, address, PAGE, SS_RW, SS_RW));
    dropCached(b.translator, descriptor(2, 1, 0));
    expect(all()).toEqual([0, 0, 0]);
  });

  /** PASID 1 and 2 first stage, 3 nested, all of domain 5; 4 second stage of domain 6. */
  const scalable = (): { remap: (step: bigint) => void; all: () => number[] } => {
    const directory = b.page();
    const [root, root2, root3, second] = [b.page(), b.page(), b.page(), b.page()];
    b.pasid(directory, 1, ...firstStage(root, 5n));
    b.pasid(directory, 2, ...firstStage(root2, 5n));
    b.pasid(directory, 3, ...nested(root3, second, 2n, 5n));
    b.pasid(directory, 4, ...secondStage(second, 2n, 6n));
    b.scalable(RID, BigInt(directory) | SCE);
    const remap = (step: bigint): void => {
      for (const table of [root, root2, root3]) {
        b.map(table, IOVA, PAGE + step, FS_RW, FS_RW);
      }
      b.map(second, IOVA, PAGE + step, SS_RW, SS_RW);
      for (let page = BigInt(root), end = page + 0x1_0000n; page < end; page += 0x1000n) {
        b.map(second, page, page, SS_RW, SS_RW);
      }
      for (let page = 0n; page < 8n; page++) {
        b.map(second, PAGE + page * 0x1000n, PAGE + page * 0x1000n, SS_RW, SS_RW);
      }
    };
    remap(0n);
    const all = (): number[] => [1, 2, 3, 4].map((pasid) => where(RID, IOVA, pasid));
    expect(all()).toEqual([0, 0, 0, 0]);
    remap(0x1000n);
    expect(all()).toEqual([0, 0, 0, 0]);
    return { remap, all };
  };
  const page = (domain: number, pasid: number, address: bigint, mask: number): Int32Array =>
    descriptor(6, 3, domain, pasid, Number(BigInt.asIntN(32, address)) | mask, Number(address >> 32n));

  it.each([
    ["a PASID", descriptor(6, 2, 5, 1), [1, 0, 0, 0]],
    ["a nested PASID", descriptor(6, 2, 5, 3), [0, 0, 1, 0]],
    ["a PASID of another domain", descriptor(6, 2, 6, 1), [0, 0, 0, 1]],
    ["a page", page(5, 2, IOVA, 0), [0, 1, 0, 0]],
    ["a nested page", page(5, 3, IOVA, 0), [0, 0, 1, 0]],
    ["a neighbouring page", page(5, 2, IOVA + 0x1000n, 0), [0, 0, 0, 0]],
    ["pages", page(5, 2, IOVA + 0x1000n, 4), [0, 1, 0, 0]],
    ["all pages", page(5, 2, 0n, 63), [0, 1, 0, 0]],
    ["a page, leaves only", page(5, 2, IOVA | 0x40n, 0), [0, 1, 0, 0]],
    ["a page of a second stage (not its concern)", page(6, 4, IOVA, 0), [0, 0, 0, 0]],
    ["a domain's second-stage page", descriptor(2, 3, 6, 0, Number(BigInt.asIntN(32, IOVA)), Number(IOVA >> 32n)), [0, 0, 0, 1]],
    ["a domain's page: what a first stage had a part in goes whole", descriptor(2, 3, 5, 0, 0x7000, 0), [1, 1, 1, 0]],
    ["a domain", descriptor(2, 2, 5), [1, 1, 1, 0]],
    ["all", descriptor(2, 1, 0), [1, 1, 1, 1]],
    ["reserved", descriptor(6, 0, 5, 1), [0, 0, 0, 0]],
    ["reserved, of a domain", descriptor(2, 0, 5), [0, 0, 0, 0]],
  ])("scalable mode: %s", (_name, words, expected) => {
    const { all } = scalable();
    expect(dropCached(b.translator, words)).toBe(true);
    expect(all()).toEqual(expected);
  });

  it("stays when context and PASID entries go", () => {
    const { all } = scalable();
    b.translator.invalidateContextGlobal();
    b.translator.invalidatePasidGlobal();
    expect(all()).toEqual([0, 0, 0, 0]);
    b.translator.reset();
    expect(all()).toEqual([1, 1, 1, 1]);
  });

  it("takes nothing for a command that does not concern it", () => {
    for (const type of [3, 4, 5, 8, 9, 0, 15]) {
      expect(dropCached(b.translator, descriptor(type, 1, 0))).toBe(false);
    }
  });

  it("ignores bits of a domain id that the unit has not", () => {
    // 256 domains: ND 2.
    b = new Bench({ ...b.translator.features, domainBits: 8 });
    const { all } = scalable();
    expect(dropCached(b.translator, descriptor(2, 2, 0x105))).toBe(true);
    expect(all()).toEqual([1, 1, 1, 0]);
  });
});

describe("descriptors' fields", () => {
  it("are those of the specification's layouts", () => {
    const { CONTEXT_CACHE, IOTLB, PASID_CACHE, PASID_IOTLB } = DESCRIPTOR_TYPE;
    expect([CONTEXT_CACHE, IOTLB, PASID_IOTLB, PASID_CACHE]).toEqual([1, 2, 6, 7]);
    const build = (layout: Parameters<typeof pack>[0], values: Record<string, number | bigint>): number[] =>
      Array.from(pack(layout, new Int32Array(4), values));
    expect(build(CONTEXT_CACHE_DESC, { G: 3, DID: 7, SID: RID, FM: 2 })).toEqual(Array.from(descriptor(0, 3, 7, RID | 0x2_0000)));
    expect(build(PASID_CACHE_DESC, { G: 1, DID: 5, PASID: 9 })).toEqual(Array.from(descriptor(0, 1, 5, 9)));
    expect(build(IOTLB_DESC, { G: 3, DID: 5, AM: 9, IH: 1, ADDR: 0x1000n })).toEqual(Array.from(descriptor(0, 3, 5, 0, 0x1049)));
    expect(build(PASID_IOTLB_DESC, { G: 2, DID: 5, PASID: 9, AM: 1 })).toEqual(Array.from(descriptor(0, 2, 5, 9, 1)));
  });
});
