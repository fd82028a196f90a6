import { afterEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HwptAllocFlags, type Iommufd, type InvalidateResult } from "../../../src/iommufd/index.js";
import { CMD, get, getAddress, OP } from "../../../src/smmuv3/spec/index.js";
import { A, B, bind, bytesOf, encodeCommand, invalidate, makeHost, map, SMMU0 } from "./rig.js";

let host: SimulatedHost;
afterEach(() => host.close());

/** The commands that an SMMU gets from now on. */
function watch(): Int32Array[] {
  const smmu = host.hardware.smmus.get(SMMU0)!;
  const seen: Int32Array[] = [];
  const command = smmu.command.bind(smmu);
  smmu.command = (w0, w1, w2, w3) => {
    seen.push(Int32Array.of(w0, w1, w2, w3));
    return command(w0, w1, w2, w3);
  };
  return seen;
}

function setUp(smmu = {}, fn = {}, kernel: "7.2" | "7.3" = "7.3"): { iommufd: Iommufd; ioas: number; aId: number; parent: number; viommu: number } {
  host = makeHost(smmu, fn, kernel);
  const iommufd = host.openIommufd();
  const ioas = iommufd.ioasAlloc();
  const { devId: aId } = bind(host, iommufd, A);
  const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId: aId, ptId: ioas, dataType: 0, data: new Uint8Array(0) });
  return { iommufd, ioas, aId, parent, viommu: iommufd.viommuAlloc({ type: 1, devId: aId, hwptId: parent }) };
}

describe("a guest's commands", () => {
  test("reach the hardware with the parent's VMID and the functions' StreamIDs, in order, with one sync", () => {
    // A command with fields that are not its own, of a guest without substreams: 7.2 takes them.
    const { iommufd, aId, viommu } = setUp({ idr0: 0x0d44_141b }, { ats: true }, "7.2");
    const { devId: bId } = bind(host, iommufd, B);
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: aId, virtId: 0x31n });
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: bId, virtId: 0x32n });
    const seen = watch();
    const result = invalidate(
      iommufd,
      viommu,
      encodeCommand(OP.TLBI_NH_VA, { VMID: 0x77, ASID: 0x12, NUM: 3, SCALE: 2, TG: 1, TTL: 3, LEAF: 1, ADDRESS: 0xffff_1234_5678_9000n }),
      encodeCommand(OP.TLBI_NH_VAA, { VMID: 0x77, ADDRESS: 0x1000 }),
      encodeCommand(OP.TLBI_NH_ASID, { VMID: 0x77, ASID: 0x13 }),
      encodeCommand(OP.TLBI_NH_ALL, { VMID: 0x77 }),
      // Fields that TLBI_NSNH_ALL does not have are not those of the TLBI_NH_ALL that it becomes.
      encodeCommand(OP.TLBI_NH_VA, { VMID: 0x77, ASID: 0x99, ADDRESS: 0x5000 }).map((word, i) => (i === 0 ? (word & ~0xff) | OP.TLBI_NSNH_ALL : word)),
      encodeCommand(OP.CFGI_CD, { SID: 0x31, SSID: 5, LEAF: 1 }),
      encodeCommand(OP.CFGI_CD_ALL, { SID: 0x32 }),
      encodeCommand(OP.ATC_INV, { SID: 0x32, SSV: 1, SSID: 9, GLOBAL: 1, ATC_SIZE: 3, ADDRESS: 0x8000 }),
    );
    expect(result).toEqual({ errno: null, handled: 8 });
    // Function A is StreamID 0x100, B 0x200; the parent has VMID 1 (Linux arm_vsmmu_init).
    expect(seen.map((words) => [...words])).toEqual(
      [
        encodeCommand(OP.TLBI_NH_VA, { VMID: 1, ASID: 0x12, NUM: 3, SCALE: 2, TG: 1, TTL: 3, LEAF: 1, ADDRESS: 0xffff_1234_5678_9000n }),
        encodeCommand(OP.TLBI_NH_VAA, { VMID: 1, ADDRESS: 0x1000 }),
        encodeCommand(OP.TLBI_NH_ASID, { VMID: 1, ASID: 0x13 }),
        encodeCommand(OP.TLBI_NH_ALL, { VMID: 1 }),
        encodeCommand(OP.TLBI_NH_ALL, { VMID: 1 }),
        encodeCommand(OP.CFGI_CD, { SID: 0x100, SSID: 5, LEAF: 1 }),
        encodeCommand(OP.CFGI_CD_ALL, { SID: 0x200 }),
        encodeCommand(OP.ATC_INV, { SID: 0x200, SSV: 1, SSID: 9, GLOBAL: 1, ATC_SIZE: 3, ADDRESS: 0x8000 }),
        encodeCommand(OP.SYNC, {}),
      ].map((words) => [...words]),
    );
  });

  test("are issued in blocks of 63: a refused one leaves those before it in its block unissued, though they are counted", () => {
    const { iommufd, viommu } = setUp();
    const seen = watch();
    const nh = (asid: number): Int32Array => encodeCommand(OP.TLBI_NH_ASID, { ASID: asid });
    const refused = encodeCommand(OP.CFGI_CD, { SID: 1 });
    expect(invalidate(iommufd, viommu, nh(1), nh(2), refused, nh(3))).toEqual({ errno: "EIO", handled: 2 });
    expect(seen).toEqual([]);
    const many = Array.from({ length: 130 }, (_unused, i) => nh(i));
    expect(invalidate(iommufd, viommu, ...many, refused)).toEqual({ errno: "EIO", handled: 130 });
    const opcodes = [...Array<number>(63).fill(OP.TLBI_NH_ASID), OP.SYNC];
    expect(seen.map((words) => get(words, CMD.OPCODE))).toEqual([...opcodes, ...opcodes]);
    expect(get(seen.at(-2)!, CMD.ASID)).toBe(125);
    seen.length = 0;
    expect(invalidate(iommufd, viommu, encodeCommand(OP.PREFETCH_CONFIG, {}))).toEqual({ errno: "EIO", handled: 0 });
    expect(seen).toEqual([]);
  });

  const RANGES = { idr3: 0x1414 };
  const SUBSTREAMS = { idr0: 0x0d44_141b, idr1: 0x0273_0510 };
  test.each([
    ["TG 0 with NUM", RANGES, encodeCommand(OP.TLBI_NH_VA, { NUM: 1 }), false],
    ["TG 0 with SCALE", RANGES, encodeCommand(OP.TLBI_NH_VAA, { SCALE: 1 }), false],
    ["TG 0 with TTL", RANGES, encodeCommand(OP.TLBI_NH_VA, { TTL: 3 }), false],
    ["TG 0 alone", RANGES, encodeCommand(OP.TLBI_NH_VA, { LEAF: 1, VMID: 9, ASID: 0xffff, ADDRESS: 0x1000n }), true],
    ["TG without a range or a level", RANGES, encodeCommand(OP.TLBI_NH_VA, { TG: 1 }), false],
    ["TG with a level", RANGES, encodeCommand(OP.TLBI_NH_VA, { TG: 1, TTL: 3 }), true],
    ["16K with level 1 and a range", RANGES, encodeCommand(OP.TLBI_NH_VA, { TG: 2, TTL: 1, NUM: 1 }), false],
    ["16K with level 2", RANGES, encodeCommand(OP.TLBI_NH_VA, { TG: 2, TTL: 2, NUM: 1 }), true],
    ["SCALE[5]", RANGES, encodeCommand(OP.TLBI_NH_VA, { TG: 1, TTL: 3, SCALE: 33 }), false],
    ["a range without RIL", { idr3: 0x1014 }, encodeCommand(OP.TLBI_NH_VA, { TG: 1, TTL: 3 }), false],
    ["an ASID of more than 8 bits without ASID16", { idr0: 0x0d44_001b }, encodeCommand(OP.TLBI_NH_ASID, { ASID: 0x100 }), false],
    ["TLBI_NSNH_ALL with a VMID", {}, encodeCommand(OP.TLBI_NH_ALL, { VMID: 1 }).map((word, i) => (i === 0 ? OP.TLBI_NSNH_ALL : word)), false],
    ["TLBI_NH_ALL with an ASID", {}, encodeCommand(OP.TLBI_NH_ASID, { ASID: 1 }).map((word, i) => (i === 0 ? OP.TLBI_NH_ALL : word)), false],
    ["ATC_INV without ATS", {}, encodeCommand(OP.ATC_INV, { SID: 5 }), false],
    ["ATC_INV, Size 52", SUBSTREAMS, encodeCommand(OP.ATC_INV, { SID: 5, ATC_SIZE: 52 }), true],
    ["ATC_INV, Size 53", SUBSTREAMS, encodeCommand(OP.ATC_INV, { SID: 5, ATC_SIZE: 53 }), false],
    ["ATC_INV, SSV without substreams", { idr0: 0x0d44_141b }, encodeCommand(OP.ATC_INV, { SID: 5, SSV: 1 }), false],
    ["ATC_INV, Global without substreams", { idr0: 0x0d44_141b }, encodeCommand(OP.ATC_INV, { SID: 5, GLOBAL: 1 }), false],
    ["ATC_INV, SSID with substreams and without SSV", SUBSTREAMS, encodeCommand(OP.ATC_INV, { SID: 5, SSID: 1 }), true],
    ["CFGI_CD, SSID without substreams", {}, encodeCommand(OP.CFGI_CD, { SID: 5, SSID: 1 }), false],
    ["CFGI_CD, SSID with substreams", SUBSTREAMS, encodeCommand(OP.CFGI_CD, { SID: 5, SSID: 1 }), true],
    ["CFGI_CD_ALL, SSEC", {}, encodeCommand(OP.CFGI_CD_ALL, { SID: 5, SSEC: 1 }), false],
  ])("%s: Linux 7.2 takes it, 7.3 judges it by the SMMU's ID registers", (_what, smmu, command, good) => {
    for (const kernel of ["7.2", "7.3"] as const) {
      const { iommufd, aId, viommu } = setUp(smmu, {}, kernel);
      iommufd.vdeviceAlloc({ viommuId: viommu, devId: aId, virtId: 5n });
      expect(invalidate(iommufd, viommu, command).errno, kernel).toBe(good || kernel === "7.2" ? null : "EIO");
      host.close();
    }
  });

  test("are of the right type and length, on an object that has them", () => {
    const { iommufd, viommu, parent, ioas } = setUp();
    const one = bytesOf(encodeCommand(OP.TLBI_NH_ALL, {}));
    const ask = (change: object): InvalidateResult =>
      iommufd.hwptInvalidate({ hwptId: viommu, dataType: 1, entryLength: 16, entryCount: 1, data: one, ...change });
    const padded = new Uint8Array(24);
    padded.set(one);
    expect(ask({ dataType: 0 })).toEqual({ errno: "EINVAL", handled: 0 });
    expect(ask({ entryLength: 0 })).toEqual({ errno: "EINVAL", handled: 0 });
    expect(ask({ entryLength: 24, data: padded })).toEqual({ errno: null, handled: 1 });
    padded[20] = 1;
    expect(ask({ entryLength: 24, data: padded })).toEqual({ errno: "E2BIG", handled: 0 });
    expect(ask({ entryCount: 2 })).toEqual({ errno: "EFAULT", handled: 0 });
    expect(ask({ hwptId: parent })).toEqual({ errno: "EINVAL", handled: 0 });
    expect(ask({ hwptId: ioas })).toEqual({ errno: "EINVAL", handled: 0 });
  });
});

describe("unmapping", () => {
  const MIB = 0x10_0000;

  /** Bytes that TLBI_S2_IPA commands of one VMID cover, as runs in order. */
  function covered(seen: Int32Array[], vmid: number): Array<[number, number]> {
    const runs = seen
      .filter((words) => get(words, CMD.OPCODE) === OP.TLBI_S2_IPA && get(words, CMD.VMID) === vmid)
      .map((words): [number, number] => {
        const at = getAddress(words, CMD.ADDRESS);
        const pages = get(words, CMD.TG) === 0 ? 1 : (get(words, CMD.NUM) + 1) * 2 ** get(words, CMD.SCALE);
        return [at, at + pages * 4096];
      });
    const joined: Array<[number, number]> = [];
    for (const run of runs) {
      const last = joined.at(-1);
      if (last !== undefined && last[1] === run[0]) {
        last[1] = run[1];
      } else {
        joined.push(run);
      }
    }
    return joined;
  }

  test.each([
    ["by ranges", 0x1414, 48 * MIB + 0x7000],
    ["by one range", 0x1414, 64 * MIB],
    ["page by page", 0x1014, 0x1_3000],
  ])("invalidates exactly what it unmaps, %s, and the ASIDs of the guests on it", (_how, idr3, length) => {
    const { iommufd, ioas } = setUp({ idr3 });
    const ram = host.allocateMemory("ram", 64 * MIB);
    map(iommufd, ioas, ram, 0x4000_1000, length);
    const seen = watch();
    iommufd.ioasUnmap(ioas, 0x4000_1000n, BigInt(length));
    expect(covered(seen, 1)).toEqual([[0x4000_1000, 0x4000_1000 + length]]);
    expect(seen.some((words) => get(words, CMD.OPCODE) === OP.TLBI_NH_ALL && get(words, CMD.VMID) === 1)).toBe(true);
    expect(get(seen.at(-1)!, CMD.OPCODE)).toBe(OP.SYNC);
    if (idr3 === 0x1414) {
      expect(seen.length).toBeLessThan(12);
    }
  });

  test("of very much without ranges invalidates everything of the VMID", () => {
    const { iommufd, ioas } = setUp({ idr3: 0x1014 });
    const ram = host.allocateMemory("ram", 64 * MIB);
    map(iommufd, ioas, ram, 0x4000_0000);
    const seen = watch();
    iommufd.ioasUnmap(ioas, 0x4000_0000n, BigInt(64 * MIB));
    const all = seen.filter((words) => get(words, CMD.OPCODE) === OP.TLBI_S12_VMALL).map((words) => get(words, CMD.VMID));
    expect(all).toEqual([1]);
    expect(seen.length).toBeLessThan(8);
  });
});
