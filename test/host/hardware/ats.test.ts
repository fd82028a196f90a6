import { describe, expect, it } from "vitest";
import type { HardwareFunction } from "../../../src/host/simulated/hardware/index.js";
import { ATC_HIT, DeviceTranslationCache, NO_PASID } from "../../../src/host/simulated/hardware/device-cache.js";
import { hostInput, nestedRig, PAGE_RO, PAGE_RW, type Rig, type Stage1, type Stage2 } from "./rig.js";

const IOVA = 0x1000_0000;
const OLD = 0x4080_0000;
const NEW = 0x4090_0000;
const ATS = 0x10;
const SSV = 1n << 11n;
const GLOBAL = 1n << 9n;
const sid = 0x100n << 32n;
const EATS_ENABLED = { eats: 1 };

function atsRig(eats = 1): { rig: Rig; fn: HardwareFunction; stage1: Stage1; stage2: Stage2; cd: number } {
  const made = nestedRig({ eats });
  made.fn.enableAts(true);
  return made;
}

function where(rig: Rig, fn: HardwareFunction, iova = IOVA, pasid?: number): number | "fault" {
  const offset = iova - IOVA;
  for (const page of [OLD, NEW]) {
    rig.ram.write(page + (offset - (offset % 4096)) - 0x4000_0000, new Uint8Array(4096));
  }
  const { status } = rig.dma(fn, { operation: 3, target: BigInt(iova), length: 4, pattern: -1, control: ATS, pasid });
  return status !== 2 ? "fault" : ([OLD, NEW].find((page) => rig.guestBytes(page + offset, 1)[0] === 0xff) ?? NaN);
}

/** Points pages at NEW and drops the SMMU's own caches, so that only the function's remembers. */
function repoint(rig: Rig, stage1: Stage1, pages = 16): void {
  for (let page = 0; page < pages; page++) {
    stage1.map(IOVA + page * 4096, NEW + page * 4096, PAGE_RW);
  }
  rig.command(0x30n);
}

describe("address translation services", () => {
  it("translate once, then use the function's own cache", () => {
    const { rig, fn } = atsRig();
    expect(where(rig, fn)).toBe(OLD);
    expect(where(rig, fn, IOVA + 8)).toBe(OLD);
    expect(fn.counters).toMatchObject({ translationRequests: 1, cacheHits: 1 });
    expect(fn.cachedTranslations).toBe(1);
  });

  it("give a stale translation after the SMMU's TLB is invalidated, until CMD_ATC_INV", () => {
    const { rig, fn, stage1 } = atsRig();
    expect(where(rig, fn)).toBe(OLD);
    repoint(rig, stage1);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x03n | sid, 1n);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x40n | (0x200n << 32n), 52n);
    expect(where(rig, fn)).toBe(OLD);
    rig.command(0x40n | sid, BigInt(IOVA));
    expect(where(rig, fn)).toBe(NEW);
  });

  it("CMD_ATC_INV is for 2^Size pages around its address, all of them from 52 on", () => {
    const { rig, fn, stage1 } = atsRig();
    const pages = [0, 3, 4, 7, 8, 15];
    const look = (): Array<number | "fault"> => pages.map((page) => where(rig, fn, IOVA + page * 4096));
    expect(look()).toEqual(pages.map(() => OLD));
    repoint(rig, stage1);
    rig.command(0x40n | sid, BigInt(IOVA + 0x4000) | 2n);
    expect(look()).toEqual([OLD, OLD, NEW, NEW, OLD, OLD]);
    rig.command(0x40n | sid, BigInt(IOVA + 0x8000) | 0n);
    expect(look()).toEqual([OLD, OLD, NEW, NEW, NEW, OLD]);
    rig.command(0x40n | sid, 52n);
    expect(look()).toEqual(pages.map(() => NEW));
  });

  it("a block's translation goes with any page of it, and with ranges beyond 4 GiB", () => {
    const { rig, fn, stage1 } = atsRig();
    stage1.mapBlock(0x1_4000_0000, OLD, PAGE_RW);
    const high = (): number => {
      expect(rig.dma(fn, { operation: 3, target: 0x1_4000_0000n + 0x1000n, length: 4, control: ATS }).status).toBe(2);
      return fn.counters.translationRequests;
    };
    expect(high()).toBe(1);
    expect(high()).toBe(1);
    rig.command(0x40n | sid, 0x4000_0000n | 1n);
    expect(high()).toBe(1);
    rig.command(0x40n | sid, 0x1_0000_0000n | 20n);
    expect(high()).toBe(2);
    rig.command(0x40n | sid, 0x1_4000_1000n);
    expect(high()).toBe(3);
  });

  it("keep PASIDs apart: one, all of them, or everything", () => {
    const { rig, fn, stage1, stage2 } = atsRig();
    const contexts = rig.guestTable();
    for (const pasid of [0, 1, 2]) {
      rig.writeCd(contexts + pasid * 64, stage1.root, 5 + pasid);
    }
    rig.install(fn, rig.nestedSte(contexts, 1, stage2, { eats: 1, cdMax: 2, s1dss: 2 }));
    const look = (): Array<number | "fault"> => [undefined, 1, 2].map((pasid) => where(rig, fn, IOVA, pasid));
    expect(look()).toEqual([OLD, OLD, OLD]);
    repoint(rig, stage1);
    rig.command(0x40n | SSV | (1n << 12n) | sid, BigInt(IOVA));
    expect(look()).toEqual([OLD, NEW, OLD]);
    rig.command(0x40n | SSV | GLOBAL | sid, BigInt(IOVA));
    expect(look()).toEqual([OLD, NEW, NEW]);
    stage1.map(IOVA, OLD, PAGE_RW);
    rig.command(0x30n);
    expect(look()).toEqual([OLD, NEW, NEW]);
    // Without a PASID the request concerns every entry of the range.
    rig.command(0x40n | sid, BigInt(IOVA));
    expect(look()).toEqual([OLD, OLD, OLD]);
  });

  it("forget on reset and when ATS is switched", () => {
    const { rig, fn } = atsRig();
    where(rig, fn);
    fn.enableAts(true);
    expect(fn.cachedTranslations).toBe(0);
    where(rig, fn);
    fn.configWrite(0x100 + 6, 2, 0);
    expect(fn.cachedTranslations).toBe(0);
    expect(where(rig, fn)).toBe("fault");
    fn.enableAts(true);
    where(rig, fn);
    fn.reset();
    expect(fn.cachedTranslations).toBe(0);
  });

  it("are not told about pages without permission: no event, and the access ends at the function", () => {
    const { rig, fn, stage1 } = atsRig();
    stage1.map(IOVA, OLD, PAGE_RO);
    expect(where(rig, fn)).toBe("fault");
    expect(where(rig, fn, IOVA + 0x10_0000)).toBe("fault");
    expect(rig.events).toEqual([]);
    expect(rig.dma(fn, { operation: 1, source: BigInt(IOVA), length: 4, control: ATS }).status).toBe(2);
    expect(fn.counters.faults).toBe(2);
  });

  it("are refused with F_BAD_ATS_TREQ where the entry has EATS = 0, Translated accesses with F_TRANSL_FORBIDDEN", () => {
    const { rig, fn, stage2, cd } = atsRig(0);
    expect(where(rig, fn)).toBe("fault");
    expect(rig.events.map((event) => event[0] & 0xff)).toEqual([0x05]);
    rig.install(fn, rig.nestedSte(cd, 1, stage2, EATS_ENABLED));
    expect(where(rig, fn)).toBe(OLD);
    // The function still has its translation when the entry takes ATS away.
    rig.install(fn, rig.nestedSte(cd, 1, stage2, { eats: 0 }));
    expect(where(rig, fn)).toBe("fault");
    expect(rig.events.map((event) => event[0] & 0xff)).toEqual([0x05, 0x07]);
  });

  it("split-stage (EATS = 2) answers with IPAs; Translated accesses still go through stage 2", () => {
    const { rig, fn, stage2 } = atsRig(2);
    expect(where(rig, fn)).toBe(OLD);
    stage2.map(OLD, rig.hpa(NEW), 0x7ffn);
    rig.command(0x28n | (1n << 32n));
    expect(where(rig, fn)).toBe(NEW);
    expect(fn.counters.translationRequests).toBe(1);
  });

  it("CMD_SYNC fails with CERROR_ATC_INV_SYNC, once, when the function did not answer", () => {
    const { rig, fn } = atsRig();
    fn.answersInvalidations = false;
    expect(rig.command(0x40n | sid, 52n)).toBe(0);
    expect(rig.command(0x46n)).toBe(3);
    expect(rig.command(0x46n)).toBe(0);
  });

  it("do not exist where the SMMU has none: CMD_ATC_INV is illegal", () => {
    const input = hostInput();
    const smmus = [{ ...input.smmus[0], idr0: "0x0d4c701b" }];
    const { rig } = nestedRig({ input: { ...input, smmus, functions: input.functions.map((fn) => ({ ...fn, ats: false })) } });
    expect(rig.command(0x40n | sid, 52n)).toBe(1);
    rig.fn().enableAts(true);
    expect(rig.dma(rig.fn(), { operation: 3, target: BigInt(IOVA), length: 4, control: ATS }).status).toBe(0xa);
  });
});

describe("the cache of a function", () => {
  const READ = 1;
  const at = (cache: DeviceTranslationCache, low: number, privileged = false): number | null =>
    cache.lookup(NO_PASID, 1, low, READ, privileged) === ATC_HIT ? cache.outLow : null;

  it("loses a large translation with any page of it", () => {
    const cache = new DeviceTranslationCache();
    cache.insert(NO_PASID, 1, 0x4020_5000, 21, 0, 0x8060_5000, READ, false);
    expect(at(cache, 0x4021_2345)).toBe(0x8061_2345 | 0);
    cache.invalidate(NO_PASID, false, 1, 0x4040_0000, 12);
    cache.invalidate(NO_PASID, false, 2, 0x4021_0000, 12);
    expect(at(cache, 0x4021_2345)).not.toBeNull();
    cache.invalidate(NO_PASID, false, 1, 0x403f_f000, 12);
    expect(at(cache, 0x4021_2345)).toBeNull();
  });

  it("keeps privileged and unprivileged translations apart", () => {
    const cache = new DeviceTranslationCache();
    cache.insert(NO_PASID, 1, 0x5000, 12, 0, 0x9000, READ, true);
    expect([at(cache, 0x5004), at(cache, 0x5004, true)]).toEqual([null, 0x9004]);
  });
});
