/**
 * What Linux 7.2.12 and 7.3.4 on an SMMUv3 that nests answered, call by call, in that order: one process per group.
 * What the interface cannot express is left out (an unknown ioctl, and a column of output lengths).
 */
import { afterEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HostError, HwptAllocFlags, HwptDataType, ViommuType, type IovaRange } from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { encodeCommand, OP } from "../../../src/smmuv3/spec/index.js";
import { A, B, bytesOf, makeHost, OTHER, rawNested } from "./rig.js";

type Row = readonly [call: string, answer: string, make: () => unknown];

let host: SimulatedHost;
afterEach(() => host.close());

/** "ok" and what the call returned, where that is text; else the errno. */
function answer(make: () => unknown): string {
  try {
    const result = make();
    return typeof result === "string" ? (result.startsWith("E") ? result : `ok ${result}`) : "ok";
  } catch (error) {
    if (error instanceof HostError) {
      return error.errno;
    }
    throw error;
  }
}

function replay(rows: readonly Row[]): void {
  expect(rows.map(([call, , make]) => `${call} | ${answer(make)}`)).toEqual(rows.map(([call, expected]) => `${call} | ${expected}`));
}

function rangesText(result: { ranges: IovaRange[]; alignment: bigint }): string {
  const ranges = result.ranges.map((r) => `0x${r.start.toString(16)}-0x${r.last.toString(16)}`).join(" ");
  return `${ranges} align=${result.alignment}`;
}

const U64_MAX = (1n << 64n) - 1n;
const NONE = new Uint8Array(0);

/** Answers that differ, by call: 7.2's and 7.3's. */
const DIFFERENT: Readonly<Record<string, readonly [string, string]>> = {
  "INVALIDATE TLBI_NH_VA with SSEC/other reserved bits": ["ok entry_num=1", "EIO entry_num=0"],
};

describe.each(["7.2", "7.3"] as const)("answers of Linux %s", (kernel) => {
  const differing = (call: string): string => DIFFERENT[call][kernel === "7.2" ? 0 : 1];
  test("bind", () => {
    host = makeHost({}, {}, kernel);
    const iommufd = host.openIommufd();
    const device = host.openDevice(A);
    let devId = 0;
    replay([
      ["bind device", "ok dev_id=1", () => `dev_id=${(devId = device.bind(iommufd.fd))}`],
      ["bind the same device through a second fd of its cdev", "EINVAL", () => host.openDevice(A).bind(iommufd.fd)],
      ["bind with a bad iommufd", "EINVAL", () => host.openDevice(B).bind(999)],
      ["GET_HW_INFO data_len 8", "ok out len=40 type=2", () => {
        const info = iommufd.getHwInfo(devId, { dataLength: 8 });
        expect(info.data.length).toBe(8);
        return `out len=${info.dataLength} type=${info.type}`;
      }],
      ["GET_HW_INFO flags=0x80", "EOPNOTSUPP", () => iommufd.getHwInfo(devId, { flags: 0x80 })],
      ["GET_HW_INFO input type TEGRA241_CMDQV where there is none", "EOPNOTSUPP", () => iommufd.getHwInfo(devId, { flags: 1, inputType: 3 })],
      ["IOAS_ALLOC flags=1", "EOPNOTSUPP", () => iommufd.ioasAlloc(1)],
      ["destroy unknown id", "ENOENT", () => iommufd.destroy(77)],
      ["destroy the device id", "EBUSY", () => iommufd.destroy(devId)],
    ]);
  });

  test("ioas", () => {
    host = makeHost({}, {}, kernel);
    const iommufd = host.openIommufd();
    const device = host.openDevice(A);
    const devId = device.bind(iommufd.fd);
    const ram: RamBlock = host.allocateMemory("ram", 0x40_0000);
    const ioas = iommufd.ioasAlloc();
    let hwpt = 0;
    const map = (iova: bigint | null, length = 0x10_0000n, extraFlags = 0): string => {
      const request = { ioasId: ioas, source: { address: ram.hostAddress }, length, iova, readable: true, writable: true, extraFlags };
      return `iova=0x${iommufd.ioasMap(request).toString(16)}`;
    };
    const unmap = (iova: bigint, length: bigint): string => `unmapped=0x${iommufd.ioasUnmap(ioas, iova, length).toString(16)}`;
    expect(map(0x4000_0000n)).toBe("iova=0x40000000");
    replay([
      ["map the same again", "EEXIST", () => map(0x4000_0000n)],
      ["map length 0", "EINVAL", () => map(0x6000_0000n, 0n)],
      ["map misaligned iova", "ok iova=0x50000800", () => map(0x5000_0800n)],
      ["map wrapping the address space", "EOVERFLOW", () => map(0xffff_ffff_ffff_f000n)],
      ["map unknown flag", "EOPNOTSUPP", () => map(0x6000_0000n, 0x10_0000n, 0x80)],
      ["map without fixed iova", "ok iova=0x100000", () => map(null)],
      ["unmap a hole", "ENOENT", () => unmap(0x7000_0000n, 0x10_0000n)],
      ["unmap across mapping and hole", "ok unmapped=0x100000", () => unmap(0x4000_0000n, 0x20_0000n)],
    ]);
    map(0x6000_0000n);
    replay([["unmap exactly", "ok unmapped=0x100000", () => unmap(0x6000_0000n, 0x10_0000n)]]);
    map(0x6000_0000n);
    replay([
      ["unmap all", "ok unmapped=0x300000", () => unmap(0n, U64_MAX)],
      ["unmap all of an empty IOAS", "ok unmapped=0x0", () => unmap(0n, U64_MAX)],
      ["HWPT_ALLOC nest parent from the IOAS", "ok", () => {
        hwpt = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: ioas, dataType: 0, data: NONE });
      }],
      ["ranges after the HWPT", "ok 0x0-0xfffffffffff align=4096", () => rangesText(iommufd.ioasIovaRanges(ioas))],
      ["attach device to the IOAS", "ok", () => device.attach(ioas)],
      ["ranges after attach", "ok 0x0-0x7ffffff 0x8100000-0xfffffffffff align=4096", () => rangesText(iommufd.ioasIovaRanges(ioas))],
      ["map above the address width", "EINVAL", () => map(1n << 44n)],
      ["destroy the IOAS in use", "EBUSY", () => iommufd.destroy(ioas)],
      ["destroy the HWPT attached by autodomain or not", "ok", () => iommufd.destroy(hwpt)],
      ["detach again", "ok", () => device.detach()],
    ]);
  });

  test("nest", () => {
    host = makeHost({}, {}, kernel);
    const iommufd = host.openIommufd();
    const device = host.openDevice(A);
    const devId = device.bind(iommufd.fd);
    const ioas = iommufd.ioasAlloc();
    const alloc = (flags: number, ptId: number, dataType = 0, data: Uint8Array = NONE): number => iommufd.hwptAlloc({ flags, devId, ptId, dataType, data });
    const plain = alloc(0, ioas);
    const viommuOf = (hwptId: number, type: number = ViommuType.ARM_SMMUV3, flags = 0): number => iommufd.viommuAlloc({ type, devId, hwptId, flags });
    let parent = 0;
    let viommu = 0;
    let viommu2 = 0;
    let vdevice = 0;
    let abort = 0;
    let bypass = 0;
    let translate = 0;
    let queue = 0;
    const ste = (word0: bigint, word1 = 0n): number => alloc(0, viommu, HwptDataType.ARM_SMMUV3, rawNested(word0, word1));
    const S1 = 1n | (5n << 1n);
    const throwAway = (id: number): void => iommufd.destroy(id);
    const command = (op: number): Int32Array => encodeCommand(op, {});
    const invalidate = (commands: Int32Array[], id = viommu, entryLength = 16): string => {
      const data = new Uint8Array(entryLength * commands.length);
      commands.forEach((words, i) => data.set(bytesOf(words).subarray(0, Math.min(16, entryLength)), entryLength * i));
      const { errno, handled } = iommufd.hwptInvalidate({ hwptId: id, dataType: 1, entryLength, entryCount: commands.length, data });
      return `${errno === null ? "" : `${errno} `}entry_num=${handled}`;
    };
    const reserved = encodeCommand(OP.TLBI_NH_VA, {});
    reserved[0] |= 0x400 | 0x0ff0_0000;
    const unknownSid = encodeCommand(OP.CFGI_CD, { SID: 0x99 });
    const virtual = (viommuId: number, virtId: bigint): number => iommufd.vdeviceAlloc({ viommuId, devId, virtId });
    const veventq = (viommuId: number, type: number, depth: number): number => iommufd.veventqAlloc({ viommuId, type, depth }).id;

    replay([
      ["VIOMMU_ALLOC on a plain HWPT", "EINVAL", () => viommuOf(plain)],
      ["VIOMMU_ALLOC on an IOAS", "ENOENT", () => viommuOf(ioas)],
      ["HWPT_ALLOC dirty tracking", "EOPNOTSUPP", () => alloc(HwptAllocFlags.DIRTY_TRACKING, ioas)],
      ["HWPT_ALLOC pasid flag", "ok", () => throwAway(alloc(HwptAllocFlags.PASID, ioas))],
      ["HWPT_ALLOC unknown flag", "EOPNOTSUPP", () => alloc(0x80, ioas)],
      ["HWPT_ALLOC nest parent", "ok", () => void (parent = alloc(HwptAllocFlags.NEST_PARENT, ioas))],
      ["nested HWPT straight on the nest parent, without a vIOMMU", "EOPNOTSUPP", () => alloc(0, parent, HwptDataType.ARM_SMMUV3, rawNested(S1))],
      ["VIOMMU_ALLOC type TEGRA241_CMDQV", "EOPNOTSUPP", () => viommuOf(parent, ViommuType.TEGRA241_CMDQV)],
      ["VIOMMU_ALLOC flags=1", "EOPNOTSUPP", () => viommuOf(parent, ViommuType.ARM_SMMUV3, 1)],
      ["VIOMMU_ALLOC ARM_SMMUV3", "ok", () => void (viommu = viommuOf(parent))],
      ["nested STE abort V=1 Cfg=0", "ok", () => void (abort = ste(1n))],
      ["nested STE V=0", "ok", () => throwAway(ste(0n))],
      ["nested STE V=0 other bits set", "ok", () => throwAway(ste(U64_MAX - 1n, U64_MAX))],
      ["nested STE bypass Cfg=4", "ok", () => void (bypass = ste(1n | (4n << 1n)))],
      ["nested STE S1 Cfg=5", "ok", () => void (translate = ste(S1))],
      ["nested STE S1 with context pointer, S1CDMax=0", "ok", () => throwAway(ste(S1 | 0x4321_0040n))],
      ["nested STE nested Cfg=7", "EIO", () => ste(1n | (7n << 1n))],
      ["nested STE Cfg=1 reserved", "EIO", () => ste(1n | (1n << 1n))],
      ["nested STE S1 with S1STALLD", "ok", () => throwAway(ste(S1, 1n << 27n))],
      ["nested STE S1 with EATS=2", "EIO", () => ste(S1, 2n << 28n)],
      ["nested STE S1 with STRW", "EIO", () => ste(S1, 2n << 30n)],
      ["nested STE S1 with SHCFG", "EIO", () => ste(S1, 1n << 44n)],
      ["nested STE bypass with S1DSS", "ok", () => throwAway(ste(1n | (4n << 1n), 1n))],
      ["nested STE abort with S1 pointer", "ok", () => throwAway(ste(1n | 0x4321_0040n))],
      ["nested STE S1 pointer bits above 52", "EIO", () => ste(S1 | (1n << 52n))],
      ["nested data type VTD_S1 on an Arm host", "EINVAL", () => alloc(0, viommu, HwptDataType.VTD_S1, rawNested(S1))],
      ["nested with NEST_PARENT flag", "EOPNOTSUPP", () => alloc(HwptAllocFlags.NEST_PARENT, viommu, HwptDataType.ARM_SMMUV3, rawNested(S1))],
      ["attach to bypass without a vDEVICE", "ok", () => device.attach(bypass)],
      ["attach to abort without a vDEVICE", "ok", () => device.attach(abort)],
      ["attach to translate without a vDEVICE", "ENOENT", () => device.attach(translate)],
      ["VDEVICE vSID above 32 bits", "ok", () => void virtual(viommu, 1n << 40n)],
      // The function has one now, so these three fail, and the ids below that they would have given stay 0.
      ["VDEVICE vSID 0x10", "EEXIST", () => void (vdevice = virtual(viommu, 0x10n))],
      ["a second VDEVICE for the device", "EEXIST", () => virtual(viommu, 0x11n)],
      ["a VDEVICE for the device on another vIOMMU", "EEXIST", () => virtual((viommu2 = viommuOf(parent)), 0x10n)],
      ["attach to translate with a vDEVICE", "ok", () => device.attach(translate)],
      ["attach to a vIOMMU id", "EINVAL", () => device.attach(viommu)],
      ["destroy the vDEVICE while attached", "ENOENT", () => iommufd.destroy(vdevice)],
      ["device still attached: attach bypass again", "ok", () => device.attach(bypass)],
      ["destroy the parent", "EBUSY", () => iommufd.destroy(parent)],
      ["INVALIDATE TLBI_NH_ALL", "ok entry_num=1", () => invalidate([command(OP.TLBI_NH_ALL)])],
      ["INVALIDATE TLBI_NH_VA", "ok entry_num=1", () => invalidate([command(OP.TLBI_NH_VA)])],
      ["INVALIDATE TLBI_NH_VAA", "ok entry_num=1", () => invalidate([command(OP.TLBI_NH_VAA)])],
      ["INVALIDATE TLBI_NSNH_ALL", "ok entry_num=1", () => invalidate([command(OP.TLBI_NSNH_ALL)])],
      ["INVALIDATE CFGI_CD unknown vSID", "EIO entry_num=0", () => invalidate([unknownSid])],
      ["INVALIDATE CFGI_CD_ALL", "EIO entry_num=0", () => invalidate([encodeCommand(OP.CFGI_CD_ALL, { SID: 0x10 })])],
      ["INVALIDATE CFGI_STE (not forwardable)", "EIO entry_num=0", () => invalidate([command(OP.CFGI_STE)])],
      ["INVALIDATE CMD_SYNC", "EIO entry_num=0", () => invalidate([command(OP.SYNC)])],
      ["INVALIDATE TLBI_EL2_ALL", "EIO entry_num=0", () => invalidate([command(OP.TLBI_EL2_ALL)])],
      ["INVALIDATE TLBI_S2_IPA", "EIO entry_num=0", () => invalidate([command(OP.TLBI_S2_IPA)])],
      ...["INVALIDATE TLBI_NH_VA with SSEC/other reserved bits"].map((call): Row => [call, differing(call), () => invalidate([reserved])]),
      ["INVALIDATE three good", "ok entry_num=3", () => invalidate([OP.TLBI_NH_ALL, OP.TLBI_NH_VA, OP.TLBI_NH_ASID].map(command))],
      ["INVALIDATE good, bad opcode, good", "EIO entry_num=1", () => invalidate([OP.TLBI_NH_ALL, OP.SYNC, OP.TLBI_NH_ALL].map(command))],
      ["INVALIDATE good, unknown vSID, good", "EIO entry_num=1", () => invalidate([command(OP.TLBI_NH_ALL), unknownSid, command(OP.TLBI_NH_ALL)])],
      ["INVALIDATE zero entries", "EINVAL entry_num=0", () => invalidate([])],
      ["INVALIDATE entry_len 8", "ok entry_num=1", () => invalidate([command(OP.TLBI_NH_ALL)], viommu, 8)],
      ["INVALIDATE entry_len 24", "ok entry_num=1", () => invalidate([command(OP.TLBI_NH_ALL)], viommu, 24)],
      ["INVALIDATE on a nested HWPT id", "EOPNOTSUPP entry_num=0", () => invalidate([command(OP.TLBI_NH_ALL)], bypass)],
      ["INVALIDATE unknown id", "ENOENT entry_num=0", () => invalidate([command(OP.TLBI_NH_ALL)], 999)],
      ["INVALIDATE 256 entries", "ok entry_num=256", () => invalidate(Array.from({ length: 256 }, () => command(OP.TLBI_NH_ALL)))],
      ["VEVENTQ depth 8", "ok", () => void (queue = veventq(viommu, 1, 8))],
      ["VEVENTQ depth 0", "EINVAL", () => veventq(viommu, 1, 0)],
      ["VEVENTQ unknown type", "ok", () => void veventq(viommu2, 77, 8)],
      ["VEVENTQ depth 2^32-1", "EINVAL", () => veventq(viommu, 1, 0xffff_ffff)],
      ["dirty tracking on the parent", "EOPNOTSUPP", () => iommufd.hwptSetDirtyTracking(parent, true)],
      ["detach", "ok", () => device.detach()],
      ["destroy in order: veventq", "EBUSY", () => iommufd.destroy(queue)],
      ["vdevice", "ENOENT", () => iommufd.destroy(vdevice)],
      ["bypass", "ok", () => iommufd.destroy(bypass)],
      ["abort", "ok", () => iommufd.destroy(abort)],
      ["translate (already gone)", "ok", () => iommufd.destroy(translate)],
      ["vIOMMU 2", "EBUSY", () => iommufd.destroy(viommu2)],
      ["parent", "EBUSY", () => iommufd.destroy(parent)],
    ]);
  });

  /** A second function and what both need. */
  function pair(second: string) {
    host = makeHost({}, {}, kernel);
    const iommufd = host.openIommufd();
    const a = host.openDevice(A);
    const b = host.openDevice(second);
    const [aId, bId] = [a.bind(iommufd.fd), b.bind(iommufd.fd)];
    return { iommufd, a, b, aId, bId, ioas: iommufd.ioasAlloc(), ids: { parent: 0, viommu: 0, hwpt: 0 } };
  }

  test("two", () => {
    const { iommufd, a, b, aId, bId, ioas, ids } = pair(B);
    const alloc = (flags: number, ptId: number, dataType = 0, data: Uint8Array = NONE): number => iommufd.hwptAlloc({ flags, devId: aId, ptId, dataType, data });
    replay([
      ["parent made for device A", "ok", () => void (ids.parent = alloc(HwptAllocFlags.NEST_PARENT, ioas))],
      ["attach A to it", "ok", () => a.attach(ids.parent)],
      ["attach B to it", "ok", () => b.attach(ids.parent)],
      ["vIOMMU from A", "ok", () => void (ids.viommu = iommufd.viommuAlloc({ type: 1, devId: aId, hwptId: ids.parent }))],
      ["vDEVICE A vSID 8", "ok", () => void iommufd.vdeviceAlloc({ viommuId: ids.viommu, devId: aId, virtId: 8n })],
      ["vDEVICE B, vSID already used", "EEXIST", () => iommufd.vdeviceAlloc({ viommuId: ids.viommu, devId: bId, virtId: 8n })],
      ["vDEVICE B vSID 9", "ok", () => void iommufd.vdeviceAlloc({ viommuId: ids.viommu, devId: bId, virtId: 9n })],
      ["attach B to it", "ok", () => b.attach(alloc(0, ids.viommu, HwptDataType.ARM_SMMUV3, rawNested(1n | (5n << 1n))))],
    ]);
  });

  test("other SMMU", () => {
    const { iommufd, a, b, aId, bId, ioas, ids } = pair(OTHER);
    const alloc = (devId: number, flags: number, ptId: number, dataType = 0, data: Uint8Array = NONE): number =>
      iommufd.hwptAlloc({ flags, devId, ptId, dataType, data });
    const bypass = rawNested(1n | (4n << 1n));
    replay([
      ["parent made for device A (SMMU 0)", "ok", () => void (ids.parent = alloc(aId, HwptAllocFlags.NEST_PARENT, ioas))],
      ["attach A to it", "ok", () => a.attach(ids.parent)],
      ["vIOMMU from A", "ok", () => void (ids.viommu = iommufd.viommuAlloc({ type: 1, devId: aId, hwptId: ids.parent }))],
      ["vIOMMU from B on the same parent", "EINVAL", () => iommufd.viommuAlloc({ type: 1, devId: bId, hwptId: ids.parent })],
      ["vDEVICE B on A's vIOMMU", "EINVAL", () => iommufd.vdeviceAlloc({ viommuId: ids.viommu, devId: bId, virtId: 8n })],
      ["attach B to a nested HWPT of A's vIOMMU", "EINVAL", () => b.attach(alloc(aId, 0, ids.viommu, HwptDataType.ARM_SMMUV3, bypass))],
      ["nested HWPT from B on A's vIOMMU", "EINVAL", () => alloc(bId, 0, ids.viommu, HwptDataType.ARM_SMMUV3, bypass)],
    ]);
  });

  test("an SMMU without coherent access makes a parent and no vIOMMU; one with one stage makes no parent", () => {
    host = makeHost({ coherent: false });
    const iommufd = host.openIommufd();
    const devId = host.openDevice(A).bind(iommufd.fd);
    const ptId = iommufd.ioasAlloc();
    const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId, dataType: 0, data: NONE });
    replay([["vIOMMU", "EOPNOTSUPP", () => iommufd.viommuAlloc({ type: 1, devId, hwptId: parent })]]);
    host.close();
    // IDR3.FWB stands for it: stage 2 forces memory to be write-back.
    host = makeHost({ coherent: false, idr3: 0x1514 });
    const forcing = host.openIommufd();
    const id = host.openDevice(A).bind(forcing.fd);
    const hwptId = forcing.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId: id, ptId: forcing.ioasAlloc(), dataType: 0, data: NONE });
    replay([["vIOMMU", "ok", () => void forcing.viommuAlloc({ type: 1, devId: id, hwptId })]]);
    host.close();
    for (const idr0 of [0x0d44_1019, 0x0d44_101a]) {
      host = makeHost({ idr0 });
      const other = host.openIommufd();
      const id = host.openDevice(A).bind(other.fd);
      const ioas = other.ioasAlloc();
      replay([["parent", "EOPNOTSUPP", () => other.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId: id, ptId: ioas, dataType: 0, data: NONE })]]);
      host.close();
    }
  });
});
