import { describe, expect, it } from "vitest";
import { hostInput, nestedRig, PAGE_RO, PAGE_RW, Rig, ste } from "./rig.js";

const IOVA = 0x1000_0000;
const DATA = 0x4080_0000;
const DBM = 1n << 51n;
/** Stage 2, writable and clean: DBM, S2AP read only. */
const S2_CLEAN = 0x77fn | DBM;
/** Stage 1, writable and clean: DBM, AP[2]. */
const CLEAN = PAGE_RO | DBM;
const S2HD_HA = 3n << 55n;
const ATS = 0x10;

const withDirtyState = (): ReturnType<typeof hostInput> => {
  const input = hostInput();
  return { ...input, smmus: [{ ...input.smmus[0], idr0: "0x0d4c749b" }] };
};

function write(rig: Rig, control = 0): number {
  return rig.dma(rig.fn(), { operation: 3, target: BigInt(IOVA), length: 4, pattern: 1, control }).status;
}

describe("the dirty state", () => {
  it("of stage 2 is set by the first write through a nested stream, and by no read", () => {
    const { rig, fn, stage2, cd } = nestedRig({ input: withDirtyState(), eats: 1 });
    const nested = new BigUint64Array(rig.nestedSte(cd, 1, stage2).buffer);
    rig.install(fn, ste(nested[0], nested[1], nested[2] | S2HD_HA, nested[3]));
    for (const page of [0, 0x1000]) {
      stage2.map(DATA + page, rig.hpa(DATA + page), S2_CLEAN);
    }
    rig.flush();
    const dirty = (page: number): boolean => (stage2.entry(DATA + page) & 0x80n) !== 0n;
    expect(rig.dma(fn, { operation: 1, source: BigInt(IOVA), length: 4 }).status).toBe(2);
    expect(dirty(0)).toBe(false);
    expect(write(rig)).toBe(2);
    expect([dirty(0), dirty(0x1000)]).toEqual([true, false]);
    // Made clean without an invalidation, the TLB still has the writable entry: nothing is noted.
    stage2.map(DATA, rig.hpa(DATA), S2_CLEAN);
    expect(write(rig)).toBe(2);
    expect(dirty(0)).toBe(false);
    rig.command(0x28n | (1n << 32n));
    expect(write(rig)).toBe(2);
    expect(dirty(0)).toBe(true);
    expect(rig.events).toEqual([]);
  });

  it("is not touched without S2HD, and not on a page that is read-only in earnest", () => {
    const { rig, fn, stage2, cd } = nestedRig({ input: withDirtyState() });
    stage2.map(DATA, rig.hpa(DATA), S2_CLEAN);
    rig.flush();
    expect(write(rig)).toBe(6);
    const nested = new BigUint64Array(rig.nestedSte(cd, 1, stage2).buffer);
    rig.install(fn, ste(nested[0], nested[1], nested[2] | S2HD_HA, nested[3]));
    stage2.map(DATA, rig.hpa(DATA), 0x77fn);
    expect(write(rig)).toBe(6);
    expect(rig.events.map((event) => event[0] & 0xff)).toEqual([0x13, 0x13]);
  });

  it("is set when ATS grants writing, not when it grants reading", () => {
    const { rig, fn, stage2, cd } = nestedRig({ input: withDirtyState() });
    fn.enableAts(true);
    const nested = new BigUint64Array(rig.nestedSte(cd, 1, stage2, { eats: 1 }).buffer);
    rig.install(fn, ste(nested[0], nested[1], nested[2] | S2HD_HA, nested[3]));
    stage2.map(DATA, rig.hpa(DATA), S2_CLEAN);
    rig.flush();
    expect(rig.dma(fn, { operation: 1, source: BigInt(IOVA), length: 4, control: ATS }).status).toBe(2);
    expect(stage2.entry(DATA) & 0x80n).toBe(0n);
    expect(write(rig, ATS)).toBe(2);
    expect(stage2.entry(DATA) & 0x80n).toBe(0x80n);
    expect(rig.events).toEqual([]);
  });

  it("of stage 1 alone is set by CD.HD", () => {
    const input = withDirtyState();
    // IDR1.SSIDSIZE 16.
    const rig = new Rig({ ...input, smmus: [{ ...input.smmus[0], idr1: "0x02730410" }] });
    const fn = rig.fn();
    const root = rig.hardware.memory.allocatePage(12);
    const [two, three] = [rig.hardware.memory.allocatePage(12), rig.hardware.memory.allocatePage(12)];
    rig.write64(root, BigInt(two) | 3n);
    rig.write64(two + 128 * 8, BigInt(three) | 3n);
    rig.write64(three, BigInt(rig.hpa(DATA)) | CLEAN);
    rig.write64(three + 8, BigInt(rig.hpa(DATA)) | (PAGE_RW & ~0x400n));
    const cd = rig.hardware.memory.allocatePage(6);
    rig.write64(cd, 25n | (1n << 30n) | (1n << 31n) | (4n << 32n) | (1n << 41n) | (3n << 42n) | (7n << 45n));
    rig.write64(cd + 8, BigInt(root));
    // Config 5: stage 1 alone.
    rig.install(fn, ste(0xbn | BigInt(cd), 1n << 44n));
    expect(write(rig)).toBe(2);
    expect(rig.read64(three)).toBe(BigInt(rig.hpa(DATA)) | (CLEAN & ~0x80n));
    // The same through 2^15 CDs in leaves of 2^6 (S1CDMax, S1Fmt, S1DSS): the level 1 table is aligned to its 4 KiB,
    // bits of S1ContextPtr below are RES0 and taken as zero (5.2).
    const levelOne = rig.hardware.memory.allocatePage(12);
    const leaf = rig.hardware.memory.allocatePage(12);
    rig.write64(levelOne, BigInt(leaf) | 1n);
    rig.write64(leaf, rig.read64(cd));
    rig.write64(leaf + 8, rig.read64(cd + 8));
    rig.write64(three, BigInt(rig.hpa(DATA)) | CLEAN);
    rig.install(fn, ste(0x1bn | BigInt(levelOne) | 0x400n | (15n << 59n), 2n | (1n << 44n)));
    rig.flush();
    expect(write(rig)).toBe(2);
    expect(rig.read64(three)).toBe(BigInt(rig.hpa(DATA)) | (CLEAN & ~0x80n));
  });

  it("does not exist without IDR0.HTTU: S2HD makes the entry illegal", () => {
    const { rig, fn, stage2, cd } = nestedRig();
    const nested = new BigUint64Array(rig.nestedSte(cd, 1, stage2).buffer);
    rig.install(fn, ste(nested[0], nested[1], nested[2] | S2HD_HA, nested[3]));
    expect(write(rig)).toBe(6);
    expect(rig.events[0][0]).toBe(0x04);
  });
});
