import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HwptAllocFlags, OptionId, type Iommufd } from "../../../src/iommufd/index.js";
import { A, bind, Engine, errno, makeHost, map } from "./rig.js";

const NONE = new Uint8Array(0);
const U64_MAX = (1n << 64n) - 1n;

let host: SimulatedHost;
let iommufd: Iommufd;
let ioas: number;
beforeEach(() => {
  host = makeHost();
  iommufd = host.openIommufd();
  ioas = iommufd.ioasAlloc();
});
afterEach(() => host.close());

function parentOf(devId: number, ptId = ioas): number {
  return iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId, dataType: 0, data: NONE });
}

function mapAt(address: number, iova: bigint | null, length: bigint, target = ioas): bigint {
  return iommufd.ioasMap({ ioasId: target, source: { address }, length, iova, readable: true, writable: true });
}

/** The same random numbers in every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

describe("mapping", () => {
  test("needs read or write, a known IOAS, and no wrapping length", () => {
    const ram = host.allocateMemory("ram", 0x10_0000);
    const request = { ioasId: ioas, source: { address: ram.hostAddress }, length: 0x1000n, iova: 0n, readable: false, writable: false };
    expect(errno(() => iommufd.ioasMap(request))).toBe("EINVAL");
    expect(errno(() => iommufd.ioasMap({ ...request, ioasId: 99, readable: true }))).toBe("ENOENT");
    expect(errno(() => iommufd.ioasMap({ ...request, length: U64_MAX, readable: true }))).toBe("EOVERFLOW");
    expect(errno(() => iommufd.ioasMap({ ...request, iova: U64_MAX, readable: true }))).toBe("EOVERFLOW");
  });

  test("may name memory that is not there until a table needs its pages", () => {
    const { device, devId } = bind(host, iommufd, A);
    expect(mapAt(0x1000, 0x1000n, 0x1000n)).toBe(0x1000n);
    expect(errno(() => parentOf(devId))).toBe("EFAULT");
    expect(errno(() => device.attach(ioas))).toBe("EFAULT");
    iommufd.ioasUnmap(ioas, 0x1000n, 0x1000n);
    parentOf(devId);
    expect(errno(() => mapAt(0x1000, 0x1000n, 0x1000n))).toBe("EFAULT");
    const ram = host.allocateMemory("ram", 0x10_0000);
    expect(errno(() => mapAt(ram.hostAddress + 0xf_f000, 0x1000n, 0x2000n)), "past its end").toBe("EFAULT");
    expect(mapAt(ram.hostAddress + 0xf_f000, 0x1000n, 0x1000n)).toBe(0x1000n);
  });

  test("is aligned to pages once a table has it, and a table refuses what is not", () => {
    const { devId } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x10_0000);
    expect(iommufd.ioasIovaRanges(ioas)).toEqual({ ranges: [{ start: 0n, last: U64_MAX }], alignment: 1n });
    mapAt(ram.hostAddress + 0x10, 0x5010n, 0x20n);
    expect(errno(() => parentOf(devId))).toBe("EADDRINUSE");
    expect(iommufd.ioasUnmap(ioas, 0x5000n, 0x1000n)).toBe(0x20n);
    parentOf(devId);
    expect(errno(() => mapAt(ram.hostAddress, 0x5800n, 0x1000n))).toBe("EINVAL");
    expect(errno(() => mapAt(ram.hostAddress + 0x800, 0x5000n, 0x1000n))).toBe("EINVAL");
    expect(errno(() => mapAt(ram.hostAddress, 0x5000n, 0x800n))).toBe("EINVAL");
  });

  test("a table is refused where something is mapped beyond what it translates", () => {
    const { devId } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x10_0000);
    mapAt(ram.hostAddress, 1n << 44n, 0x1000n);
    expect(errno(() => parentOf(devId))).toBe("EADDRINUSE");
    expect(iommufd.ioasIovaRanges(ioas).ranges, "nothing is left of the attempt").toEqual([{ start: 0n, last: U64_MAX }]);
  });

  test("a function is refused where its MSI window is mapped or promised", () => {
    const { device } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x10_0000);
    mapAt(ram.hostAddress, 0x800_0000n, 0x1000n);
    expect(errno(() => device.attach(ioas))).toBe("EADDRINUSE");
    iommufd.ioasUnmap(ioas, 0n, U64_MAX);
    iommufd.ioasAllowIovas(ioas, [{ start: 0x700_0000n, last: 0x8ff_ffffn }]);
    expect(errno(() => device.attach(ioas))).toBe("EADDRINUSE");
    iommufd.ioasAllowIovas(ioas, [{ start: 0n, last: 0x7ff_ffffn }]);
    device.attach(ioas);
    expect(errno(() => iommufd.ioasAllowIovas(ioas, [{ start: 0n, last: 0x800_0000n }]))).toBe("EADDRINUSE");
    expect(errno(() => iommufd.ioasAllowIovas(ioas, [{ start: 5n, last: 5n }]))).toBe("EINVAL");
    expect(errno(() => iommufd.ioasAllowIovas(ioas, [{ start: 0n, last: 9n }, { start: 9n, last: 12n }]))).toBe("EINVAL");
  });

  test("without a fixed IOVA goes to the lowest free place in the allowed ranges, aligned as the memory is", () => {
    const ram = host.allocateMemory("ram", 0x40_0000);
    expect(mapAt(ram.hostAddress, null, 0x40_0000n)).toBe(0x40_0000n);
    expect(mapAt(ram.hostAddress + 0x1000, null, 0x1000n), "never 0").toBe(0x1000n);
    expect(mapAt(ram.hostAddress + 0x1000, null, 0x10_0000n)).toBe(0x2000n);
    iommufd.ioasAllowIovas(ioas, [{ start: 0x10_0000n, last: 0x1f_ffffn }, { start: 0x9000_0000n, last: 0x9fff_ffffn }]);
    expect(mapAt(ram.hostAddress, null, 0x10_0000n)).toBe(0x9000_0000n);
    expect(errno(() => mapAt(ram.hostAddress, null, 0x1000_0000n))).toBe("ENOSPC");
    expect(errno(() => mapAt(ram.hostAddress, null, U64_MAX / 2n))).toBe("EOVERFLOW");
  });

  test("random maps and unmaps agree with a list of mappings", () => {
    const next = random(7);
    const { devId } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x40_0000);
    parentOf(devId);
    let model: Array<{ start: number; length: number }> = [];
    for (let step = 0; step < 600; step++) {
      const start = next(256) * 0x1000;
      const length = (1 + next(24)) * 0x1000;
      const inside = model.filter((m) => m.start < start + length && start < m.start + m.length);
      if (next(2) === 0) {
        expect(errno(() => map(iommufd, ioas, ram, start, length))).toBe(inside.length > 0 ? "EEXIST" : "ok");
        if (inside.length === 0) {
          model.push({ start, length });
        }
      } else {
        inside.sort((x, y) => x.start - y.start);
        const cut = inside.find((m) => m.start < start || m.start + m.length > start + length);
        const whole = inside.slice(0, cut === undefined ? inside.length : inside.indexOf(cut));
        const expected = inside.length === 0 || cut !== undefined ? "ENOENT" : "ok";
        expect(errno(() => iommufd.ioasUnmap(ioas, BigInt(start), BigInt(length)))).toBe(expected);
        model = model.filter((m) => !whole.includes(m));
      }
    }
    expect(iommufd.ioasUnmap(ioas, 0n, U64_MAX)).toBe(BigInt(model.reduce((sum, m) => sum + m.length, 0)));
  });
});

describe("unmapping", () => {
  test("of a part of a mapping is refused, and of a range that wraps", () => {
    const ram = host.allocateMemory("ram", 0x10_0000);
    map(iommufd, ioas, ram, 0x1000_0000);
    expect(errno(() => iommufd.ioasUnmap(ioas, 0x1000_0000n, 0x1000n))).toBe("ENOENT");
    expect(errno(() => iommufd.ioasUnmap(ioas, 0x1000_0000n, 0n))).toBe("EINVAL");
    expect(errno(() => iommufd.ioasUnmap(ioas, 0x1000n, U64_MAX - 1n))).toBe("EOVERFLOW");
    expect(errno(() => iommufd.ioasUnmap(99, 0n, U64_MAX))).toBe("ENOENT");
  });
});

test("unmapping gives back the tables that are empty then", () => {
  const { device } = bind(host, iommufd, A);
  device.attach(ioas);
  const ram = host.allocateMemory("ram", 0x10_0000);
  const pages = host.hardware.memory.livePages;
  for (let i = 0; i < 8; i++) {
    mapAt(ram.hostAddress, BigInt(i) * 0x4000_0000n + 0x1_0000_0000n, 0x1000n);
  }
  expect(host.hardware.memory.livePages, "one of level 1, eight each of the levels 2 and 3").toBe(pages + 17);
  for (let i = 0; i < 8; i++) {
    iommufd.ioasUnmap(ioas, BigInt(i) * 0x4000_0000n + 0x1_0000_0000n, 0x1000n);
  }
  expect(host.hardware.memory.livePages).toBe(pages);
});

describe("copying", () => {
  test("maps the same pages elsewhere, across neighbours, and not through holes", () => {
    const { device, devId } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x20_0000);
    map(iommufd, ioas, ram, 0x1000_0000, 0x10_0000);
    map(iommufd, ioas, ram, 0x1010_0000, 0x10_0000, 0x10_0000);
    const target = iommufd.ioasAlloc();
    const request = { dstIoasId: target, srcIoasId: ioas, length: 0x2000n, srcIova: 0x100f_f000n, dstIova: 0x5000n, readable: true, writable: true };
    expect(errno(() => iommufd.ioasCopy({ ...request, length: 0x20_0000n }))).toBe("ENOENT");
    expect(iommufd.ioasCopy(request)).toBe(0x5000n);
    expect(errno(() => iommufd.ioasCopy(request))).toBe("EEXIST");
    expect(errno(() => iommufd.ioasCopy({ ...request, srcIoasId: 99 }))).toBe("ENOENT");
    const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: target, dataType: 0, data: NONE });
    device.attach(parent);
    const engine = new Engine(device);
    expect(engine.write(0x5ffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    const out = new Uint8Array(4);
    ram.read(0xf_fffe, out);
    expect([...out]).toEqual([1, 2, 3, 4]);
  });

  test("gives no writing where the source has none", () => {
    const ram = host.allocateMemory("ram", 0x10_0000);
    iommufd.ioasMap({ ioasId: ioas, source: { address: ram.hostAddress }, length: 0x1000n, iova: 0x1000n, readable: true, writable: false });
    const target = iommufd.ioasAlloc();
    const request = { dstIoasId: target, srcIoasId: ioas, length: 0x1000n, srcIova: 0x1000n, dstIova: null, readable: true, writable: true };
    // Linux keeps whether the pages were asked for as writable.
    expect(errno(() => iommufd.ioasCopy(request))).toBe("EPERM");
    expect(iommufd.ioasCopy({ ...request, writable: false })).toBe(0x1000n);
  });
});

describe("what a function reaches", () => {
  test("is what is mapped with the right access, in every table of the IOAS, from the moment it is mapped", () => {
    const { device, devId } = bind(host, iommufd, A);
    const engine = new Engine(device);
    const ram = host.allocateMemory("ram", 0x40_0000);
    const parent = parentOf(devId);
    iommufd.ioasMap({ ioasId: ioas, source: { address: ram.hostAddress }, length: 0x1000n, iova: 0x1000n, readable: true, writable: false });
    iommufd.ioasMap({ ioasId: ioas, source: { address: ram.hostAddress }, length: 0x1000n, iova: 0x2000n, readable: false, writable: true });
    for (const ptId of [parent, ioas]) {
      device.attach(ptId);
      expect(engine.read(0x1000, 4)).not.toBeNull();
      expect(engine.write(0x1000, Uint8Array.of(1))).toBe(false);
      expect(engine.write(0x2000, Uint8Array.of(9))).toBe(true);
      expect(engine.read(0x3000, 4)).toBeNull();
    }
    // Stage 2 has write-only pages, VMSAv8-64 stage 1 has none.
    device.attach(parent);
    expect(engine.read(0x2000, 4)).toBeNull();
    device.attach(ioas);
    map(iommufd, ioas, ram, 0x10_0000, 0x20_0000, 0x20_0000);
    expect(engine.read(0x1f_0000, 4)).not.toBeNull();
    iommufd.ioasUnmap(ioas, 0x10_0000n, 0x20_0000n);
    expect(engine.read(0x1f_0000, 4), "the TLB is invalidated").toBeNull();
  });

  test("stays the memory's until it is unmapped, though the process has freed it", () => {
    const { device, devId } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x10_0000);
    map(iommufd, ioas, ram, 0x10_0000);
    device.attach(parentOf(devId));
    const before = host.hardware.memory.liveBlocks;
    host.freeMemory(ram);
    expect(host.hardware.memory.liveBlocks).toBe(before);
    expect(new Engine(device).write(0x10_0000, Uint8Array.of(1))).toBe(true);
    iommufd.ioasUnmap(ioas, 0x10_0000n, 0x10_0000n);
    expect(host.hardware.memory.liveBlocks).toBe(before - 1);
    expect(errno(() => mapAt(ram.hostAddress, 0x10_0000n, 0x1000n))).toBe("EFAULT");
  });
});

describe("options", () => {
  test("huge pages are per IOAS and fixed once tables map something; accounting is per iommufd", () => {
    const { devId } = bind(host, iommufd, A);
    const ram = host.allocateMemory("ram", 0x20_0000);
    expect(iommufd.option(OptionId.HUGE_PAGES, "get", ioas, 0n)).toBe(1n);
    expect(errno(() => iommufd.option(OptionId.HUGE_PAGES, "set", ioas, 2n))).toBe("EINVAL");
    expect(errno(() => iommufd.option(OptionId.HUGE_PAGES, "set", 99, 0n))).toBe("ENOENT");
    const pages = host.hardware.memory.livePages;
    iommufd.option(OptionId.HUGE_PAGES, "set", ioas, 0n);
    expect(iommufd.ioasIovaRanges(ioas).alignment).toBe(4096n);
    map(iommufd, ioas, ram, 0x4000_0000);
    parentOf(devId);
    // Level 0, and one table of each of the levels 1 to 3, where a block would have saved the last.
    expect(host.hardware.memory.livePages - pages).toBe(4);
    expect(errno(() => iommufd.option(OptionId.HUGE_PAGES, "set", ioas, 1n))).toBe("ok");
    expect(errno(() => iommufd.option(OptionId.HUGE_PAGES, "set", ioas, 0n))).toBe("EINVAL");
    expect(errno(() => iommufd.option(OptionId.RLIMIT_MODE, "set", 0, 1n))).toBe("EBUSY");
    const empty = host.openIommufd();
    expect(empty.option(OptionId.RLIMIT_MODE, "set", 0, 1n)).toBe(1n);
    expect(empty.option(OptionId.RLIMIT_MODE, "get", 0, 0n)).toBe(1n);
    expect(errno(() => empty.option(OptionId.RLIMIT_MODE, "get", 5, 0n))).toBe("EOPNOTSUPP");
    expect(errno(() => empty.option(9, "get", 0, 0n))).toBe("EOPNOTSUPP");
  });
});
