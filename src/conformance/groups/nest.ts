/** An SMMUv3's vIOMMU: nested tables, vDEVICEs, event queues, and functions that share it or must not. */
import { HwptAllocFlags, HwptDataType, VeventqType, ViommuType } from "../../iommufd/index.js";
import { encodeCommand, OP } from "../../smmuv3/spec/index.js";
import type { Bench } from "../bench.js";
import type { Group } from "../group.js";
import { bytes32, U32_MAX, U64_MAX, UNKNOWN_ID, words64, Work } from "../work.js";

const { NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID, PASID } = HwptAllocFlags;
const { ARM_SMMUV3 } = HwptDataType;
/** Stream table entries: V and Config. */
const ABORT = 1n;
const BYPASS = 1n | (4n << 1n);
const S1 = 1n | (5n << 1n);

const command = (op: number): Uint8Array => bytes32(encodeCommand(op, {}));

const nest: Group = {
  name: "nest",
  about: "a vIOMMU, its nested tables, invalidations and queues",
  needs: ["smmuv3", "nesting"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device, ioas } = work;
    const plain = bench.quiet(() => work.table(0)) ?? 0;
    let viommu = 0;
    const throwAway = (word0: bigint, word1 = 0n): void => iommufd.destroy(work.entry(viommu, word0, word1));
    bench.call("VIOMMU_ALLOC on a plain HWPT", () => void work.viommu(plain));
    bench.call("VIOMMU_ALLOC on an IOAS", () => void work.viommu(ioas));
    bench.call("HWPT_ALLOC pasid flag", () => iommufd.destroy(work.table(PASID)));
    bench.call("HWPT_ALLOC unknown flag", () => void work.table(0x80));
    const parent = bench.id("HWPT_ALLOC nest parent", () => work.table(NEST_PARENT));
    bench.call("nested HWPT straight on the nest parent, without a vIOMMU", () => void work.entry(parent, S1));
    bench.call("VIOMMU_ALLOC type TEGRA241_CMDQV", () => void work.viommu(parent, ViommuType.TEGRA241_CMDQV));
    bench.call("VIOMMU_ALLOC flags=1", () => void work.viommu(parent, ViommuType.ARM_SMMUV3, 1));
    viommu = bench.id("VIOMMU_ALLOC ARM_SMMUV3", () => work.viommu(parent));
    const abort = bench.id("nested STE abort V=1 Cfg=0", () => work.entry(viommu, ABORT));
    bench.call("nested STE V=0", () => throwAway(0n));
    bench.call("nested STE V=0 other bits set", () => throwAway(U64_MAX - 1n, U64_MAX));
    const bypass = bench.id("nested STE bypass Cfg=4", () => work.entry(viommu, BYPASS));
    const translate = bench.id("nested STE S1 Cfg=5", () => work.entry(viommu, S1));
    bench.call("nested STE S1 with context pointer, S1CDMax=0", () => throwAway(S1 | 0x4321_0040n));
    bench.call("nested STE nested Cfg=7", () => void work.entry(viommu, 1n | (7n << 1n)));
    bench.call("nested STE Cfg=1 reserved", () => void work.entry(viommu, 1n | (1n << 1n)));
    bench.call("nested STE S1 with S1STALLD", () => throwAway(S1, 1n << 27n));
    bench.call("nested STE S1 with EATS=2", () => void work.entry(viommu, S1, 2n << 28n));
    bench.call("nested STE S1 with STRW", () => void work.entry(viommu, S1, 2n << 30n));
    bench.call("nested STE S1 with SHCFG", () => void work.entry(viommu, S1, 1n << 44n));
    bench.call("nested STE bypass with S1DSS", () => throwAway(BYPASS, 1n));
    bench.call("nested STE abort with S1 pointer", () => throwAway(ABORT | 0x4321_0040n));
    bench.call("nested STE S1 pointer bits above 52", () => void work.entry(viommu, S1 | (1n << 52n)));
    bench.call("nested data type VTD_S1 on an Arm host", () => void work.table(0, viommu, HwptDataType.VTD_S1, words64(S1, 0n)));
    bench.call("nested with NEST_PARENT flag", () => void work.table(NEST_PARENT, viommu, ARM_SMMUV3, words64(S1, 0n)));
    bench.call("attach to bypass without a vDEVICE", () => device.attach(bypass));
    bench.call("attach to abort without a vDEVICE", () => device.attach(abort));
    bench.call("attach to translate without a vDEVICE", () => device.attach(translate));
    bench.call("VDEVICE vSID above 32 bits", () => void work.vdevice(viommu, 1n << 40n));
    // The function has one now, so these three are refused, and the ids below that they would have given stay 0.
    const vdevice = bench.id("VDEVICE vSID 0x10", () => work.vdevice(viommu, 0x10n));
    bench.call("a second VDEVICE for the device", () => void work.vdevice(viommu, 0x11n));
    const viommu2 = bench.quiet(() => work.viommu(parent)) ?? 0;
    bench.call("a VDEVICE for the device on another vIOMMU", () => void work.vdevice(viommu2, 0x10n));
    bench.call("attach to translate with a vDEVICE", () => device.attach(translate));
    bench.call("attach to a vIOMMU id", () => device.attach(viommu));
    bench.call("destroy the vDEVICE while attached", () => iommufd.destroy(vdevice));
    bench.call("device still attached: attach bypass again", () => device.attach(bypass));
    bench.call("destroy the parent", () => iommufd.destroy(parent));
    const invalidate = (name: string, entries: readonly Uint8Array[], id = viommu, entryLength = 16): void =>
      bench.answer(`INVALIDATE ${name}`, () => work.invalidate(id, entries, entryLength));
    const all = command(OP.TLBI_NH_ALL);
    const unknownSid = bytes32(encodeCommand(OP.CFGI_CD, { SID: 0x99 }));
    const reserved = encodeCommand(OP.TLBI_NH_VA, {});
    reserved[0] |= 0x400 | 0x0ff0_0000;
    for (const op of ["TLBI_NH_ALL", "TLBI_NH_VA", "TLBI_NH_VAA", "TLBI_NSNH_ALL"] as const) {
      invalidate(op, [command(OP[op])]);
    }
    invalidate("CFGI_CD unknown vSID", [unknownSid]);
    invalidate("CFGI_CD_ALL", [bytes32(encodeCommand(OP.CFGI_CD_ALL, { SID: 0x10 }))]);
    invalidate("CFGI_STE (not forwardable)", [command(OP.CFGI_STE)]);
    invalidate("CMD_SYNC", [command(OP.SYNC)]);
    invalidate("TLBI_EL2_ALL", [command(OP.TLBI_EL2_ALL)]);
    invalidate("TLBI_S2_IPA", [command(OP.TLBI_S2_IPA)]);
    if (bench.options.illegal) {
      invalidate("TLBI_NH_VA with SSEC/other reserved bits", [bytes32(reserved)]);
    }
    invalidate("three good", [OP.TLBI_NH_ALL, OP.TLBI_NH_VA, OP.TLBI_NH_ASID].map(command));
    invalidate("good, bad opcode, good", [all, command(OP.SYNC), all]);
    invalidate("good, unknown vSID, good", [all, unknownSid, all]);
    invalidate("zero entries", []);
    invalidate("entry_len 8", [all], viommu, 8);
    invalidate("entry_len 24", [all], viommu, 24);
    invalidate("on a nested HWPT id", [all], bypass);
    invalidate("unknown id", [all], 999);
    invalidate("256 entries", Array.from({ length: 256 }, () => all));
    const queue = bench.id("VEVENTQ depth 8", () => work.veventq(viommu, 1, 8));
    bench.call("VEVENTQ depth 0", () => void work.veventq(viommu, 1, 0));
    bench.call("VEVENTQ unknown type", () => void work.veventq(viommu2, 77, 8));
    bench.call("VEVENTQ depth 2^32-1", () => void work.veventq(viommu, 1, U32_MAX));
    bench.call("dirty tracking on the parent", () => iommufd.hwptSetDirtyTracking(parent, true));
    bench.call("detach", () => device.detach());
    bench.call("destroy in order: veventq", () => iommufd.destroy(queue));
    bench.call("vdevice", () => iommufd.destroy(vdevice));
    bench.call("bypass", () => iommufd.destroy(bypass));
    bench.call("abort", () => iommufd.destroy(abort));
    bench.call("translate (already gone)", () => iommufd.destroy(translate));
    bench.call("vIOMMU 2", () => iommufd.destroy(viommu2));
    bench.call("parent", () => iommufd.destroy(parent));
  },
};

/** A vIOMMU on a parent, with the function attached to the parent. */
function nested(bench: Bench): { work: Work; parent: number; viommu: number } {
  const work = new Work(bench);
  const parent = bench.quiet(() => work.table(NEST_PARENT)) ?? 0;
  bench.quiet(() => work.device.attach(parent));
  return { work, parent, viommu: bench.quiet(() => work.viommu(parent)) ?? 0 };
}

const entries: Group = {
  name: "nested entries",
  about: "each Config and each bit of a stream table entry's first 128",
  needs: ["smmuv3", "nesting"],
  run: (bench) => {
    const { work, viommu } = nested(bench);
    const make = (name: string, word0: bigint, word1 = 0n): void => bench.call(name, () => work.iommufd.destroy(work.entry(viommu, word0, word1)));
    for (let config = 0n; config < 8n; config++) {
      make(`Config ${config}`, 1n | (config << 1n));
    }
    for (const [name, config] of [["S1", S1], ["bypass", BYPASS], ["abort", ABORT]] as const) {
      make(`${name}, S1Fmt 1`, config | (1n << 4n));
      make(`${name}, S1Fmt 3`, config | (3n << 4n));
      make(`${name}, S1CDMax 1`, config | (1n << 59n));
      make(`${name}, S1CDMax 31`, config | (31n << 59n));
      make(`${name}, MEV`, config, 1n << 19n);
      make(`${name}, EATS 1`, config, 1n << 28n);
    }
    for (const bit of [51n, 55n, 56n, 58n]) {
      make(`S1, bit ${bit}`, S1 | (1n << bit));
    }
    // S1DSS, S1CIR, S1COR, S1CSH, then one at a time (Arm IHI 0070, 5.2).
    for (let bit = 0n; bit < 64n; bit++) {
      if (![19n, 28n].includes(bit)) {
        make(`S1, bit ${64n + bit}`, S1, 1n << bit);
      }
    }
  },
};

const forms: Group = {
  name: "vIOMMU forms",
  about: "ids, types and lengths of nested tables, vIOMMUs, vDEVICEs and event queues",
  needs: ["smmuv3", "nesting"],
  run: (bench) => {
    const { work, parent, viommu } = nested(bench);
    const { iommufd, device, devId, ioas } = work;
    const bypass = words64(BYPASS, 0n);
    bench.call("nested data of 8 bytes", () => void work.table(0, viommu, ARM_SMMUV3, new Uint8Array(8)));
    bench.call("nested data of 15 bytes", () => void work.table(0, viommu, ARM_SMMUV3, bypass.subarray(0, 15)));
    bench.call("nested data of 24 bytes, zeros behind", () => void work.table(0, viommu, ARM_SMMUV3, words64(BYPASS, 0n, 0n)));
    bench.call("nested data of 24 bytes, ones behind", () => void work.table(0, viommu, ARM_SMMUV3, words64(BYPASS, 0n, 1n)));
    bench.call("nested without data", () => void work.table(0, viommu));
    bench.call("nested data of type 99", () => void work.table(0, viommu, 99, bypass));
    bench.call("nested with DIRTY_TRACKING", () => void work.table(DIRTY_TRACKING, viommu, ARM_SMMUV3, bypass));
    bench.call("nested with PASID", () => void work.table(PASID, viommu, ARM_SMMUV3, bypass));
    bench.call("nested with bit 7", () => void work.table(0x80, viommu, ARM_SMMUV3, bypass));
    bench.call("nested with an unknown fault queue", () => void iommufd.hwptAlloc({ flags: FAULT_ID_VALID, devId, ptId: viommu, dataType: ARM_SMMUV3, data: bypass, faultId: UNKNOWN_ID }));
    bench.call("nested with a fault queue", () => {
      const { id, stream } = iommufd.faultQueueAlloc();
      bench.keep(stream);
      iommufd.destroy(iommufd.hwptAlloc({ flags: FAULT_ID_VALID, devId, ptId: viommu, dataType: ARM_SMMUV3, data: bypass, faultId: id }));
    });
    bench.call("nested for an unknown device", () => void work.table(0, viommu, ARM_SMMUV3, bypass, UNKNOWN_ID));
    const table = bench.id("a nested table", () => work.table(0, viommu, ARM_SMMUV3, bypass));
    bench.call("nested on a nested table", () => void work.table(0, table, ARM_SMMUV3, bypass));
    bench.call("VIOMMU_ALLOC on a nested table", () => void work.viommu(table));
    bench.call("VIOMMU_ALLOC type DEFAULT", () => void work.viommu(parent, ViommuType.DEFAULT));
    bench.call("VIOMMU_ALLOC type 99", () => void work.viommu(parent, 99));
    bench.call("VIOMMU_ALLOC on an unknown table", () => void work.viommu(UNKNOWN_ID));
    bench.call("VIOMMU_ALLOC for an unknown device", () => void iommufd.viommuAlloc({ type: 1, devId: UNKNOWN_ID, hwptId: parent }));
    bench.call("VIOMMU_ALLOC with data", () => void iommufd.viommuAlloc({ type: 1, devId, hwptId: parent, data: new Uint8Array(16) }));
    bench.call("VDEVICE_ALLOC on an unknown vIOMMU", () => void work.vdevice(UNKNOWN_ID, 1n));
    bench.call("VDEVICE_ALLOC on the parent", () => void work.vdevice(parent, 1n));
    bench.call("VDEVICE_ALLOC for an unknown device", () => void work.vdevice(viommu, 1n, UNKNOWN_ID));
    bench.call("VDEVICE_ALLOC for an IOAS", () => void work.vdevice(viommu, 1n, ioas));
    bench.call("VDEVICE_ALLOC virtual id 2^64 - 1", () => iommufd.destroy(work.vdevice(viommu, U64_MAX)));
    bench.call("VDEVICE_ALLOC virtual id 2^32 - 1", () => iommufd.destroy(work.vdevice(viommu, BigInt(U32_MAX))));
    const vdevice = bench.id("VDEVICE_ALLOC virtual id 0", () => work.vdevice(viommu, 0n));
    bench.call("HWPT_ALLOC of a vDEVICE", () => void work.table(0, vdevice, ARM_SMMUV3, bypass));
    bench.call("attach to a vDEVICE", () => device.attach(vdevice));
    const translate = bench.id("a nested table that translates", () => work.entry(viommu, S1));
    bench.call("attach to it", () => device.attach(translate));
    bench.call("destroy it while attached", () => iommufd.destroy(translate));
    bench.call("destroy the vDEVICE while attached to it", () => iommufd.destroy(vdevice));
    bench.call("attach to another one then", () => device.attach(table));
    bench.call("attach to the one that translates again", () => device.attach(translate));
    bench.call("attach to the parent", () => device.attach(parent));
    bench.call("destroy the vIOMMU while it has tables", () => iommufd.destroy(viommu));
    bench.call("destroy its tables", () => [translate, table].forEach((id) => iommufd.destroy(id)));
  },
};

const queues: Group = {
  name: "VEVENTQ_ALLOC",
  about: "event queues of a vIOMMU, and their descriptors",
  needs: ["smmuv3", "nesting"],
  run: (bench) => {
    const { work, parent, viommu } = nested(bench);
    const { iommufd } = work;
    const { DEFAULT, ARM_SMMUV3: type, TEGRA241_CMDQV } = VeventqType;
    bench.call("type DEFAULT", () => void work.veventq(viommu, DEFAULT, 8));
    bench.call("flags=1", () => void work.veventq(viommu, type, 8, 1));
    bench.call("of an unknown vIOMMU", () => void work.veventq(UNKNOWN_ID, type, 8));
    bench.call("of the parent", () => void work.veventq(parent, type, 8));
    bench.call("depth 2^31", () => void work.veventq(viommu, type, 0x8000_0000));
    const made = bench.quiet(() => iommufd.veventqAlloc({ viommuId: viommu, type, depth: 4 }));
    bench.call("a second one of a type", () => void work.veventq(viommu, type, 8));
    bench.call("one of type TEGRA241_CMDQV", () => void work.veventq(viommu, TEGRA241_CMDQV, 8));
    bench.call("read where there is nothing", () => (made!.stream.read(4096) === null ? "nothing" : "something"));
    for (const bytes of [0, 1, 7, 8, 39, 40]) {
      bench.call(`read of ${bytes} bytes`, () => (made!.stream.read(bytes) === null ? "nothing" : "something"));
    }
    bench.call("destroy it while its descriptor is open", () => iommufd.destroy(made!.id));
    bench.call("destroy the vIOMMU", () => iommufd.destroy(viommu));
    bench.quiet(() => made!.stream.close());
    bench.call("destroy it when its descriptor is closed", () => iommufd.destroy(made!.id));
    bench.call("one of the same type then", () => void work.veventq(viommu, type, 1));
    const other = bench.quiet(() => work.viommu(parent)) ?? 0;
    for (const [name, depth] of [["2^16", 2 ** 16], ["2^19", 2 ** 19], ["2^19 + 1", 2 ** 19 + 1], ["2^20", 2 ** 20]] as const) {
      bench.call(`depth ${name}`, () => {
        const queue = iommufd.veventqAlloc({ viommuId: other, type, depth });
        queue.stream.close();
        iommufd.destroy(queue.id);
      });
    }
    bench.call("depth 2^31 - 1", () => void work.veventq(other, type, 0x7fff_ffff));
  },
};

const two: Group = {
  name: "two",
  about: "two functions on one vIOMMU",
  needs: ["smmuv3", "nesting", "neighbour"],
  run: (bench) => {
    const work = new Work(bench);
    const { device } = work;
    const other = bench.bind(bench.subjects.neighbour!);
    const parent = bench.id("parent made for device A", () => work.table(NEST_PARENT));
    bench.call("attach A to it", () => device.attach(parent));
    bench.call("attach B to it", () => other.device.attach(parent));
    const viommu = bench.id("vIOMMU from A", () => work.viommu(parent));
    bench.call("vDEVICE A vSID 8", () => void work.vdevice(viommu, 8n));
    bench.call("vDEVICE B, vSID already used", () => void work.vdevice(viommu, 8n, other.devId));
    bench.call("vDEVICE B vSID 9", () => void work.vdevice(viommu, 9n, other.devId));
    bench.call("attach B to a nested table that was made for A", () => other.device.attach(work.entry(viommu, S1)));
    bench.call("attach A to a nested table that was made for B", () => device.attach(work.table(0, viommu, ARM_SMMUV3, words64(S1, 0n), other.devId)));
    const cfgi = (SID: number): Uint8Array => bytes32(encodeCommand(OP.CFGI_CD, { SID }));
    bench.answer("CFGI_CD of A", () => work.invalidate(viommu, [cfgi(8)]));
    bench.answer("CFGI_CD of both and of nobody", () => work.invalidate(viommu, [cfgi(8), cfgi(9), cfgi(10)]));
    bench.answer("CFGI_CD_ALL of B", () => work.invalidate(viommu, [bytes32(encodeCommand(OP.CFGI_CD_ALL, { SID: 9 }))]));
    bench.call("close B", () => other.device.close());
    bench.answer("CFGI_CD of B, which is closed", () => work.invalidate(viommu, [cfgi(9)]));
  },
};

const strangers: Group = {
  name: "other SMMU",
  about: "functions behind different SMMUs",
  needs: ["smmuv3", "nesting", "stranger"],
  run: (bench) => {
    const work = new Work(bench);
    const { iommufd, device } = work;
    const other = bench.bind(bench.subjects.stranger!);
    const bypass = words64(BYPASS, 0n);
    const parent = bench.id("parent made for device A (SMMU 0)", () => work.table(NEST_PARENT));
    bench.call("attach A to it", () => device.attach(parent));
    const viommu = bench.id("vIOMMU from A", () => work.viommu(parent));
    bench.call("vIOMMU from B on the same parent", () => void iommufd.viommuAlloc({ type: 1, devId: other.devId, hwptId: parent }));
    bench.call("vDEVICE B on A's vIOMMU", () => void work.vdevice(viommu, 8n, other.devId));
    bench.call("attach B to a nested HWPT of A's vIOMMU", () => other.device.attach(work.table(0, viommu, ARM_SMMUV3, bypass)));
    bench.call("nested HWPT from B on A's vIOMMU", () => void work.table(0, viommu, ARM_SMMUV3, bypass, other.devId));
    bench.call("attach B to A's parent", () => other.device.attach(parent));
    bench.call("attach B to the IOAS", () => other.device.attach(work.ioas));
  },
};

export const nestGroups: readonly Group[] = [nest, entries, forms, queues, two, strangers];
