import { beforeEach, describe, expect, it } from "vitest";
import { MEMORY_ABORT } from "../../../src/memory/index.js";
import { ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import {
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BLOCKED,
  BYPASSED,
  featuresOf,
  INTERRUPT,
  KIND_TRANSLATED,
  KIND_TRANSLATION_REQUEST,
  TRANSLATED,
} from "../../../src/vtd/lookup/index.js";
import {
  Bench,
  firstStage,
  FS_RO,
  FS_RW,
  FULL,
  FULL_CAP,
  FULL_ECAP,
  nested,
  passThrough,
  RAM_BASE,
  RID,
  secondStage,
  SS_RO,
  SS_RW,
  UPPER_RID,
  without,
} from "./bench.js";

const IOVA = 0x12_3456_7000n;
const PAGE = BigInt(RAM_BASE) + 0x80_0000n;
const LARGE = BigInt(RAM_BASE) + 0x100_0000n;
const CE = 5n;
const AW48 = 2n;
const SCE = 1n | 4n | 8n;
const ALL = ACCESS_READ | ACCESS_WRITE;

let b: Bench;
beforeEach(() => {
  b = new Bench();
});

const ask = (address: bigint, access: number, pasid = -1): [number, number, bigint, number] => {
  const code = b.translate(RID, address, access, pasid, KIND_TRANSLATION_REQUEST);
  return [code, b.translator.outPermissions, b.out, b.translator.outPageBits];
};

describe("remapping disabled", () => {
  it("passes untranslated requests, and has no ATS", () => {
    b.translator.enabled = false;
    expect(b.translate(RID, -1n & 0xffff_ffff_ffff_ffffn, ACCESS_WRITE, 5)).toBe(BYPASSED);
    expect(b.out).toBe(0xffff_ffff_ffff_ffffn);
    expect(b.translate(RID, IOVA, ACCESS_READ, -1, KIND_TRANSLATION_REQUEST)).toBe(ATS_UNSUPPORTED);
    expect(b.translate(RID, IOVA, ACCESS_READ, -1, KIND_TRANSLATED)).toBe(BLOCKED);
    expect([b.fault, b.translator.reason]).toEqual([undefined, 0]);
  });
});

describe("legacy mode", () => {
  it.each([
    [3, 1n, 0x7f_ffff_f000n],
    [4, 2n, 0xffff_ffff_f000n],
    [5, 3n, 0x1ff_ffff_ffff_f000n],
  ])("translates with %i levels, up to the width", (levels, aw, last) => {
    const root = b.page();
    b.legacy(RID, BigInt(root) | CE, aw);
    b.map(root, last, PAGE, SS_RO, SS_RW, levels);
    expect(b.translate(RID, last | 0xabcn)).toBe(TRANSLATED);
    expect([b.out, b.translator.outPermissions & ALL, b.translator.outPageBits]).toEqual([PAGE | 0xabcn, ACCESS_READ, 12]);
    expect(b.translate(RID, last + 0x1000n)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(4);
  });

  it("is no wider than MGAW", () => {
    // MGAW 57 less 8.
    b = new Bench(without([], [19]));
    const root = b.page();
    b.legacy(RID, BigInt(root) | CE, 3n);
    expect(b.translate(RID, 1n << 49n)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(4);
    expect(b.translate(RID, (1n << 49n) - 1n)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(6);
  });

  it("passes through, to the host's width", () => {
    b.legacy(RID, 9n | (0xfffff_ffffn << 12n), AW48);
    expect(b.translate(RID, (1n << 46n) - 4n, ACCESS_WRITE)).toBe(BYPASSED);
    expect(b.translator.outPageBits).toBe(32);
    // The answer does not hold for the interrupt range.
    for (const [address, bits] of [
      [0x1000n, 31],
      [0x8000_0000n, 30],
      [0xfedf_f000n, 21],
      [0xfef0_0000n, 20],
      [0xff00_0000n, 24],
    ] as const) {
      expect(b.translate(RID, address, ACCESS_WRITE)).toBe(BYPASSED);
      expect([address, b.translator.outPageBits]).toEqual([address, bits]);
    }
  });

  it("uses large pages where CAP has them", () => {
    for (const [bits, address] of [
      [21, LARGE],
      [30, 0x8000_0000n],
    ] as const) {
      const root = b.page();
      b.legacy(RID, BigInt(root) | CE, AW48);
      b.translator.reset();
      b.map(root, 1n << 40n, address, SS_RW, SS_RW, 4, bits);
      expect(b.translate(RID, (1n << 40n) + 0x12_3456n)).toBe(TRANSLATED);
      expect([b.out, b.translator.outPageBits]).toEqual([address + 0x12_3456n, bits]);
    }
    const small = new Bench(without([], [34, 35]));
    const root = small.page();
    small.legacy(RID, BigInt(root) | CE, AW48);
    small.map(root, 1n << 40n, LARGE, SS_RW, SS_RW, 4, 21);
    expect(small.translate(RID, 1n << 40n)).toBe(BLOCKED);
    expect(small.translator.reason).toBe(0xc);
  });
});

describe("second-stage leaves", () => {
  const TM = 1n << 62n;
  const SNP = 1n << 11n;

  it.each([
    ["bit 62 of units with device-TLBs that ignore it", featuresOf(FULL_CAP, FULL_ECAP, 46, true), TM, TRANSLATED],
    ["bit 62 of units without", featuresOf(FULL_CAP, FULL_ECAP & ~4n, 46, true), TM, BLOCKED],
    ["bit 62 of others", FULL, TM, BLOCKED],
    ["SNP with ECAP.SC", FULL, SNP, TRANSLATED],
    ["SNP without", without([7]), SNP, BLOCKED],
  ])("%s", (_name, features, bits, code) => {
    b = new Bench(features);
    const root = b.page();
    b.map(root, IOVA, PAGE, SS_RW | bits, SS_RW);
    b.legacy(RID, BigInt(root) | 1n, AW48);
    expect(b.translate(RID, IOVA)).toBe(code);
    expect(b.translator.reason).toBe(code === BLOCKED ? 0xc : 0);
  });
});

describe("features", () => {
  it("are those of QEMU's registers", () => {
    const f = featuresOf(0x81d2008c222f0606n, 0x893800f00f4an, 48);
    expect(f).toMatchObject({
      guestAddressBits: 48,
      secondStageLevels: 6,
      secondStage2m: true,
      secondStage1g: true,
      firstStage1g: true,
      fiveLevels: false,
      domainBits: 16,
      cachingMode: false,
      pageSelective: true,
      largestAddressMask: 18,
      passThrough: true,
      deviceTlb: false,
      snoopControl: false,
      interruptRemapping: true,
      extendedInterrupts: false,
      scalableMode: true,
      firstStage: true,
      secondStage: false,
      nested: false,
      supervisorRequests: false,
      pasid: true,
      pasidBits: 8,
      ridPasid: false,
      coherentWalks: false,
      abortDma: false,
    });
    const legacy = featuresOf(0x80d2008c22260686n, 0xf00f4an, 39);
    expect(legacy).toMatchObject({ cachingMode: true, guestAddressBits: 39, secondStageLevels: 6, scalableMode: false, pasid: false });
    expect(featuresOf(0x81d2008c222f0606n, 0x8d9a20f00f4en, 48)).toMatchObject({ pageRequests: true, deviceTlb: true, pasidBits: 20 });
  });
});

describe("scalable mode", () => {
  it("has a context table for each half of a bus", () => {
    const directory = b.page();
    b.pasid(directory, 0, ...passThrough());
    b.scalable(UPPER_RID, BigInt(directory) | SCE);
    expect(b.translate(UPPER_RID, IOVA)).toBe(BYPASSED);
    expect(b.translate(UPPER_RID & ~0x80, IOVA)).toBe(BLOCKED);
  });

  it("gives requests without PASID the one of RID_PASID, and its privilege", () => {
    const directory = b.page();
    const root = b.page();
    b.map(root, IOVA, PAGE, 0x63n, FS_RW);
    b.pasid(directory, 0x1fff, ...firstStage(root, 1n, 1n));
    const at = b.scalable(RID, BigInt(directory) | SCE, 0x1fffn);
    expect(b.translate(RID, IOVA)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0x81);
    b.write64(at + 8, 0x10_1fffn);
    b.translator.invalidateContextGlobal();
    expect(b.translate(RID, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
    expect(b.translator.entryPasid).toBe(0x1fff);
  });

  it("reaches the last PASID of the largest directory", () => {
    const directory = b.page();
    b.scalable(RID, BigInt(directory) | SCE | (7n << 9n));
    const slot = directory + 0x3fff * 8;
    const table = b.page() + 0x20_000;
    b.write64(slot, BigInt(table) | 1n);
    b.write(table + 63 * 64, ...passThrough());
    expect(b.translate(RID, IOVA, ACCESS_READ, 0xfffff)).toBe(BYPASSED);
  });

  it("translates by first stage, second stage and both", () => {
    const directory = b.page();
    const [root, second, top] = [b.page(), b.page(), b.page()];
    b.map(root, IOVA, 0x5000n, FS_RW, FS_RW);
    b.map(top, IOVA, PAGE, FS_RO, FS_RW);
    b.map(second, 0x5000n, PAGE + 0x5000n, SS_RO, SS_RW);
    for (let page = root; page < top + 0x1_0000; page += 0x1000) {
      b.map(second, page, page, SS_RW, SS_RW);
    }
    b.pasid(directory, 1, ...firstStage(top, 1n));
    b.pasid(directory, 2, ...secondStage(second, 2n, 2n));
    b.pasid(directory, 3, ...nested(root, second, 2n, 3n));
    b.scalable(RID, BigInt(directory) | SCE);
    const go = (address: bigint, pasid: number): [number, bigint, number] => [
      b.translate(RID, address, ACCESS_READ, pasid),
      b.out,
      b.translator.outPermissions & ALL,
    ];
    for (let round = 0; round < 2; round++) {
      expect(go(IOVA | 5n, 1)).toEqual([TRANSLATED, PAGE | 5n, ACCESS_READ]);
      expect(go(0x5006n, 2)).toEqual([TRANSLATED, PAGE + 0x5006n, ACCESS_READ]);
      expect(go(IOVA | 7n, 3)).toEqual([TRANSLATED, PAGE + 0x5007n, ACCESS_READ]);
    }
    expect(b.translator.walks).toBe(3);
  });

  it("takes AW for what it is where there is no second stage", () => {
    // Linux programs AW in first-stage entries, also of units without a second stage.
    b = new Bench(without([46, 45, 26]));
    const directory = b.page();
    const root = b.page();
    b.map(root, IOVA, PAGE, FS_RW, FS_RW);
    const [low, ...rest] = firstStage(root);
    b.pasid(directory, 0, low | (2n << 2n), ...rest);
    b.scalable(RID, BigInt(directory) | SCE);
    expect(b.translate(RID, IOVA)).toBe(TRANSLATED);
  });

  it("uses 1-GiB first-stage pages where CAP has them", () => {
    for (const [features, code] of [
      [FULL, TRANSLATED],
      [without([], [56]), BLOCKED],
    ] as const) {
      b = new Bench(features);
      const directory = b.page();
      const root = b.page();
      b.map(root, 0xffff_8000_0000_0000n & 0xffff_ffff_ffffn, 0x8000_0000n, FS_RW, FS_RW, 4, 30);
      b.pasid(directory, 0, ...firstStage(root));
      b.scalable(RID, BigInt(directory) | SCE);
      expect(b.translate(RID, 0xffff_8000_1234_5678n)).toBe(code);
      expect(code === BLOCKED ? b.translator.reason : b.out).toBe(code === BLOCKED ? 0x72 : 0x9234_5678n);
    }
  });
});

describe("the interrupt range", () => {
  it("is not remapped for writes without PASID, whatever the tables", () => {
    b.translator.rootTable = 0x4000_0000;
    for (const mode of [0, 1, 2, 3]) {
      b.translator.mode = mode;
      expect(b.translate(RID, 0xfee0_1004n, ACCESS_WRITE)).toBe(INTERRUPT);
      expect([b.out, b.fault]).toEqual([0xfee0_1004n, undefined]);
    }
    b.translator.mode = 0;
    expect(b.translate(RID, 0x1_fee0_0000n, ACCESS_WRITE)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(8);
    expect(b.translate(RID, 0xfef0_0000n, ACCESS_WRITE)).toBe(BLOCKED);
    expect(b.translate(RID, 0xfedf_ffffn, ACCESS_WRITE)).toBe(BLOCKED);
  });

  it("is translated as any other for requests with PASID, but for pass-through", () => {
    const directory = b.page();
    const root = b.page();
    b.map(root, 0xfee0_0000n, PAGE, FS_RW, FS_RW);
    b.pasid(directory, 1, ...firstStage(root));
    b.pasid(directory, 2, ...passThrough());
    b.scalable(RID, BigInt(directory) | SCE);
    expect(b.translate(RID, 0xfee0_0010n, ACCESS_WRITE, 1)).toBe(TRANSLATED);
    expect(b.out).toBe(PAGE | 0x10n);
    expect(b.translate(RID, 0xfee0_0010n, ACCESS_WRITE, 2)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0x87);
  });

  it("is told to Translation Requests as writable untranslated (S.1, S.2)", () => {
    b.legacy(RID, BigInt(b.page()) | CE, AW48);
    expect(ask(0xfee0_0000n, ALL).slice(0, 2)).toEqual([TRANSLATED, ACCESS_WRITE]);
    expect(b.translator.outUntranslatedOnly).toBe(true);
    expect(ask(0xfee0_0000n, ACCESS_READ).slice(0, 2)).toEqual([TRANSLATED, 0]);
    expect(b.translator.outUntranslatedOnly).toBe(false);
    // Where ATS is blocked that comes first.
    b.legacy(RID, BigInt(b.page()) | 1n, AW48);
    b.translator.reset();
    expect(ask(0xfee0_0000n, ALL)[0]).toBe(ATS_UNSUPPORTED);
  });

  it("is refused as output of large pages that hold a part of it", () => {
    const root = b.page();
    b.legacy(RID, BigInt(root) | CE, AW48);
    b.map(root, 0x4000_0000n, 0xc000_0000n, SS_RW, SS_RW, 4, 30);
    b.map(root, 0x8020_0000n, 0xfee0_0000n, SS_RW, SS_RW, 4, 21);
    b.map(root, 0x8040_0000n, 0xff00_0000n, SS_RW, SS_RW, 4, 21);
    expect(b.translate(RID, 0x4000_0000n)).toBe(TRANSLATED);
    expect(b.translator.outPageBits).toBe(29);
    expect(b.translate(RID, 0x7ee0_0000n)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0xe);
    expect(ask(0x4000_0000n, ALL)[0]).toBe(ATS_ABORTED);
    expect(b.translator.reason).toBe(0xe);
    // 2 MiB of which the upper one is memory.
    expect(b.translate(RID, 0x8030_0000n)).toBe(TRANSLATED);
    expect(ask(0x8030_0000n, ALL)[0]).toBe(ATS_ABORTED);
    expect(ask(0x8040_0000n, ALL)).toEqual([TRANSLATED, ALL, 0xff00_0000n, 21]);
  });
});

describe("Translation Requests", () => {
  it("are told page, size and permissions", () => {
    const directory = b.page();
    const [root, second] = [b.page(), b.page()];
    b.map(root, IOVA, PAGE, FS_RW, FS_RW);
    b.map(root, IOVA + 0x1000n, PAGE, FS_RO, FS_RW);
    b.map(root, 1n << 40n, LARGE, FS_RW, FS_RW, 4, 21);
    b.map(second, IOVA, PAGE, 2n, SS_RW);
    b.pasid(directory, 1, ...firstStage(root));
    b.pasid(directory, 2, ...secondStage(second));
    b.pasid(directory, 3, ...passThrough());
    b.scalable(RID, BigInt(directory) | SCE);
    for (let round = 0; round < 2; round++) {
      expect(ask(IOVA, ALL, 1)).toEqual([TRANSLATED, ALL, PAGE, 12]);
      expect(ask(IOVA, ACCESS_READ, 1)).toEqual([TRANSLATED, ACCESS_READ, PAGE, 12]);
      expect(ask(IOVA + 0x1000n, ALL, 1)).toEqual([TRANSLATED, ACCESS_READ, PAGE, 12]);
      expect(ask((1n << 40n) + 0x1000n, ALL, 1)).toEqual([TRANSLATED, ALL, LARGE + 0x1000n, 21]);
      expect(ask(IOVA, ALL, 2)).toEqual([TRANSLATED, ACCESS_WRITE, PAGE, 12]);
      expect(ask(IOVA, ALL, 3)).toEqual([TRANSLATED, ALL, IOVA, 21]);
      expect(ask(0xfec0_0000n, ALL, 3)).toEqual([TRANSLATED, ALL, 0xfec0_0000n, 21]);
      expect(ask(0xfef0_0000n, ALL, 3)).toEqual([TRANSLATED, ALL, 0xfef0_0000n, 20]);
      expect(ask(IOVA + 0x2000n, ALL, 1)).toEqual([TRANSLATED, 0, 0n, 12]);
      expect([b.translator.reason, b.fault]).toEqual([0x71, undefined]);
    }
  });

  it("ignore NW without ECAP.NWFS", () => {
    b = new Bench(without([33]));
    const root = b.page();
    const leaf = b.map(root, IOVA, PAGE, 7n, FS_RW);
    const directory = b.page();
    b.pasid(directory, 0, ...firstStage(root));
    b.scalable(RID, BigInt(directory) | SCE);
    expect(ask(IOVA, ACCESS_READ)).toEqual([TRANSLATED, ALL, PAGE, 12]);
    expect(b.read64(leaf) & 0x60n).toBe(0x60n);
  });

  it("mark dirty what is told to be writable, and nothing else", () => {
    const root = b.page();
    const leaf = b.map(root, IOVA, PAGE, 7n, FS_RW);
    const readOnly = b.map(root, IOVA + 0x1000n, PAGE, 5n, FS_RW);
    const directory = b.page();
    b.pasid(directory, 0, ...firstStage(root));
    b.scalable(RID, BigInt(directory) | SCE);
    ask(IOVA, ACCESS_READ);
    expect(b.read64(leaf) & 0x60n).toBe(0x20n);
    ask(IOVA, ALL);
    expect(b.read64(leaf) & 0x60n).toBe(0x60n);
    ask(IOVA + 0x1000n, ALL);
    expect(b.read64(readOnly) & 0x60n).toBe(0x20n);
  });

  it("see privilege as their PASID prefix says", () => {
    const root = b.page();
    b.map(root, IOVA, PAGE, 0x63n, FS_RW);
    const directory = b.page();
    b.pasid(directory, 1, ...firstStage(root, 1n, 1n));
    b.scalable(RID, BigInt(directory) | SCE);
    expect(ask(IOVA, ALL, 1).slice(0, 2)).toEqual([TRANSLATED, 0]);
    expect(ask(IOVA, ALL | ACCESS_PRIVILEGED, 1).slice(0, 2)).toEqual([TRANSLATED, ALL]);
  });

  it("are not recorded as faults where flags could not be written; 0x91 is", () => {
    const directory = b.page();
    const root = b.page();
    // A table that is there to read, in memory that takes no writes.
    const exchange = b.memory.compareExchange64.bind(b.memory);
    b.map(root, IOVA, PAGE, 7n, 7n);
    b.pasid(directory, 0, ...firstStage(root));
    b.scalable(RID, BigInt(directory) | SCE);
    b.memory.compareExchange64 = () => MEMORY_ABORT;
    expect(ask(IOVA, ALL).slice(0, 2)).toEqual([TRANSLATED, 0]);
    expect(b.fault).toMatchObject({ FR: 0x91, AT: 1 });
    b.memory.compareExchange64 = exchange;
  });
});

describe("Translated requests", () => {
  it("go on as they came where ATS is let through", () => {
    const at = b.legacy(RID, BigInt(b.page()) | CE, AW48);
    expect(b.translate(RID, 0x1_2345_6789n, ACCESS_WRITE, -1, KIND_TRANSLATED)).toBe(BYPASSED);
    expect(b.out).toBe(0x1_2345_6789n);
    expect(b.translate(RID, 1n << 46n, ACCESS_READ, -1, KIND_TRANSLATED)).toBe(BLOCKED);
    expect(b.fault).toMatchObject({ FR: 4, AT: 2 });
    expect(b.translate(RID, 0xfee0_0000n, ACCESS_WRITE, -1, KIND_TRANSLATED)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0xe);
    b.write64(at, 0n);
    b.translator.invalidateContextGlobal();
    expect(b.translate(RID, 0x1000, ACCESS_READ, -1, KIND_TRANSLATED)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(2);
  });

  it("do so in scalable mode without a PASID entry", () => {
    b.scalable(RID, SCE);
    expect(b.translate(RID, 0x1000, ACCESS_WRITE, 5, KIND_TRANSLATED)).toBe(BYPASSED);
    expect(b.translate(RID, 1n << 46n, ACCESS_READ, -1, KIND_TRANSLATED)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0x83);
    expect(b.translate(RID, 0xfee0_0000n, ACCESS_WRITE, -1, KIND_TRANSLATED)).toBe(BLOCKED);
    expect(b.translator.reason).toBe(0x87);
  });
});

describe("zero-length reads and AtomicOps", () => {
  it("zero-length reads need no read permission with CAP.ZLR, and pass the interrupt range", () => {
    for (const [features, code] of [
      [FULL, TRANSLATED],
      [without([], [22]), BLOCKED],
    ] as const) {
      b = new Bench(features);
      const root = b.page();
      b.map(root, IOVA, PAGE, 2n, SS_RW);
      b.legacy(RID, BigInt(root) | CE, AW48);
      expect(b.translate(RID, IOVA, 0)).toBe(code);
      expect(b.translator.reason).toBe(code === TRANSLATED ? 0 : 6);
      expect(b.translate(RID, 0xfee0_0000n, 0)).toBe(code === TRANSLATED ? BYPASSED : BLOCKED);
    }
  });

  it("records AtomicOps as such", () => {
    const root = b.page();
    b.map(root, IOVA, PAGE, SS_RO, SS_RW);
    b.legacy(RID, BigInt(root) | CE, AW48);
    expect(b.translate(RID, IOVA, ALL)).toBe(BLOCKED);
    expect(b.fault).toEqual({ FI: IOVA, SID: RID, FR: 5, T1: 1, T2: 1 });
  });
});

describe("the hot path", () => {
  it("allocates nothing for cached structures and an IOTLB hit", () => {
    const directory = b.page();
    const root = b.page();
    for (let i = 0; i < 64; i++) {
      b.map(root, i * 0x1000, RAM_BASE + i * 0x1000, FS_RW, FS_RW);
    }
    for (let pasid = 0; pasid < 4; pasid++) {
      b.pasid(directory, pasid, ...firstStage(root));
    }
    b.scalable(RID, BigInt(directory) | SCE);
    const run = (count: number): number => {
      let sum = 0;
      for (let i = 0; i < count; i++) {
        sum += b.translator.translate(RID, ((i >> 4) & 3) - 1 || 3, 0, (i << 8) & 0x3ffff, ACCESS_READ) + (b.translator.outLow & 1);
      }
      return sum;
    };
    expect(run(200_000)).toBe(0);
    const before = process.memoryUsage().heapUsed;
    run(1_000_000);
    // One small object a call would be 16 MB and more.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(4_000_000);
  });
});
