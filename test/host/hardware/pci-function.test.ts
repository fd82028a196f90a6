import { describe, expect, it } from "vitest";
import { VfioRegion } from "../../../src/iommufd/index.js";
import { ENGINE } from "../../../src/host/simulated/hardware/index.js";
import { hostInput, nestedRig, register, Rig, setRegister, ste } from "./rig.js";

const DONE = 2;
const FAULT = 4;
const BAD = 8;

/** A rig whose first function's DMA is not translated: addresses are host-physical. */
function bypassRig(): { rig: Rig; fn: ReturnType<Rig["fn"]>; base: bigint } {
  const rig = new Rig();
  const fn = rig.fn();
  rig.install(fn, ste(0x9n, 1n << 44n));
  return { rig, fn, base: BigInt(rig.ram.hostAddress) };
}

describe("configuration space", () => {
  it("has the description's ids and a type-0 header", () => {
    const fn = new Rig().fn();
    expect(fn.configRead(0, 4)).toBe(0x5678_1234);
    expect(fn.configRead(8, 4)).toBe(0x0200_0000);
    expect(fn.configRead(0x0e, 1)).toBe(0);
    fn.configWrite(0, 4, 0);
    expect(fn.configRead(0, 4)).toBe(0x5678_1234);
    expect(fn.configRead(0x1000, 4)).toBe(0xffff_ffff);
  });

  it("tells the sizes of BARs: bits below the size are zero, type bits stay", () => {
    const input = hostInput();
    const bars = [
      { index: 0, size: "1M", is64: false },
      { index: 2, size: "128G", prefetchable: true },
      { index: 4, size: "64K" },
    ];
    const rig = new Rig({ ...input, functions: [{ ...input.functions[0], bars }] });
    const fn = rig.fn();
    const sizes = [0, 1, 2, 3, 4, 5].map((bar) => {
      fn.configWrite(0x10 + 4 * bar, 4, 0xffff_ffff);
      return fn.configRead(0x10 + 4 * bar, 4);
    });
    expect(sizes).toEqual([0xfff0_0000, 0, 0x0000_000c, 0xffff_ffe0, 0xffff_0004, 0xffff_ffff]);
    expect([0, 1, 2, 3, 4, 5, 6, 7, 8].map((index) => fn.regionInfo(index).size)).toEqual([2 ** 20, 0, 2 ** 37, 0, 65536, 0, 0, 4096, 0]);
  });

  it("has its capabilities in lists that end, with the widths of the description", () => {
    const fn = new Rig().fn();
    const found = new Map<number, number>();
    for (let at = fn.configRead(0x34, 1); at !== 0; at = fn.configRead(at + 1, 1)) {
      found.set(fn.configRead(at, 1), at);
    }
    expect([...found.keys()]).toEqual([0x01, 0x10, 0x11]);
    expect(fn.configRead(found.get(0x11)! + 2, 2)).toBe(3);
    expect(fn.configRead(found.get(0x11)! + 4, 4)).toBe(0x4000);
    expect(fn.configRead(found.get(0x11)! + 8, 4)).toBe(0x6000);
    expect(fn.configRead(found.get(0x10)! + 2, 2)).toBe(2);
    const extended = new Map<number, number>();
    for (let at = 0x100; at !== 0; at = fn.configRead(at + 2, 2) >> 4) {
      extended.set(fn.configRead(at, 2), at);
    }
    expect([...extended.keys()]).toEqual([0x0f, 0x1b]);
    expect((fn.configRead(extended.get(0x1b)! + 4, 2) >> 8) & 0x1f).toBe(8);
  });

  it("supports the end-to-end TLP prefix that a PASID is, where it has PASIDs: Linux enables them only then", () => {
    const input = hostInput();
    const devcap2 = (pasidBits: number): number => {
      const fn = new Rig({ ...input, functions: [{ ...input.functions[0], pasidBits }] }).fn();
      let at = fn.configRead(0x34, 1);
      while (fn.configRead(at, 1) !== 0x10) {
        at = fn.configRead(at + 1, 1);
      }
      return fn.configRead(at + 0x24, 4);
    };
    expect([devcap2(8) & (1 << 21), devcap2(0)]).toEqual([1 << 21, 0]);
  });

  it("has no extended capability, PASID or ATS where the description gives none", () => {
    const input = hostInput();
    const rig = new Rig({ ...input, functions: [{ ...input.functions[0], ats: false, pasidBits: 0, msixVectors: 0 }] });
    const fn = rig.fn();
    expect(fn.configRead(0x100, 4)).toBe(0);
    fn.enableAts(true);
    fn.enablePasid(true);
    expect([fn.atsEnabled, fn.pasidEnabled, register(fn, ENGINE.FEATURES)]).toEqual([false, false, 0]);
    expect(() => fn.setMsi(0, null)).toThrow(RangeError);
  });

  it("resets by Device Control, and loses decoding in D3hot", () => {
    const { fn } = bypassRig();
    fn.enableAts(true);
    setRegister(fn, ENGINE.PATTERN, 5);
    expect(register(fn, ENGINE.FEATURES)).toBe(3);
    fn.configWrite(0x44, 2, 3);
    expect(register(fn, ENGINE.ID)).toBe(-1);
    fn.configWrite(0x44, 2, 0);
    expect(register(fn, ENGINE.ID)).toBe(0x4d4d_4f49);
    expect(register(fn, ENGINE.PATTERN)).toBe(5);
    fn.configWrite(0x68, 2, 0x8000);
    expect(fn.configRead(0x04, 2)).toBe(0);
    expect(register(fn, ENGINE.ID)).toBe(-1);
    fn.configWrite(0x04, 2, 2);
    expect([register(fn, ENGINE.PATTERN), register(fn, ENGINE.FEATURES)]).toEqual([0, 0]);
  });

  it("is also the VFIO region of that name", () => {
    const fn = new Rig().fn();
    const out = new Uint8Array(4);
    fn.regionRead(VfioRegion.CONFIG, 0, out);
    expect(out).toEqual(Uint8Array.of(0x34, 0x12, 0x78, 0x56));
    fn.regionWrite(VfioRegion.CONFIG, 0x3c, Uint8Array.of(0x2a));
    expect(fn.configRead(0x3c, 1)).toBe(0x2a);
  });
});

describe("the DMA engine", () => {
  it("copies, reads, writes and fills, across pages", () => {
    const { rig, fn, base } = bypassRig();
    const data = Uint8Array.from({ length: 10_000 }, (_unused, i) => i * 7);
    rig.ram.write(100, data);
    expect(rig.dma(fn, { operation: 0, source: base + 100n, target: base + 0x8003n, length: 10_000 })).toEqual({ status: DONE, fault: 0n, bytes: 10_000 });
    const copy = new Uint8Array(10_000);
    rig.ram.read(0x8003, copy);
    expect(copy).toEqual(data);
    expect(rig.dma(fn, { operation: 1, source: base + 100n, length: 10_000 }).status).toBe(DONE);
    const buffer = new Uint8Array(10_000);
    fn.regionRead(0, ENGINE.BUFFER, buffer);
    expect(buffer).toEqual(data);
    fn.regionWrite(0, ENGINE.BUFFER + 1, Uint8Array.of(0xee));
    expect(rig.dma(fn, { operation: 2, target: base + 0x1_0000n, length: 5 }).status).toBe(DONE);
    rig.ram.read(0x1_0000, copy.subarray(0, 6));
    expect([...copy.subarray(0, 6)]).toEqual([0, 0xee, 14, 21, 28, 0]);
    expect(rig.dma(fn, { operation: 3, target: base + 0x1_0ffen, length: 7, pattern: 0x0403_0201 }).status).toBe(DONE);
    rig.ram.read(0x1_0ffe, copy.subarray(0, 8));
    expect([...copy.subarray(0, 8)]).toEqual([1, 2, 3, 4, 1, 2, 3, 0]);
  });

  it("is bounded: 1 MiB, the buffer's 32 KiB, the end of the address space", () => {
    const { rig, fn, base } = bypassRig();
    expect(rig.dma(fn, { operation: 3, target: base, length: 0x10_0000 })).toEqual({ status: DONE, fault: 0n, bytes: 0x10_0000 });
    expect(rig.dma(fn, { operation: 3, target: base, length: 0x10_0001 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { operation: 3, target: base, length: -1 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { operation: 1, source: base, length: 0x8000 }).status).toBe(DONE);
    expect(rig.dma(fn, { operation: 1, source: base, length: 0x8001 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { operation: 2, target: base, length: 0x8001 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { operation: 3, target: 2n ** 64n - 0x1000n, length: 0x1001 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { operation: 3, target: 2n ** 64n - 0x1000n, length: 0x1000 })).toEqual({
      status: DONE | FAULT,
      fault: 2n ** 64n - 0x1000n,
      bytes: 0,
    });
    expect(rig.dma(fn, { operation: 3, target: base, length: 0 })).toEqual({ status: DONE, fault: 0n, bytes: 0 });
    expect(rig.dma(fn, { operation: 0, source: base, target: base + 0x10n, length: 64 }).status).toBe(DONE);
  });

  it("carries over into the high word of an address", () => {
    const { rig, fn } = nestedRig();
    rig.smmu.onEvent(() => {});
    expect(rig.dma(fn, { operation: 3, target: 0xffff_fff0n, length: 0x20 }).fault).toBe(0xffff_fff0n);
    expect(rig.events[0].slice(4, 6)).toEqual(Int32Array.of(-16, 0));
    const { rig: bypass, fn: other } = bypassRig();
    bypass.smmu.counters.transactions = 0;
    expect(bypass.dma(other, { operation: 3, target: 0x1_0000_0000n - 4n, length: 8 }).fault).toBe(0x1_0000_0000n - 4n);
  });

  it("needs bus mastering, and what a request's attributes need", () => {
    const { rig, fn, base } = bypassRig();
    const request = { operation: 3, target: base, length: 4 } as const;
    expect(rig.dma(fn, { ...request, control: 0x10 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { ...request, control: 0x20 }).status).toBe(DONE | BAD);
    expect(rig.dma(fn, { ...request, pasid: 256 }).status).toBe(DONE | BAD);
    fn.enablePasid(false);
    expect(rig.dma(fn, { ...request, pasid: 1 }).status).toBe(DONE | BAD);
    fn.configWrite(0x04, 2, 0x0002);
    expect(rig.dma(fn, request).status).toBe(DONE | BAD);
    fn.configWrite(0x04, 2, 0x0006);
    expect(rig.dma(fn, request).status).toBe(DONE);
    expect(fn.counters.transactions).toBe(1);
  });

  it("executes and is privileged with a PASID: what the page allows", () => {
    const { rig, fn, stage1, stage2 } = nestedRig();
    const contexts = rig.guestTable();
    rig.writeCd(contexts + 64, stage1.root, 6);
    rig.install(fn, rig.nestedSte(contexts, 1, stage2, { cdMax: 4 }));
    const read = (control: number): number => rig.dma(fn, { operation: 1, source: 0x1000_0000n, length: 4, pasid: 1, control }).status;
    // The page has UXN, and PXN clear; EL0 may write it, so that EL1 may not execute it either.
    expect(read(0)).toBe(DONE);
    expect(read(0x20)).toBe(DONE);
    expect(read(0x40)).toBe(DONE | FAULT);
    // EL1-only page (AP 00), executable by EL1: PXN clear.
    stage1.map(0x1000_0000, 0x4080_0000, 0xf03n | (1n << 54n));
    rig.flush();
    expect(read(0)).toBe(DONE | FAULT);
    expect(read(0x20)).toBe(DONE);
    expect(read(0x60)).toBe(DONE);
  });

  it("clears status by writing ones, and ignores accesses that are no whole words", () => {
    const { rig, fn, base } = bypassRig();
    rig.dma(fn, { operation: 3, target: base, length: 0x10_0001 });
    setRegister(fn, ENGINE.STATUS, 2);
    expect(register(fn, ENGINE.STATUS)).toBe(BAD);
    setRegister(fn, ENGINE.STATUS, -1);
    expect(register(fn, ENGINE.STATUS)).toBe(0);
    fn.regionWrite(0, ENGINE.PATTERN, Uint8Array.of(1, 2));
    expect(register(fn, ENGINE.PATTERN)).toBe(0);
    setRegister(fn, ENGINE.ID, 0);
    expect(register(fn, ENGINE.ID)).toBe(0x4d4d_4f49);
    fn.regionWrite(0, 0xfffe, new Uint8Array(4));
    const out = new Uint8Array(4);
    fn.regionRead(0, 0xfffe, out);
    expect(out).toEqual(Uint8Array.of(255, 255, 255, 255));
  });

  it("withstands any writes to its BAR and configuration space", () => {
    const { rig, fn } = nestedRig();
    let state = 0x1234_5678;
    const next = (): number => {
      state = Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9;
      return state >>> 0;
    };
    for (let i = 0; i < 5000; i++) {
      const choice = next() % 4;
      const value = next() % 3 === 0 ? next() : next() % 0x2000;
      if (choice === 0) {
        fn.configWrite(next() % 4096, [1, 2, 4][next() % 3], value);
      } else if (choice === 1) {
        fn.configWrite(0x04, 2, 6);
        fn.configWrite(0x44, 2, 0);
      } else {
        fn.regionWrite(0, (next() % 16) * 4, new Uint8Array(Int32Array.of(value).buffer));
      }
    }
    expect(rig.smmu.counters.transactions).toBeGreaterThan(0);
    expect(fn.sourceId).toBe(0x100);
  });
});
