import { describe, expect, test } from "vitest";
import { HwptAllocFlags, VTD_FAULT_BYTES, type EventStream } from "../../../src/iommufd/index.js";
import { B, DATA, errno, GPA, GuestTables, readText, Rig, writeText } from "./rig.js";

/** Fields of a fault recording register (Intel VT-d 11.4.7.6), by literal bits. */
interface Fault {
  page: number;
  source: number;
  pasid: number | null;
  reason: number;
  read: boolean;
  valid: boolean;
}

function read(stream: EventStream, maxBytes = 4096): Fault[] {
  const data = stream.read(maxBytes) ?? new Uint8Array(0);
  const view = new DataView(data.buffer);
  return [...Array(data.length / VTD_FAULT_BYTES).keys()].map((i) => {
    const high = view.getBigUint64(i * VTD_FAULT_BYTES + 8, true);
    return {
      page: Number(view.getBigUint64(i * VTD_FAULT_BYTES, true) >> 12n),
      source: Number(high & 0xffffn),
      pasid: (high & (1n << 31n)) === 0n ? null : Number((high >> 40n) & 0xf_ffffn),
      reason: Number((high >> 32n) & 0xffn),
      read: (high & (1n << 62n)) !== 0n,
      valid: (high & (1n << 63n)) !== 0n,
    };
  });
}

function rigWithStream(): { rig: Rig; a: ReturnType<Rig["bind"]>; parent: number; stream: EventStream } {
  const rig = new Rig();
  const a = rig.bind();
  return { rig, a, parent: rig.parent(a.devId, HwptAllocFlags.PASID), stream: rig.host.vtdFaults!.open(rig.iommufd.fd, a.devId) };
}

describe("faults of a guest's first stage", () => {
  test("reach the stream of the function, with PASID, page and reason; those of other tables do as they are, and stay the host's", async () => {
    const { rig, a, parent, stream } = rigWithStream();
    const tables = new GuestTables(rig.ram);
    tables.map(0x1000, GPA + DATA, 0x5n);
    tables.map(0x3000, 0x4000_0000_0000);
    const nested = rig.nested(a.devId, parent, tables, { hwptFlags: HwptAllocFlags.PASID });
    let woken = 0;
    stream.onReadable(() => woken++);
    a.device.attach(nested);
    a.device.attach(nested, 7);
    expect(readText(a, 0x2000, 1)).toBeNull();
    expect(writeText(a, 0x1000, "x", { pasid: 7 })).toBe(false);
    expect(woken, "nobody is called from within DMA").toBe(0);
    await Promise.resolve();
    expect(woken, "once for all that came").toBe(1);
    const source = 0x1700;
    expect(read(stream)).toEqual([
      { page: 2, source, pasid: null, reason: 0x71, read: true, valid: true },
      { page: 1, source, pasid: 7, reason: 0x85, read: false, valid: true },
    ]);
    // The second stage maps nothing there: not the guest's stage.
    expect(readText(a, 0x3000, 1)).toBeNull();
    a.device.attach(parent);
    expect(readText(a, 0x2000, 1)).toBeNull();
    expect(stream.read(4096)?.[12]).toBe(0x79);
    const { unhandledFaults } = rig.host.kernel.vtdAccounts()[0];
    expect([...unhandledFaults.values()].reduce((sum, count) => sum + count, 0)).toBe(2);
  });

  test("whose tables are out of the guest's memory are told as tables that cannot be accessed", () => {
    const { rig, a, parent, stream } = rigWithStream();
    rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress }, length: 0x1000n, iova: 0x1000n, readable: false, writable: true });
    a.device.attach(rig.nested(a.devId, parent, { root: 0x1000 }));
    expect(readText(a, 0x2000, 1)).toBeNull();
    expect(read(stream).map((fault) => fault.reason)).toEqual([0x73]);
    // No memory at all there, for the first table or for another one.
    a.device.attach(rig.nested(a.devId, parent, { root: 0x5000_0000_0000 }));
    expect(readText(a, 0x2000, 1)).toBeNull();
    const tables = new GuestTables(rig.ram);
    rig.ram.write(0x200_0000, Uint8Array.of(7, 0, 0, 0, 0, 0x30, 0, 0));
    a.device.attach(rig.nested(a.devId, parent, tables));
    expect(readText(a, 0x2000, 1)).toBeNull();
    expect(read(stream).map((fault) => fault.reason)).toEqual([0x70, 0x70]);
  });

  test("a queue that nobody reads loses the newest, and says so before the next", () => {
    const { rig, a, parent, stream } = rigWithStream();
    a.device.attach(rig.nested(a.devId, parent, new GuestTables(rig.ram)));
    for (let i = 0; i < 300; i++) {
      readText(a, 0x1000 * (i + 1), 1);
    }
    expect(errno(() => stream.read(VTD_FAULT_BYTES - 1))).toBe("EINVAL");
    expect(read(stream, 3 * VTD_FAULT_BYTES).map((fault) => fault.page)).toEqual([1, 2, 3]);
    readText(a, 0x50_0000, 1);
    const rest = read(stream, 1 << 16);
    expect(rest.length).toBe(255);
    expect(rest.slice(-2).map((fault) => [fault.valid, fault.page])).toEqual([[false, 0], [true, 0x500]]);
  });

  test("one stream a function; closing it, or the device, ends it", () => {
    const { rig, a, stream } = rigWithStream();
    expect(errno(() => rig.host.vtdFaults!.open(rig.iommufd.fd, a.devId))).toBe("EEXIST");
    expect(errno(() => rig.host.vtdFaults!.open(rig.iommufd.fd, 99))).toBe("ENOENT");
    stream.close();
    const again = rig.host.vtdFaults!.open(rig.iommufd.fd, a.devId);
    a.device.close();
    expect(errno(() => again.read(16))).toBe("EBADF");
    const b = rig.bind(B);
    rig.host.vtdFaults!.open(rig.iommufd.fd, b.devId);
    rig.iommufd.close();
    b.device.close();
    expect(rig.host.liveObjects()).toEqual([]);
  });
});
