import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SimulatedHost } from "../../../src/host/simulated/index.js";
import { HwptAllocFlags, VEVENTQ_FLAG_LOST_EVENTS, type EventStream, type Iommufd } from "../../../src/iommufd/index.js";
import { EVENT, fillEvent } from "../../../src/smmuv3/spec/index.js";
import { A, B, bind, type Bound, Engine, errno, GuestTables, makeHost, map, nested, putWords, SMMU0 } from "./rig.js";

const GPA = 0x4000_0000;
let host: SimulatedHost;
let iommufd: Iommufd;
let a: Bound;
let viommu: number;
let translate: number;
beforeEach(() => {
  host = makeHost();
  iommufd = host.openIommufd();
  const ioas = iommufd.ioasAlloc();
  const ram = host.allocateMemory("ram", 0x40_0000);
  map(iommufd, ioas, ram, GPA);
  a = bind(host, iommufd, A);
  const parent = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId: a.devId, ptId: ioas, dataType: 0, data: new Uint8Array(0) });
  viommu = iommufd.viommuAlloc({ type: 1, devId: a.devId, hwptId: parent });
  putWords(ram, 0x10_0000, new GuestTables(ram, GPA, 0x20_0000).context(1));
  translate = nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 5, S1CONTEXTPTR: GPA + 0x10_0000 });
});
afterEach(() => host.close());

function open(depth: number): { id: number; stream: EventStream } {
  return iommufd.veventqAlloc({ viommuId: viommu, type: 1, depth });
}

/** Records as [flags, sequence, low word of the faulting address]. */
function read(stream: EventStream, maxBytes = 4096): number[][] {
  const bytes = stream.read(maxBytes);
  const records: number[][] = [];
  if (bytes !== null) {
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; ) {
      const flags = view.getUint32(at, true);
      const lost = (flags & VEVENTQ_FLAG_LOST_EVENTS) !== 0;
      records.push([flags, view.getUint32(at + 4, true), lost ? -1 : view.getUint32(at + 24, true)]);
      at += lost ? 8 : 40;
    }
  }
  return records;
}

describe("a vEVENTQ", () => {
  test("numbers its events, loses what does not fit, and says so at the end or by a gap", () => {
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 7n });
    const { stream } = open(2);
    a.device.attach(translate);
    const engine = new Engine(a.device);
    const fault = (iova: number): boolean => engine.write(iova, Uint8Array.of(1));
    fault(0x1000);
    fault(0x2000);
    fault(0x3000);
    fault(0x4000);
    expect(read(stream)).toEqual([[0, 0, 0x1000], [0, 1, 0x2000], [1, 3, -1]]);
    expect(stream.read(4080)).toBeNull();
    fault(0x5000);
    fault(0x6000);
    fault(0x7000);
    expect(read(stream, 40), "one record at a time").toEqual([[0, 4, 0x5000]]);
    fault(0x8000);
    expect(read(stream), "the lost one shows as a gap").toEqual([[0, 5, 0x6000], [0, 7, 0x8000]]);
    fault(0x9000);
    expect(errno(() => stream.read(39)), "less than a record").toBe("EINVAL");
    fault(0xa000);
    fault(0xb000);
    expect(read(stream, 80 + 7), "no room for the note of the loss").toEqual([[0, 8, 0x9000], [0, 9, 0xa000]]);
    expect(read(stream, 8)).toEqual([[1, 10, -1]]);
  });

  test("is one of its type on a vIOMMU, which it keeps, as its descriptor keeps it", () => {
    const { id, stream } = open(4);
    expect(errno(() => open(4))).toBe("EEXIST");
    expect(errno(() => iommufd.veventqAlloc({ viommuId: 99, type: 1, depth: 1 }))).toBe("ENOENT");
    expect(errno(() => iommufd.veventqAlloc({ viommuId: viommu, type: 0, depth: 1 }))).toBe("EOPNOTSUPP");
    expect(errno(() => iommufd.veventqAlloc({ viommuId: viommu, type: 2, depth: 1, flags: 1 }))).toBe("EOPNOTSUPP");
    expect(errno(() => iommufd.destroy(viommu))).toBe("EBUSY");
    expect(errno(() => iommufd.destroy(id))).toBe("EBUSY");
    let woken = 0;
    stream.onReadable(() => woken++);
    stream.close();
    stream.close();
    expect(errno(() => stream.read(100))).toBe("EBADF");
    const vdevice = iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 7n });
    a.device.attach(translate);
    new Engine(a.device).write(0x1000, Uint8Array.of(1));
    expect(woken, "nobody reads any more").toBe(0);
    a.device.detach();
    iommufd.destroy(vdevice);
    iommufd.destroy(id);
    expect(errno(() => iommufd.destroy(id))).toBe("ENOENT");
    iommufd.destroy(translate);
    iommufd.destroy(viommu);
  });

  test("gets the StreamID that the function had when it was attached", () => {
    const vdevice = iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 7n });
    const { stream } = open(8);
    const sid = (): number => new DataView(stream.read(40)!.buffer).getUint32(12, true);
    a.device.attach(translate);
    const engine = new Engine(a.device);
    engine.write(0x1000, Uint8Array.of(1));
    expect(sid()).toBe(7);
    iommufd.destroy(vdevice);
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 9n });
    engine.write(0x1000, Uint8Array.of(1));
    expect(sid()).toBe(7);
    a.device.attach(nested(iommufd, a.devId, viommu, { V: 1, CONFIG: 0 }));
    a.device.attach(translate);
    engine.write(0x1000, Uint8Array.of(1));
    expect(sid()).toBe(9);
  });

  test("gets nothing more of a function that went to a table of the kernel", () => {
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 7n });
    const { stream } = open(8);
    a.device.attach(translate);
    const other = iommufd.ioasAlloc();
    a.device.attach(other);
    new Engine(a.device).write(0x1000, Uint8Array.of(1));
    expect(stream.read(4096)).toBeNull();
    expect(host.kernel.smmuAccounts()[0].unhandledEvents.get(EVENT.F_TRANSLATION)).toBe(1);
  });

  test("gets only what is the guest's: the events that the interface names, of its own functions, not of stage 2", () => {
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 7n });
    const { stream } = open(64);
    a.device.attach(translate);
    const smmu = host.hardware.smmus.get(SMMU0)!;
    const listeners = (smmu as unknown as { listeners: Array<(record: Int32Array) => void> }).listeners;
    const record = new Int32Array(8);
    const passed: number[] = [];
    for (const number of Object.values(EVENT)) {
      fillEvent(record, number, 0x100, -1);
      listeners.forEach((listener) => listener(record));
      const got = stream.read(40);
      if (got !== null) {
        passed.push(got[8]);
      }
    }
    expect(passed).toEqual([EVENT.C_BAD_STE, EVENT.F_STREAM_DISABLED, EVENT.C_BAD_SUBSTREAMID, EVENT.C_BAD_CD, EVENT.F_TRANSLATION, EVENT.F_ADDR_SIZE, EVENT.F_ACCESS, EVENT.F_PERMISSION]);
    // Stage 2; another function; a StreamID of nobody.
    fillEvent(record, EVENT.F_TRANSLATION, 0x100, -1);
    record[3] = 0x80;
    listeners.forEach((listener) => listener(record));
    bind(host, iommufd, B);
    for (const sid of [0x200, 0x7777]) {
      fillEvent(record, EVENT.F_TRANSLATION, sid, -1);
      listeners.forEach((listener) => listener(record));
    }
    expect(stream.read(4096)).toBeNull();
    expect(host.kernel.smmuAccounts()[0].unhandledEvents.get(EVENT.F_TRANSLATION)).toBe(3);
    expect(host.kernel.smmuAccounts()[0].unhandledEvents.get(EVENT.F_WALK_EABT)).toBe(1);
  });

  test("without one the event is counted", () => {
    iommufd.vdeviceAlloc({ viommuId: viommu, devId: a.devId, virtId: 7n });
    a.device.attach(translate);
    new Engine(a.device).write(0x1000, Uint8Array.of(1));
    expect(host.kernel.smmuAccounts()[0].unhandledEvents.get(EVENT.F_TRANSLATION)).toBe(1);
  });
});

test("a fault queue opens, has nothing to read, and is kept by its descriptor", () => {
  const { id, stream } = iommufd.faultQueueAlloc();
  expect(stream.read(4080)).toBeNull();
  expect(errno(() => iommufd.destroy(id))).toBe("EBUSY");
  stream.close();
  iommufd.destroy(id);
});
