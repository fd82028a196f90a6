import { eventOf } from "../host-event.js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HostError, HwptAllocFlags, HwCapabilities, VfioIrq, type Iommufd } from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { get, OP, STE } from "../../../src/smmuv3/spec/index.js";
import { A, B, bind, type Bound, encodeCommand, Engine, errno, GuestTables, invalidate, makeHost, map, nested, OTHER, putWords, SMMU0 } from "./rig.js";

const NONE = new Uint8Array(0);
const GPA = 0x4000_0000;
const DATA = Uint8Array.of(7, 7, 7, 7);

let host: SimulatedHost;
let iommufd: Iommufd;
let ioas: number;
let ram: RamBlock;

function start(smmu = {}, fn = {}): void {
  host = makeHost(smmu, fn);
  iommufd = host.openIommufd();
  ioas = iommufd.ioasAlloc();
  ram = host.allocateMemory("ram", 0x40_0000);
  map(iommufd, ioas, ram, GPA);
}

beforeEach(() => start());
afterEach(() => host.close());

function alloc(devId: number, flags: number, ptId = ioas): number {
  return iommufd.hwptAlloc({ flags, devId, ptId, dataType: 0, data: NONE });
}

function types(): string[] {
  return host.liveObjects().map((object) => object.type).sort();
}

/** Every change of a StreamID's entry: its words, and whether the commands that make it seen followed. */
function watchEntries(name = SMMU0): Array<{ words: Int32Array; commands: number[] }> {
  const smmu = host.hardware.smmus.get(name)!;
  const seen: Array<{ words: Int32Array; commands: number[] }> = [];
  const writeSte = smmu.writeSte.bind(smmu);
  const command = smmu.command.bind(smmu);
  smmu.writeSte = (sid, words) => {
    seen.push({ words: Int32Array.from(words), commands: [] });
    writeSte(sid, words);
  };
  smmu.command = (w0, w1, w2, w3) => {
    seen.at(-1)?.commands.push(w0 & 0xff);
    return command(w0, w1, w2, w3);
  };
  return seen;
}

describe("attaching to an IOAS", () => {
  test("makes one table for all functions of an SMMU, another for another SMMU, and frees each with its last function", () => {
    const pages = host.hardware.memory.livePages;
    const [a, b, c] = [A, B, OTHER].map((address) => bind(host, iommufd, address));
    a.device.attach(ioas);
    b.device.attach(ioas);
    expect(types().filter((type) => type === "hwpt-paging").length).toBe(1);
    c.device.attach(ioas);
    expect(types().filter((type) => type === "hwpt-paging").length).toBe(2);
    expect(host.kernel.smmuAccounts().map((account) => account.asids)).toEqual([1, 1]);
    for (const { device } of [a, b, c]) {
      expect(new Engine(device).write(GPA, DATA)).toBe(true);
    }
    a.device.detach();
    expect(new Engine(b.device).write(GPA, DATA)).toBe(true);
    b.device.detach();
    c.device.detach();
    expect(types().filter((type) => type === "hwpt-paging").length).toBe(0);
    expect(host.kernel.smmuAccounts().map((account) => account.asids)).toEqual([0, 0]);
    expect(host.hardware.memory.livePages).toBe(pages);
  });

  test("goes through stage 1 with a context descriptor of the kernel, or stage 2 where the SMMU has that alone", () => {
    const entries = watchEntries();
    const a = bind(host, iommufd, A);
    a.device.attach(ioas);
    const entry = entries.at(-1)!;
    // V, Config = 0b101, S1Fmt linear; S1CDMax 0.
    expect(entry.words[0] & 0x3f).toBe(1 | (5 << 1));
    expect(entry.words[1] >>> 27).toBe(0);
    // S1DSS = SSID0, WBWA, inner shareable.
    expect(entry.words[2] & 0xff).toBe(2 | (1 << 2) | (1 << 4) | (3 << 6));
    host.close();
    start({ idr0: 0x0d44_1019 });
    const stage2 = watchEntries();
    bind(host, iommufd, A).device.attach(ioas);
    expect(stage2.at(-1)!.words[0]).toBe(1 | (6 << 1));
  });

  test("gives the context table back when the function goes to stage 2", () => {
    const a = bind(host, iommufd, A);
    const parent = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parent });
    const bypass = nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 4 });
    const plain = alloc(a.devId, 0);
    const pages = host.hardware.memory.livePages;
    for (const stage2 of [parent, bypass]) {
      a.device.attach(plain);
      expect(host.hardware.memory.livePages).toBeGreaterThan(pages);
      a.device.attach(stage2);
      expect(host.hardware.memory.livePages).toBe(pages);
    }
  });

  test("that fails leaves neither a table nor a reservation", () => {
    const [a, c] = [A, OTHER].map((address) => bind(host, iommufd, address));
    const other = iommufd.ioasAlloc();
    const foreign = alloc(c.devId, 0, other);
    const before = types();
    const free = iommufd.ioasIovaRanges(other).ranges;
    expect(errno(() => a.device.attach(foreign))).toBe("EINVAL");
    expect(iommufd.ioasIovaRanges(other).ranges).toEqual(free);
    // The window for MSIs is taken, which shows when the IOAS's own table is made already.
    map(iommufd, ioas, ram, 0x800_0000, 0x1000);
    expect(errno(() => a.device.attach(ioas))).toBe("EADDRINUSE");
    expect(types()).toEqual(before);
  });

  test("replaces an attached table by the IOAS's own, and the IOAS's by another", () => {
    const a = bind(host, iommufd, A);
    const parent = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    const engine = new Engine(a.device);
    a.device.attach(parent);
    a.device.attach(ioas);
    expect(engine.write(GPA, DATA)).toBe(true);
    const other = iommufd.ioasAlloc();
    a.device.attach(other);
    expect(engine.write(GPA, DATA)).toBe(false);
    expect([ioas, other].map((id) => iommufd.ioasIovaRanges(id).ranges.length), "the MSI window moves").toEqual([1, 2]);
    iommufd.destroy(parent);
    iommufd.destroy(ioas);
  });
});

describe("tags that are given again", () => {
  test("an ASID brings nothing of its former table, the window for MSIs included", () => {
    const [a, b] = [A, B].map((address) => bind(host, iommufd, address));
    a.device.attach(ioas);
    let hits = 0;
    a.device.setIrqs(VfioIrq.MSIX, 0, [eventOf(() => hits++)]);
    new Engine(a.device).raise(0);
    expect(hits).toBe(1);
    a.device.close();
    b.device.attach(iommufd.ioasAlloc());
    expect(host.kernel.smmuAccounts()[0].asids).toBe(1);
    // The doorbell's page is at the start of the window; b has set up no interrupt.
    expect(new Engine(b.device).write(0x800_0040, DATA)).toBe(false);
  });

  test("a VMID brings nothing of its former guest", () => {
    const [a, b] = [A, B].map((address) => bind(host, iommufd, address));
    /** A guest whose ASID 5 maps, or does not map, a page; its function writes there. */
    const guest = ({ device, devId }: Bound, at: number, mapped: boolean): boolean => {
      const parent = alloc(devId, HwptAllocFlags.NEST_PARENT);
      const viommu = iommufd.viommuAlloc({ type: 1, devId, hwptId: parent });
      const vdevice = iommufd.vdeviceAlloc({ viommuId: viommu, devId, virtId: 5n });
      const tables = new GuestTables(ram, GPA, at);
      putWords(ram, at + 0x8_0000, tables.context(5));
      tables.map(mapped ? 0x5000 : 0x6000, GPA + 0x9000);
      const hwpt = nested(iommufd, devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + at + 0x8_0000 });
      device.attach(hwpt);
      const written = new Engine(device).write(0x5000, DATA);
      device.detach();
      [hwpt, vdevice, viommu, parent].forEach((id) => iommufd.destroy(id));
      return written;
    };
    expect(guest(a, 0x10_0000, true)).toBe(true);
    expect(guest(b, 0x20_0000, false)).toBe(false);
  });
});

describe("the entry of a nested function", () => {
  test("has the parent's stage 2 and the guest's stage 1, field by field", () => {
    const a = bind(host, iommufd, A);
    const parent = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parent });
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    const entries = watchEntries();
    a.device.attach(parent);
    const [stage2] = entries.splice(0);
    expect(stage2.words[0]).toBe(1 | (6 << 1));
    // S2T0SZ = 64 - 44, SL0 = 2 (level 0), WBWA, inner shareable, 4K, S2PS = 4 (44 bits), AA64, PTW, R.
    expect(stage2.words[5]).toBe(20 | (2 << 6) | (1 << 8) | (1 << 10) | (3 << 12) | (0 << 14) | (4 << 16) | (1 << 19) | (1 << 22) | (1 << 26));
    expect(stage2.words[4], "the parent's VMID").toBe(1);
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1FMT: 2, S1CONTEXTPTR: 0x1_2345_6000, S1CDMAX: 9, S1DSS: 1, S1CIR: 3, S1COR: 2, S1CSH: 1, S1STALLD: 1 }));
    const [translate] = entries.splice(0);
    expect(translate.words[0] >>> 0).toBe((0x2345_6000 | (2 << 4) | (7 << 1) | 1) >>> 0);
    expect(translate.words[1] >>> 0).toBe(((9 << 27) | 1) >>> 0);
    // The guest's fields, MEV of the kernel.
    expect(translate.words[2]).toBe(1 | (3 << 2) | (2 << 4) | (1 << 6) | (1 << 27) | (1 << 19));
    expect(translate.words[4], "the vSMMU's VMID is its parent's").toBe(1);
    expect([...translate.words.subarray(5, 8)]).toEqual([...stage2.words.subarray(5, 8)]);
    expect([...translate.words.subarray(8)]).toEqual(Array(8).fill(0));
  });

  test("changes in one write, seen by CFGI_STE and SYNC, without a word in between that is open", () => {
    const a = bind(host, iommufd, A);
    const parent = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parent });
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    const hwpts = [4, 0, 5].map((config) => nested(iommufd, a.devId, viommu, { V: 1, CONFIG: config, S1CONTEXTPTR: config === 5 ? GPA : 0 }));
    const entries = watchEntries();
    const steps = [parent, ...hwpts, parent, hwpts[2], hwpts[0]];
    for (const ptId of steps) {
      a.device.attach(ptId);
    }
    a.device.detach();
    expect(entries.map(({ words }) => (words[0] >>> 1) & 7)).toEqual([6, 6, 0, 7, 6, 7, 6, 0]);
    for (const { words, commands } of entries) {
      expect(words[0] & 1).toBe(1);
      expect(commands.slice(0, 2)).toEqual([OP.CFGI_STE, OP.SYNC]);
    }
    a.device.attach(parent);
    const count = entries.length;
    a.device.attach(parent);
    expect(entries.length, "the same table again is no change").toBe(count);
  });

  test("has no ATS where the function has none, whatever the guest asks for", () => {
    const a = bind(host, iommufd, A);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: alloc(a.devId, HwptAllocFlags.NEST_PARENT) });
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA, EATS: 1 }));
    const entry = host.hardware.smmus.get(SMMU0)!.readSte(0x100);
    expect([get(entry, STE.CONFIG), get(entry, STE.EATS)]).toEqual([7, 0]);
    expect(host.hardware.functions.get(A)!.atsEnabled).toBe(false);
  });

  test("with V = 0 aborts", () => {
    const a = bind(host, iommufd, A);
    const parent = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parent });
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 0, CONFIG: 5 }));
    expect(new Engine(a.device).write(GPA, DATA)).toBe(false);
  });
});

describe("HWPT_ALLOC", () => {
  test("refuses what does not go together", () => {
    const a = bind(host, iommufd, A);
    const { NEST_PARENT, PASID, FAULT_ID_VALID } = HwptAllocFlags;
    const fault = iommufd.faultQueueAlloc();
    const request = { flags: 0, devId: a.devId, ptId: ioas, dataType: 0, data: NONE };
    expect(errno(() => alloc(a.devId, NEST_PARENT | PASID))).toBe("EOPNOTSUPP");
    expect(errno(() => iommufd.hwptAlloc({ ...request, flags: NEST_PARENT | FAULT_ID_VALID, faultId: fault.id }))).toBe("EOPNOTSUPP");
    expect(errno(() => iommufd.hwptAlloc({ ...request, flags: FAULT_ID_VALID, faultId: 99 }))).toBe("ENOENT");
    expect(errno(() => iommufd.hwptAlloc({ ...request, devId: 99 }))).toBe("ENOENT");
    expect(errno(() => iommufd.hwptAlloc({ ...request, ptId: 99 }))).toBe("EINVAL");
    expect(errno(() => iommufd.hwptAlloc({ ...request, ptId: a.devId }))).toBe("EINVAL");
    expect(errno(() => iommufd.hwptAlloc({ ...request, dataType: 2 }))).toBe("EINVAL");
    expect(errno(() => iommufd.hwptAlloc({ ...request, data: new Uint8Array(16) }))).toBe("EINVAL");
    expect(errno(() => iommufd.hwptAlloc({ ...request, dataType: 2, data: new Uint8Array(16) }))).toBe("EOPNOTSUPP");
    expect(types().filter((type) => type.startsWith("hwpt"))).toEqual([]);
    const withFault = iommufd.hwptAlloc({ ...request, flags: FAULT_ID_VALID, faultId: fault.id });
    fault.stream.close();
    expect(errno(() => iommufd.destroy(fault.id))).toBe("EBUSY");
    iommufd.destroy(withFault);
    iommufd.destroy(fault.id);
  });

  test("takes nested data of its structure's length alone", () => {
    const a = bind(host, iommufd, A);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: alloc(a.devId, HwptAllocFlags.NEST_PARENT) });
    const request = { flags: 0, devId: a.devId, ptId: viommu, dataType: 2 };
    const long = new Uint8Array(24);
    long[0] = 1;
    expect(errno(() => iommufd.hwptAlloc({ ...request, data: long.subarray(0, 16) }))).toBe("ok");
    expect(errno(() => iommufd.hwptAlloc({ ...request, data: long })), "zeros behind it").toBe("EINVAL");
    long[20] = 1;
    expect(errno(() => iommufd.hwptAlloc({ ...request, data: long }))).toBe("EINVAL");
    expect(errno(() => iommufd.hwptAlloc({ ...request, data: new Uint8Array(8) }))).toBe("EINVAL");
    expect(errno(() => iommufd.hwptAlloc({ ...request, dataType: 0, data: NONE }))).toBe("EOPNOTSUPP");
  });

  test("an SMMU with an erratum of nesting makes no parent", () => {
    for (const smmu of [{ errata: ["arm-2812531" as const] }, { iidr: 0x4831_043b }, { iidr: 0x4870_143b }]) {
      host.close();
      start(smmu);
      const a = bind(host, iommufd, A);
      expect(errno(() => alloc(a.devId, HwptAllocFlags.NEST_PARENT)), JSON.stringify(smmu)).toBe("EOPNOTSUPP");
    }
    host.close();
    start({ iidr: 0x4871_143b });
    expect(errno(() => alloc(bind(host, iommufd, A).devId, HwptAllocFlags.NEST_PARENT))).toBe("ok");
  });

  test("an SMMU without the kernel's page size has no tables", () => {
    host.close();
    start({ idr5: 0x44 });
    const a = bind(host, iommufd, A);
    expect(errno(() => alloc(a.devId, HwptAllocFlags.NEST_PARENT))).toBe("EINVAL");
    expect(errno(() => a.device.attach(ioas))).toBe("EINVAL");
  });

  test("tables cost next to nothing for memory that is aligned", () => {
    const a = bind(host, iommufd, A);
    const big = host.allocateMemory("big", 8 * 0x4000_0000);
    map(iommufd, ioas, big, 0x1_0000_0000);
    const hwptId = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    // 44 bits from level 0 (256 bytes), level 1 with eight blocks, level 2 for the 4 MiB at 1 GiB.
    expect(host.kernel.tableAccounts()).toEqual([{ hwptId, stage: 2, tableBytes: 256 + 2 * 4096, mappedBytes: 8 * 0x4000_0000 + 0x40_0000 }]);
  });

  test("VMIDs run out", () => {
    host.close();
    // Without VMID16: 8 bits.
    start({ idr0: 0x0d40_101b });
    const a = bind(host, iommufd, A);
    const parents = Array.from({ length: 255 }, () => alloc(a.devId, HwptAllocFlags.NEST_PARENT, iommufd.ioasAlloc()));
    expect(errno(() => alloc(a.devId, HwptAllocFlags.NEST_PARENT))).toBe("ENOSPC");
    expect(errno(() => iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parents[0] })), "it has its parent's").toBe("ok");
    iommufd.destroy(parents[100]);
    expect(errno(() => alloc(a.devId, HwptAllocFlags.NEST_PARENT))).toBe("ok");
  });
});

describe("PASIDs", () => {
  /** SSIDSIZE 20; CD2L, without which the kernel uses 10 bits. */
  const PASIDS = { idr0: 0x0d4c_101b, idr1: 0x0273_0010 | (20 << 6) };

  test("have tables of their own, replaced and blocked one by one", () => {
    host.close();
    start(PASIDS, { pasidBits: 20 });
    const a = bind(host, iommufd, A);
    const engine = new Engine(a.device);
    const info = iommufd.getHwInfo(a.devId);
    expect(info.maxPasidLog2).toBe(20);
    expect(info.capabilities & (HwCapabilities.PCI_PASID_EXEC | HwCapabilities.PCI_PASID_PRIV)).toBe(6);
    const other = iommufd.ioasAlloc();
    map(iommufd, other, ram, 0x9000_0000);
    const [base, one, two] = [ioas, ioas, other].map((ptId) => alloc(a.devId, HwptAllocFlags.PASID, ptId));
    const pages = host.hardware.memory.livePages;
    a.device.attach(base);
    a.device.attach(one, 0x12345);
    expect(engine.write(GPA, DATA, { pasid: 0x12345 })).toBe(true);
    expect(engine.write(GPA, DATA, { pasid: 0x12346 })).toBe(false);
    a.device.attach(two, 0x12345);
    expect(engine.write(GPA, DATA, { pasid: 0x12345 })).toBe(false);
    expect(engine.write(0x9000_0000, DATA, { pasid: 0x12345 })).toBe(true);
    expect(engine.write(GPA, DATA)).toBe(true);
    expect(errno(() => iommufd.destroy(two))).toBe("EBUSY");
    // Blocked without PASID, not with.
    a.device.detach();
    expect(engine.write(GPA, DATA)).toBe(false);
    expect(engine.write(0x9000_0000, DATA, { pasid: 0x12345 })).toBe(true);
    a.device.detach(0x12345);
    expect(engine.write(0x9000_0000, DATA, { pasid: 0x12345 })).toBe(false);
    expect(host.hardware.memory.livePages).toBe(pages);
    // The context table is gone, and the entry does not lead there any more.
    const entry = host.hardware.smmus.get(SMMU0)!.readSte(0x100);
    expect([get(entry, STE.V), get(entry, STE.CONFIG)]).toEqual([1, 0]);
    iommufd.destroy(two);
  });

  test("that there is no memory for leave nothing behind", () => {
    host.close();
    start(PASIDS, { pasidBits: 20 });
    const a = bind(host, iommufd, A);
    const table = alloc(a.devId, HwptAllocFlags.PASID);
    const { memory } = host.hardware;
    const pages = memory.livePages;
    const allocatePage = memory.allocatePage.bind(memory);
    memory.allocatePage = (bits) => {
      // The first level is made, its leaf is not.
      if (bits === 16) {
        throw new HostError("table memory", "ENOMEM", "made to fail");
      }
      return allocatePage(bits);
    };
    expect(errno(() => a.device.attach(table, 7))).toBe("ENOMEM");
    expect(errno(() => a.device.attach(table))).toBe("ENOMEM");
    expect(memory.livePages).toBe(pages);
    memory.allocatePage = allocatePage;
    a.device.attach(table, 7);
    expect(new Engine(a.device).write(GPA, DATA, { pasid: 7 })).toBe(true);
  });

  test("may be attached while the function itself is blocked", () => {
    host.close();
    start(PASIDS, { pasidBits: 20 });
    const a = bind(host, iommufd, A);
    const engine = new Engine(a.device);
    const table = alloc(a.devId, HwptAllocFlags.PASID);
    a.device.attach(table, 7);
    expect(engine.write(GPA, DATA, { pasid: 7 })).toBe(true);
    expect(engine.write(GPA, DATA)).toBe(false);
    a.device.attach(table);
    expect(engine.write(GPA, DATA)).toBe(true);
    expect(engine.write(GPA, DATA, { pasid: 7 })).toBe(true);
  });

  test("with ATS: the function's cache loses what is unmapped, replaced or detached, PASID by PASID", () => {
    host.close();
    start({ ...PASIDS, idr0: PASIDS.idr0 | (1 << 10) }, { pasidBits: 20, ats: true });
    const a = bind(host, iommufd, A);
    const hardware = host.hardware.functions.get(A)!;
    const engine = new Engine(a.device);
    const other = iommufd.ioasAlloc();
    const [base, one, two] = [ioas, ioas, other].map((ptId) => alloc(a.devId, HwptAllocFlags.PASID, ptId));
    a.device.attach(base);
    a.device.attach(one, 7);
    const cached = (pasid?: number): boolean => engine.write(GPA, DATA, { ats: true, pasid });
    expect([cached(), cached(7), hardware.cachedTranslations]).toEqual([true, true, 2]);
    iommufd.ioasUnmap(ioas, BigInt(GPA), 0x40_0000n);
    expect([cached(), cached(7), hardware.cachedTranslations]).toEqual([false, false, 0]);
    map(iommufd, ioas, ram, GPA);
    expect([cached(), cached(7)]).toEqual([true, true]);
    a.device.attach(two, 7);
    expect([cached(), cached(7)]).toEqual([true, false]);
    map(iommufd, other, ram, GPA);
    expect([cached(), cached(7)]).toEqual([true, true]);
    iommufd.ioasUnmap(other, BigInt(GPA), 0x40_0000n);
    expect([cached(), cached(7)]).toEqual([true, false]);
    a.device.attach(one, 7);
    expect(cached(7)).toBe(true);
    a.device.detach(7);
    expect([cached(), cached(7)]).toEqual([true, false]);
  });

  test("need a table of the function's own SMMU", () => {
    host.close();
    start(PASIDS, { pasidBits: 20 });
    const [a, c] = [A, OTHER].map((address) => bind(host, iommufd, address));
    const table = alloc(c.devId, HwptAllocFlags.PASID);
    expect(errno(() => a.device.attach(table, 3))).toBe("EINVAL");
  });

  test("need tables made for them, and do not mix with nesting", () => {
    host.close();
    start(PASIDS, { pasidBits: 8 });
    const a = bind(host, iommufd, A);
    const plain = alloc(a.devId, 0);
    const shared = alloc(a.devId, HwptAllocFlags.PASID);
    const parent = alloc(a.devId, HwptAllocFlags.NEST_PARENT);
    expect(errno(() => a.device.attach(plain, 3))).toBe("EINVAL");
    expect(errno(() => a.device.attach(ioas, 3))).toBe("EINVAL");
    expect(errno(() => a.device.attach(99, 3))).toBe("ENOENT");
    expect(errno(() => a.device.attach(shared, 256))).toBe("EINVAL");
    expect(errno(() => a.device.attach(shared, 2 ** 31))).toBe("ENOSPC");
    // PASID 0 is the function itself, attached by whoever comes first.
    a.device.attach(shared, 0);
    a.device.attach(plain, 0);
    expect(errno(() => iommufd.destroy(plain))).toBe("EBUSY");
    a.device.detach(0);
    a.device.attach(plain);
    expect(errno(() => a.device.attach(shared, 0))).toBe("EBUSY");
    a.device.detach(0);
    expect(errno(() => iommufd.destroy(plain)), "detached as PASID it is not").toBe("EBUSY");
    expect(errno(() => a.device.attach(shared, 3))).toBe("EINVAL");
    a.device.attach(shared);
    a.device.attach(shared, 3);
    expect(errno(() => a.device.attach(plain))).toBe("EINVAL");
    expect(errno(() => a.device.attach(parent))).toBe("EINVAL");
    a.device.detach(3);
    a.device.attach(parent);
  });

  test("of a function that has none are attached all the same, and hold their tables", () => {
    const a = bind(host, iommufd, A);
    const plain = alloc(a.devId, 0);
    const shared = alloc(a.devId, HwptAllocFlags.PASID);
    a.device.attach(shared, 2 ** 20);
    expect(errno(() => iommufd.destroy(shared))).toBe("EBUSY");
    expect(errno(() => a.device.attach(plain))).toBe("EINVAL");
    a.device.detach(2 ** 20);
    a.device.attach(plain);
    iommufd.destroy(shared);
  });
});

describe("ATS", () => {
  const ATS = { idr0: 0x0d44_141b };

  test("is on for tables of the kernel and off where the function is blocked; unmapping empties the function's cache", () => {
    host.close();
    start(ATS, { ats: true });
    const a = bind(host, iommufd, A);
    const hardware = host.hardware.functions.get(A)!;
    const engine = new Engine(a.device);
    expect(iommufd.getHwInfo(a.devId).capabilities & HwCapabilities.PCI_ATS_NOT_SUPPORTED).toBe(0);
    expect(hardware.atsEnabled).toBe(false);
    const extra = host.allocateMemory("extra", 0x20_0000);
    for (const ptId of [ioas, alloc(a.devId, HwptAllocFlags.NEST_PARENT)]) {
      a.device.attach(ptId);
      expect(hardware.atsEnabled).toBe(true);
      map(iommufd, ioas, extra, 0x9000_0000);
      expect(engine.write(0x9000_0000, DATA, { ats: true })).toBe(true);
      expect(hardware.cachedTranslations).toBeGreaterThan(0);
      iommufd.ioasUnmap(ioas, 0x9000_0000n, 0x20_0000n);
      expect(engine.write(0x9000_0000, DATA, { ats: true })).toBe(false);
    }
    a.device.detach();
    expect(hardware.atsEnabled).toBe(false);
  });

  test("a function that does not answer its invalidation is counted", () => {
    host.close();
    start(ATS, { ats: true });
    const a = bind(host, iommufd, A);
    a.device.attach(ioas);
    const hardware = host.hardware.functions.get(A)!;
    hardware.answersInvalidations = false;
    const errors = (): number => host.kernel.smmuAccounts()[0].commandErrors;
    expect(errors()).toBe(0);
    iommufd.ioasUnmap(ioas, BigInt(GPA), 0x40_0000n);
    expect(errors()).toBe(1);
  });

  test("invalidations go to the functions that a table has now, each followed by a sync", () => {
    host.close();
    start(ATS, { ats: true });
    const [a, b] = [A, B].map((address) => bind(host, iommufd, address));
    const [first, second] = [ioas, iommufd.ioasAlloc()];
    map(iommufd, second, ram, GPA);
    a.device.attach(first);
    b.device.attach(first);
    const seen: Array<[opcode: number, streamId: number]> = [];
    const smmu = host.hardware.smmus.get(SMMU0)!;
    const command = smmu.command.bind(smmu);
    smmu.command = (w0, w1, w2, w3) => {
      seen.push([w0 & 0xff, w1]);
      return command(w0, w1, w2, w3);
    };
    /** StreamIDs of the ATC_INV that unmapping takes. */
    const told = (from: number): number[] => {
      seen.length = 0;
      iommufd.ioasUnmap(from, BigInt(GPA), 0x40_0000n);
      map(iommufd, from, ram, GPA);
      expect(seen.filter(([opcode], i) => opcode === OP.ATC_INV && seen[i + 1][0] !== OP.SYNC)).toEqual([]);
      return seen.filter(([opcode]) => opcode === OP.ATC_INV).map(([, sid]) => sid);
    };
    expect(told(first)).toEqual([0x100, 0x200]);
    a.device.attach(second);
    expect([told(first), told(second)]).toEqual([[0x200], [0x100]]);
    a.device.attach(first);
    b.device.detach();
    expect([told(first), told(second)]).toEqual([[0x100], []]);
  });

  test("is the guest's choice when nested, and its cache the guest's to invalidate", () => {
    host.close();
    start(ATS, { ats: true });
    const a = bind(host, iommufd, A);
    const hardware = host.hardware.functions.get(A)!;
    const engine = new Engine(a.device);
    const viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: alloc(a.devId, HwptAllocFlags.NEST_PARENT) });
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 5n });
    const tables = new GuestTables(ram, GPA, 0x20_0000);
    putWords(ram, 0x10_0000, tables.context(1));
    tables.map(0x5000, GPA + 0x9000);
    const [without, withAts] = [0, 1].map((EATS) => nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + 0x10_0000, EATS }));
    a.device.attach(without);
    expect(hardware.atsEnabled).toBe(false);
    a.device.attach(withAts);
    expect(hardware.atsEnabled).toBe(true);
    expect(engine.write(0x5000, DATA, { ats: true })).toBe(true);
    tables.unmap(0x5000);
    invalidate(iommufd, viommu, encodeCommand(OP.TLBI_NH_ALL, {}));
    expect(engine.write(0x5000, DATA, { ats: true }), "the function's own cache").toBe(true);
    const atc = encodeCommand(OP.ATC_INV, { SID: 5, ATC_SIZE: 52 });
    expect(invalidate(iommufd, viommu, atc)).toEqual({ errno: null, handled: 1 });
    expect(engine.write(0x5000, DATA, { ats: true })).toBe(false);
    const bypass = nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 4, EATS: 1 });
    a.device.attach(bypass);
    expect(hardware.atsEnabled, "the kernel's own to invalidate").toBe(true);
  });
});
