import { beforeEach, describe, expect, it } from "vitest";
import { ABORTED, BYPASSED, TRANSLATED } from "../../../src/smmuv3/lookup/index.js";
import { buildL1Cd } from "../../../src/smmuv3/spec/index.js";
import { ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { Bench, CDTAB, cdFields, RAM_BASE, S1_RW, S2_RW, stage2Fields, withIdr } from "./bench.js";

const SID = 9;
const IOVA = 0x7654_3000n;
let b: Bench;

/** A CD whose tables map IOVA to `output`. */
function context(bench: Bench, address: number, asid: number, output: number): void {
  const root = bench.page();
  bench.map(root, IOVA, output, S1_RW);
  bench.cd(address, cdFields(root, { ASID: asid }));
}

beforeEach(() => {
  b = new Bench();
});

describe("context descriptor tables", () => {
  it("linear: indexed by the SubstreamID, aligned to its size", () => {
    // The RES0 bits of the pointer are taken as zero: 2^4 CDs are 1 KiB.
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB + 0x3c0, S1CDMAX: 4, S1DSS: 2 });
    context(b, CDTAB, 1, RAM_BASE);
    context(b, CDTAB + 15 * 64, 2, RAM_BASE + 0x1000);
    expect(b.translate(SID, IOVA + 4n)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 4));
    expect(b.translate(SID, IOVA, ACCESS_READ, 15)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x1000));
  });

  it.each([
    [1, 6],
    [2, 10],
  ])("two levels, format %i", (format, split) => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 20, S1FMT: format, S1DSS: 2 });
    const leaf = 0x4030_0000;
    const ssid = 5 * 2 ** split + 7;
    b.writeWords(CDTAB + 5 * 8, buildL1Cd({ V: 1, L2PTR: leaf }));
    context(b, leaf + 7 * 64, 3, RAM_BASE + 0x3000);
    expect(b.translate(SID, IOVA, ACCESS_WRITE, ssid)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x3000));
    // The last of the 2^20: the L1 table has 2^(20 - split) descriptors.
    b.writeWords(CDTAB + (2 ** (20 - split) - 1) * 8, buildL1Cd({ V: 1, L2PTR: leaf }));
    context(b, leaf + (2 ** split - 1) * 64, 4, RAM_BASE + 0x4000);
    expect(b.translate(SID, IOVA, ACCESS_WRITE, 0xfffff)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x4000));
  });

  it("two levels: leaf tables are aligned to 64 KiB with format 2", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 10, S1FMT: 2 });
    b.writeWords(CDTAB, buildL1Cd({ V: 1, L2PTR: 0x4030_f000 }));
    context(b, 0x4030_0000 + 64, 1, RAM_BASE + 0x5000);
    expect(b.translate(SID, IOVA, ACCESS_READ, 1)).toBe(TRANSLATED);
  });
});

describe("S1DSS", () => {
  it("bypasses stage 1 without a SubstreamID", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 4, S1DSS: 1 });
    expect(b.translate(SID, 0xffff_ffff_f000n)).toBe(BYPASSED);
    expect(b.out).toBe(0xffff_ffff_f000n);
    expect(b.translate(SID, 0x1_0000_0000_0000n)).toBe(ABORTED);
    expect(b.event?.name).toBe("F_ADDR_SIZE");
    context(b, CDTAB, 1, RAM_BASE);
    // SubstreamID 0 is an ordinary one then.
    expect(b.translate(SID, IOVA, ACCESS_READ, 0)).toBe(TRANSLATED);
  });

  it("goes through stage 2 alone where that is on", () => {
    const root2 = b.page();
    b.ste(SID, { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, S1CDMAX: 4, S1DSS: 1, ...stage2Fields(root2) });
    b.map(root2, 0x8000, RAM_BASE + 0x8000, S2_RW);
    expect(b.translate(SID, 0x8010)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x8010));
    expect(b.translate(SID, 0x9000)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_TRANSLATION", S2: 1, CLASS: 2, IPA: 0x9000n });
  });

  it("does not matter with one CD", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1DSS: 0 });
    context(b, CDTAB, 1, RAM_BASE);
    expect(b.translate(SID, IOVA)).toBe(TRANSLATED);
  });
});

describe("address spaces of stage 1", () => {
  it("translates the upper range by TTB1 with its own granule", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
    const lower = b.page();
    const upper = b.page();
    b.cd(CDTAB, cdFields(lower, { EPD1: 0, T1SZ: 16, TG1: 2, TTB1: upper }));
    b.map(lower, 0x1000, RAM_BASE + 0x1000, S1_RW);
    b.map(upper, 0x1000, RAM_BASE + 0x2000, S1_RW);
    expect(b.translate(SID, 0x1abc)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x1abc));
    expect(b.translate(SID, 0xffff_0000_0000_1abcn)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x2abc));
    expect(b.translate(SID, 0xfffe_0000_0000_1abcn)).toBe(ABORTED);
    expect(b.event).toMatchObject({ name: "F_TRANSLATION", INPUT_ADDR: 0xfffe_0000_0000_1abcn });
  });

  it("ignores the top byte where TBI says so, but records it", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
    const root = b.page();
    b.cd(CDTAB, cdFields(root, { TBI0: 1 }));
    b.map(root, 0x1000, RAM_BASE + 0x1000, S1_RW);
    expect(b.translate(SID, 0xab00_0000_0000_1004n)).toBe(TRANSLATED);
    expect(b.out).toBe(BigInt(RAM_BASE + 0x1004));
    expect(b.translate(SID, 0xab00_0000_0000_2004n)).toBe(ABORTED);
    expect(b.event).toMatchObject({ INPUT_ADDR: 0xab00_0000_0000_2004n });
  });

  it("E0PD faults unprivileged accesses with F_TRANSLATION", () => {
    b = new Bench(withIdr(3, 0, 0x2000));
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
    const root = b.page();
    b.cd(CDTAB, cdFields(root, { E0PD0: 1 }));
    b.map(root, IOVA, RAM_BASE, S1_RW);
    expect(b.translate(SID, IOVA)).toBe(ABORTED);
    expect(b.event?.name).toBe("F_TRANSLATION");
    expect(b.translate(SID, IOVA, ACCESS_READ | ACCESS_PRIVILEGED)).toBe(TRANSLATED);
  });

  it("reports the mapping's size and the permissions at the access's privilege", () => {
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB });
    const root = b.page();
    b.cd(CDTAB, cdFields(root));
    b.map(root, 0x20_0000, 0x8000_0000, S1_RW & ~0x40n, 2);
    expect(b.translate(SID, 0x2f_f123, ACCESS_READ | ACCESS_PRIVILEGED)).toBe(TRANSLATED);
    expect(b.out).toBe(0x800f_f123n);
    expect(b.translator.outPageBits).toBe(21);
    expect(b.translator.outPermissions & 3).toBe(3);
  });
});
