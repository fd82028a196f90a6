import { afterEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { DIRTY_BITMAP_NO_CLEAR, HwCapabilities, HwptAllocFlags, type Iommufd } from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { A, bind, type Bound, Engine, errno, GuestTables, makeHost, map, nested, putWords } from "./rig.js";

const GPA = 0x4000_0000;
const DATA = Uint8Array.of(1);
const { DIRTY_TRACKING, NEST_PARENT } = HwptAllocFlags;
/** IDR0.HTTU = 2: access flag and dirty state; and ATS. */
const HTTU = { idr0: 0x0d44_149b };

let host: SimulatedHost;
let iommufd: Iommufd;
let ioas: number;
let ram: RamBlock;
let a: Bound;
let engine: Engine;

function start(smmu = {}): void {
  host = makeHost(smmu, { ats: smmu === HTTU });
  iommufd = host.openIommufd();
  ioas = iommufd.ioasAlloc();
  ram = host.allocateMemory("ram", 0x40_0000);
  a = bind(host, iommufd, A);
  engine = new Engine(a.device);
}
afterEach(() => host.close());

function alloc(flags: number): number {
  return iommufd.hwptAlloc({ flags, devId: a.devId, ptId: ioas, dataType: 0, data: new Uint8Array(0) });
}

/** The dirty pages of [iova, iova + length), as offsets in pages. */
function dirty(hwptId: number, iova: number, length: number, flags = 0, pageSize = 4096): number[] {
  const bitmap = new Uint8Array(Math.ceil(length / pageSize / 8));
  iommufd.hwptGetDirtyBitmap({ hwptId, flags, iova: BigInt(iova), length: BigInt(length), pageSize: BigInt(pageSize), bitmap });
  return Array.from({ length: length / pageSize }, (_unused, i) => i).filter((i) => (bitmap[i >> 3] & (1 << (i & 7))) !== 0);
}

describe("dirty tracking", () => {
  test("is offered where the SMMU keeps the dirty state, and refused where it does not", () => {
    start();
    expect(iommufd.getHwInfo(a.devId).capabilities & HwCapabilities.DIRTY_TRACKING).toBe(0);
    expect(errno(() => alloc(DIRTY_TRACKING))).toBe("EOPNOTSUPP");
    host.close();
    start(HTTU);
    expect(iommufd.getHwInfo(a.devId).capabilities & HwCapabilities.DIRTY_TRACKING).toBe(HwCapabilities.DIRTY_TRACKING);
    const without = alloc(NEST_PARENT);
    expect(errno(() => iommufd.hwptSetDirtyTracking(without, true))).toBe("EOPNOTSUPP");
    expect(errno(() => iommufd.hwptSetDirtyTracking(ioas, true))).toBe("ENOENT");
  });

  test.each([
    ["7.2", "EOPNOTSUPP"],
    ["7.3", "EINVAL"],
  ] as const)("of a table without it, a range of length 0: Linux %s answers %s", (kernel, answer) => {
    host = makeHost({}, {}, kernel);
    iommufd = host.openIommufd();
    ioas = iommufd.ioasAlloc();
    a = bind(host, iommufd, A);
    const request = { hwptId: alloc(NEST_PARENT), flags: 0, iova: 0n, length: 0n, pageSize: 4096n, bitmap: new Uint8Array(1) };
    expect(errno(() => iommufd.hwptGetDirtyBitmap(request))).toBe(answer);
  });

  test.each([
    ["a nesting parent", NEST_PARENT | DIRTY_TRACKING],
    ["a plain table", DIRTY_TRACKING],
  ])("of %s undoes no change of a descriptor that comes between its reading and its update", (_name, flags) => {
    start(HTTU);
    map(iommufd, ioas, ram, GPA, 0x10_0000, 0x1000);
    a.device.attach(alloc(flags));
    const { words } = host.hardware.memory;
    const exchange = words.compareExchange64.bind(words);
    const seen: number[] = [];
    words.compareExchange64 = (high, low, ...rest) => {
      if (seen.push(low) === 1) {
        words.store64(high, low, 0, 0);
      }
      return exchange(high, low, ...rest);
    };
    expect(engine.write(GPA + 0x3000, DATA)).toBe(false);
    expect(seen.length).toBe(1);
    expect(engine.write(GPA + 0x3000, DATA), "it stays unmapped").toBe(false);
    expect(engine.write(GPA + 0x4000, DATA), "others are marked").toBe(true);
  });

  test.each([
    ["a nesting parent", NEST_PARENT | DIRTY_TRACKING],
    ["a plain table", DIRTY_TRACKING],
  ])("of %s finds the pages written, once if they are cleared", (_name, flags) => {
    start(HTTU);
    // Pages, not a block: the memory is 4 KiB off.
    map(iommufd, ioas, ram, GPA, 0x10_0000, 0x1000);
    const hwpt = alloc(flags);
    a.device.attach(hwpt);
    engine.write(GPA + 0x3000, DATA);
    iommufd.hwptSetDirtyTracking(hwpt, true);
    expect(dirty(hwpt, GPA, 0x10_0000), "what was before does not count").toEqual([]);
    engine.write(GPA + 0x3000, DATA);
    engine.write(GPA + 0xf_f800, DATA);
    engine.read(GPA + 0x5000, 16);
    expect(dirty(hwpt, GPA, 0x10_0000, DIRTY_BITMAP_NO_CLEAR)).toEqual([3, 255]);
    expect(dirty(hwpt, GPA, 0x10_0000)).toEqual([3, 255]);
    expect(dirty(hwpt, GPA, 0x10_0000)).toEqual([]);
    engine.write(GPA + 0x3000, DATA);
    expect(dirty(hwpt, GPA, 0x10_0000), "no stale translation hides a write").toEqual([3]);
    // Bits of 64 KiB, and a range that begins later; clearing touches that range only.
    engine.write(GPA + 0x3_4000, DATA);
    engine.write(GPA + 0x1000, DATA);
    expect(dirty(hwpt, GPA + 0x1_0000, 0x8_0000, 0, 0x1_0000)).toEqual([2]);
    expect(dirty(hwpt, GPA, 0x10_0000)).toEqual([1]);
    iommufd.hwptSetDirtyTracking(hwpt, false);
  });

  test("marks the whole of a block, leaves read-only memory alone, and new mappings begin clean", () => {
    start(HTTU);
    map(iommufd, ioas, ram, GPA);
    const hwpt = alloc(NEST_PARENT | DIRTY_TRACKING);
    a.device.attach(hwpt);
    iommufd.hwptSetDirtyTracking(hwpt, true);
    engine.write(GPA + 0x20_1000, DATA);
    expect(dirty(hwpt, GPA, 0x40_0000)).toEqual(Array.from({ length: 512 }, (_unused, i) => 512 + i));
    const more = host.allocateMemory("more", 0x10_0000);
    iommufd.ioasMap({ ioasId: ioas, source: { address: more.hostAddress }, length: 0x10_0000n, iova: 0x9000_0000n, readable: true, writable: false });
    expect(engine.write(0x9000_0000, DATA)).toBe(false);
    expect(dirty(hwpt, 0x9000_0000, 0x10_0000)).toEqual([]);
  });

  test("sees what a nested function writes, through its own cache too", () => {
    start(HTTU);
    map(iommufd, ioas, ram, GPA, 0x3f_f000, 0x1000);
    const parent = alloc(NEST_PARENT | DIRTY_TRACKING);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parent });
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    // Guest-physical GPA is offset 0x1000 of the block.
    const tables = new GuestTables(ram, GPA - 0x1000, 0x20_1000);
    putWords(ram, 0x10_1000, tables.context(1));
    tables.map(0x5000, GPA + 0x9000);
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + 0x10_0000, EATS: 1 }));
    iommufd.hwptSetDirtyTracking(parent, true);
    for (const ats of [false, true]) {
      expect(engine.write(0x5000, DATA, { ats })).toBe(true);
      expect(dirty(parent, GPA, 0x3f_f000)).toEqual([9]);
      expect(engine.write(0x5000, DATA, { ats })).toBe(true);
      expect(dirty(parent, GPA, 0x3f_f000)).toEqual([9]);
    }
  });

  test("is asked for ranges of whole pages that are mapped", () => {
    start(HTTU);
    map(iommufd, ioas, ram, GPA, 0x10_0000);
    const hwpt = alloc(DIRTY_TRACKING);
    const ask = (change: object): string =>
      errno(() =>
        iommufd.hwptGetDirtyBitmap({ hwptId: hwpt, flags: 0, iova: BigInt(GPA), length: 0x10_0000n, pageSize: 4096n, bitmap: new Uint8Array(32), ...change }),
      );
    expect(ask({})).toBe("ok");
    expect(ask({ flags: 2 })).toBe("EOPNOTSUPP");
    expect(ask({ hwptId: 99 })).toBe("ENOENT");
    expect(ask({ iova: BigInt(GPA + 8) })).toBe("EINVAL");
    expect(ask({ length: 0x8000n, pageSize: 0x1_0000n })).toBe("EINVAL");
    expect(ask({ pageSize: 0n })).toBe("EINVAL");
    expect(ask({ length: 0x20_0000n, bitmap: new Uint8Array(64) })).toBe("EINVAL");
    expect(ask({ length: 0n })).toBe("EINVAL");
    expect(ask({ iova: (1n << 64n) - 4096n, length: 0x2000n })).toBe("EOVERFLOW");
    expect(ask({ bitmap: new Uint8Array(31) })).toBe("EFAULT");
  });
});
