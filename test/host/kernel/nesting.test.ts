import { afterEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HwptAllocFlags, VeventqType, ViommuType, type Iommufd } from "../../../src/iommufd/index.js";
import type { RamBlock } from "../../../src/memory/index.js";
import { EVENT, OP } from "../../../src/smmuv3/spec/index.js";
import { A, B, bind, type Bound, encodeCommand, Engine, errno, GuestTables, invalidate, makeHost, map, nested, putWords } from "./rig.js";

const GPA = 0x4000_0000;
const RAM = 0x400_0000;
const CD_AT = 0x10_0000;
const TABLES_AT = 0x20_0000;

/** A machine: RAM mapped, a nesting parent, a vIOMMU, function A attached to the parent. */
class Machine {
  readonly iommufd: Iommufd;
  readonly ram: RamBlock;
  readonly ioas: number;
  readonly a: Bound;
  readonly parent: number;
  readonly viommu: number;
  readonly tables: GuestTables;
  readonly engine: Engine;

  constructor(readonly host: SimulatedHost) {
    this.iommufd = host.openIommufd();
    this.ram = host.allocateMemory("ram", RAM);
    this.ioas = this.iommufd.ioasAlloc();
    map(this.iommufd, this.ioas, this.ram, GPA);
    this.a = bind(host, this.iommufd, A);
    this.engine = new Engine(this.a.device);
    this.parent = this.iommufd.hwptAlloc({
      flags: HwptAllocFlags.NEST_PARENT,
      devId: this.a.devId,
      ptId: this.ioas,
      dataType: 0,
      data: new Uint8Array(0),
    });
    this.a.device.attach(this.parent);
    this.viommu = this.iommufd.viommuAlloc({ type: ViommuType.ARM_SMMUV3, devId: this.a.devId, hwptId: this.parent });
    this.tables = new GuestTables(this.ram, GPA, TABLES_AT);
    putWords(this.ram, CD_AT, this.tables.context(5));
  }

  /** vDEVICE and translating attach. */
  translate(bound: Bound = this.a, virtId = 0x10n, cd = CD_AT): number {
    this.iommufd.vdeviceAlloc({ viommuId: this.viommu, devId: bound.devId, virtId });
    const hwpt = nested(this.iommufd, bound.devId, this.viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + cd, S1CIR: 1, S1COR: 1, S1CSH: 3 });
    bound.device.attach(hwpt);
    return hwpt;
  }

  at(offset: number, length = 4): number[] {
    const out = new Uint8Array(length);
    this.ram.read(offset, out);
    return [...out];
  }
}

const DATA = Uint8Array.of(1, 2, 3, 4);
let host: SimulatedHost | undefined;
afterEach(() => {
  host?.close();
  host = undefined;
});

function machine(smmu = {}, fn = {}): Machine {
  host = makeHost(smmu, fn);
  return new Machine(host);
}

describe("a nested function", () => {
  test("goes through stage 2 alone on the parent and on a bypass entry, nowhere on abort and detached", () => {
    const m = machine();
    expect(m.engine.write(GPA + 0x5000, DATA)).toBe(true);
    expect(m.at(0x5000)).toEqual([1, 2, 3, 4]);
    const bypass = nested(m.iommufd, m.a.devId, m.viommu, { V: 1, CONFIG: 4 });
    const abort = nested(m.iommufd, m.a.devId, m.viommu, { V: 1, CONFIG: 0 });
    m.a.device.attach(bypass);
    expect(m.engine.write(GPA + 0x6000, DATA)).toBe(true);
    m.a.device.attach(abort);
    expect(m.engine.write(GPA + 0x7000, DATA)).toBe(false);
    m.a.device.attach(bypass);
    expect(m.engine.write(GPA + 0x7000, DATA)).toBe(true);
    m.a.device.detach();
    expect(m.engine.write(GPA + 0x8000, DATA)).toBe(false);
    expect(m.at(0x8000)).toEqual([0, 0, 0, 0]);
  });

  test("translates by the guest's tables, keeps a stale translation until it is invalidated, and then faults into the vEVENTQ", async () => {
    const m = machine();
    const queue = m.iommufd.veventqAlloc({ viommuId: m.viommu, type: VeventqType.ARM_SMMUV3, depth: 8 });
    m.tables.map(0x1234_5000, GPA + 0x9000);
    m.translate();
    expect(m.engine.write(0x1234_5004, DATA)).toBe(true);
    expect(m.at(0x9004)).toEqual([1, 2, 3, 4]);
    m.tables.unmap(0x1234_5000);
    expect(m.engine.write(0x1234_5008, DATA), "stale").toBe(true);
    const done = invalidate(m.iommufd, m.viommu, encodeCommand(OP.TLBI_NH_VA, { VMID: 0, ASID: 5, ADDRESS: 0x1234_5000n }));
    expect(done).toEqual({ errno: null, handled: 1 });
    let woken = 0;
    queue.stream.onReadable(() => woken++);
    expect(m.engine.write(0x1234_500c, DATA)).toBe(false);
    expect(woken, "not from within DMA").toBe(0);
    await Promise.resolve();
    expect(woken).toBe(1);
    const record = queue.stream.read(4096)!;
    const view = new DataView(record.buffer);
    expect(record.length).toBe(40);
    expect(view.getUint32(0, true)).toBe(0);
    expect(view.getUint32(4, true)).toBe(0);
    expect(view.getUint8(8)).toBe(EVENT.F_TRANSLATION);
    expect(view.getUint32(12, true), "the guest's StreamID").toBe(0x10);
    expect(view.getUint32(24, true)).toBe(0x1234_500c);
    expect(queue.stream.read(4096)).toBeNull();
  });

  test.each([
    ["on one parent share their VMID, so one sees the other's translations", true],
    ["on parents of their own do not, and invalidations reach only their own guest's", false],
  ])("two vIOMMUs %s", (_what, shared) => {
    const m = machine();
    const b = bind(host!, m.iommufd, B);
    const parent = shared
      ? m.parent
      : m.iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId: b.devId, ptId: m.ioas, dataType: 0, data: new Uint8Array(0) });
    const other = m.iommufd.viommuAlloc({ type: 1, devId: b.devId, hwptId: parent });
    const tables = new GuestTables(m.ram, GPA, 0x30_0000);
    putWords(m.ram, 0x11_0000, tables.context(5));
    m.tables.map(0x5000, GPA + 0x9000);
    tables.map(0x5000, GPA + 0xa000);
    m.translate();
    m.iommufd.vdeviceAlloc({ viommuId: other, devId: b.devId, virtId: 0x10n });
    b.device.attach(nested(m.iommufd, b.devId, other, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + 0x11_0000 }));
    const engineB = new Engine(b.device);
    expect(m.engine.write(0x5000, DATA)).toBe(true);
    expect(engineB.write(0x5004, DATA), "the same ASID and address in another SMMU of the guest").toBe(true);
    if (shared) {
      expect(m.at(0x9000, 8)).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
      expect(m.at(0xa000, 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
      return;
    }
    expect(m.at(0x9000, 8)).toEqual([1, 2, 3, 4, 0, 0, 0, 0]);
    expect(m.at(0xa000, 8)).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
    m.tables.unmap(0x5000);
    tables.unmap(0x5000);
    invalidate(m.iommufd, other, encodeCommand(OP.TLBI_NSNH_ALL, {}));
    expect(m.engine.write(0x5000, DATA), "not invalidated").toBe(true);
    expect(engineB.write(0x5000, DATA)).toBe(false);
  });

  test("unmapping from the IOAS ends access at once, whatever the guest's tables say", () => {
    const m = machine();
    const extra = m.host.allocateMemory("extra", 0x20_0000);
    map(m.iommufd, m.ioas, extra, 0x8000_0000);
    m.tables.map(0x5000, 0x8000_0000);
    m.translate();
    expect(m.engine.write(0x5000, DATA)).toBe(true);
    expect(m.iommufd.ioasUnmap(m.ioas, 0x8000_0000n, 0x20_0000n)).toBe(0x20_0000n);
    expect(m.engine.write(0x5000, DATA)).toBe(false);
    // A stage-2 fault is the host's own affair.
    expect(host!.kernel.smmuAccounts()[0].unhandledEvents.get(EVENT.F_TRANSLATION)).toBe(1);
  });

  test("a failed attach leaves the old table in force", () => {
    const m = machine();
    const translating = nested(m.iommufd, m.a.devId, m.viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + CD_AT });
    expect(errno(() => m.a.device.attach(translating))).toBe("ENOENT");
    expect(m.engine.write(GPA + 0x5000, DATA)).toBe(true);
  });
});

describe("a host that does not nest", () => {
  const nestParent = (iommufd: Iommufd, devId: number): number =>
    iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: iommufd.ioasAlloc(), dataType: 0, data: new Uint8Array(0) });

  test.each([
    ["without coherent access", { coherent: false }, "ok", "EOPNOTSUPP"],
    ["without it, and with IDR3.FWB: stage 2 forces memory to be write-back", { coherent: false, idr3: 0x1514 }, "ok", "ok"],
    ["with stage 2 alone", { idr0: 0x0d44_1019 }, "EOPNOTSUPP", ""],
    ["with stage 1 alone", { idr0: 0x0d44_101a }, "EOPNOTSUPP", ""],
  ])("an SMMU %s: parent and vIOMMU", (_what, smmu, parent, viommu) => {
    const other = makeHost(smmu);
    const iommufd = other.openIommufd();
    const devId = other.openDevice(A).bind(iommufd.fd);
    let hwptId = 0;
    expect(errno(() => (hwptId = nestParent(iommufd, devId)))).toBe(parent);
    if (viommu !== "") {
      expect(errno(() => iommufd.viommuAlloc({ type: ViommuType.ARM_SMMUV3, devId, hwptId }))).toBe(viommu);
    }
    other.close();
  });
});
