/** The unit by itself: what it makes of descriptors, and of functions that do not answer. */
import { describe, expect, test } from "vitest";
import { INVALIDATION_TIMEOUT } from "../../../src/host/simulated/index.js";
import { observeHost, HostObserver } from "../../../src/host/instruments/index.js";
import { A, bind, DATA, errno, GPA, GuestTables, LEGACY, nested, readText, Rig } from "./rig.js";

/** IQERCD.IQEI (11.4.8.9). */
const INVALID_TYPE = 3;
const RESERVED_FIELD = 4;

describe("descriptors", () => {
  test("of unknown types, with reserved bits set, or of the other mode are refused", () => {
    const scalable = new Rig().unit();
    const legacy = new Rig(LEGACY).unit();
    expect([0, 0xa, 0xf, 0x201].map((word) => scalable.submit(word, 0, 0, 0))).toEqual([INVALID_TYPE, INVALID_TYPE, INVALID_TYPE, INVALID_TYPE]);
    expect([6, 7, 8].map((word) => legacy.submit(word | 0x20, 0, 0, 0))).toEqual([INVALID_TYPE, INVALID_TYPE, INVALID_TYPE]);
    expect([6, 7, 8].map((word) => scalable.submit(word | 0x20, 0, 0, 0) === INVALID_TYPE)).toEqual([false, false, false]);
    expect(scalable.submit(0x12, 1, 0, 0)).toBe(RESERVED_FIELD);
    expect(scalable.submit(0x5, 0, 1, 0)).toBe(RESERVED_FIELD);
    // Context cache, IOTLB, PASID cache: global; interrupt entries.
    expect([0x11, 0x12, 0x37, 0x4].map((word) => scalable.submit(word, 0, 0, 0))).toEqual([0, 0, 0, 0]);
  });

  test("are judged as a guest's queue judges them: granularities, address masks, capabilities, waits for nothing", () => {
    const unit = new Rig().unit();
    expect([0x1, 0x2, 0x27, 0x16, 0x5].map((word) => unit.submit(word, 0, 0, 0))).toEqual(Array(5).fill(RESERVED_FIELD));
    // CAP.MAMV of the unit.
    const most = Number((unit.cap >> 48n) & 0x3fn);
    expect([most, most + 1].map((mask) => unit.submit(0x1_0032, 0, mask, 0))).toEqual([0, RESERVED_FIELD]);
    expect(new Rig({ deviceTlb: false }).unit().submit(0x3, 0x1700, 0, 0)).toBe(INVALID_TYPE);
  });

  test("of a wait write their status", () => {
    const rig = new Rig();
    const address = rig.ram.hostAddress + DATA;
    expect(rig.unit().submit(0x25, 0x1234_5678, address | 0, Math.floor(address / 2 ** 32))).toBe(0);
    expect(rig.text(DATA, 4)).toBe("xV4\u0012");
  });

  test("a function that does not answer makes the next wait time out, once", () => {
    const rig = new Rig();
    const a = rig.bind();
    a.device.attach(rig.ioas);
    rig.host.hardware.functions.get(A)!.answersInvalidations = false;
    const unit = rig.unit();
    expect(unit.submit(0x3, 0x1700, 0, 0)).toBe(0);
    // FN: a wait has to say what it is for.
    expect([unit.submit(0x45, 0, 0, 0), unit.submit(0x45, 0, 0, 0)]).toEqual([INVALIDATION_TIMEOUT, 0]);
    rig.iommufd.ioasUnmap(rig.ioas, BigInt(GPA), BigInt(rig.ram.size));
    expect(rig.host.kernel.vtdAccounts()[0].commandErrors).toBe(1);
  });
});

describe("device TLBs", () => {
  test.each([
    // Offset, with S in bit 0: the lowest clear bit from bit 12 on tells the size.
    ["a page", 0x1000, [1]],
    ["two pages", 0x0001, [0, 1]],
    ["four pages", 0x1001, [0, 1, 2, 3]],
    ["eight pages", 0x3001, [0, 1, 2, 3, 4, 5, 6, 7]],
  ] as const)("forget %s", (_what, offset, forgotten) => {
    const rig = new Rig();
    // Pages of 4 KiB: translations of one page each.
    rig.iommufd.ioasUnmap(rig.ioas, 0n, (1n << 64n) - 1n);
    rig.iommufd.option(1, "set", rig.ioas, 0n);
    rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress }, length: 0x1_0000n, iova: BigInt(GPA), readable: true, writable: true });
    const a = rig.bind();
    a.device.attach(rig.ioas);
    const fn = rig.host.hardware.functions.get(A)!;
    for (let page = 0; page < 16; page++) {
      readText(a, GPA + page * 0x1000, 1, { ats: true });
    }
    rig.unit().submit(0x3, 0x1700, GPA + offset, 0);
    const before = fn.counters.translationRequests;
    const asked: number[] = [];
    for (let page = 0; page < 16; page++) {
      const count = fn.counters.translationRequests;
      readText(a, GPA + page * 0x1000, 1, { ats: true });
      if (fn.counters.translationRequests > count) {
        asked.push(page);
      }
    }
    expect(asked).toEqual(forgotten);
    expect(fn.counters.translationRequests - before).toBe(forgotten.length);
  });
});

describe("counters", () => {
  test("tell walks from hits, and blocked requests", () => {
    const rig = new Rig();
    const a = rig.bind();
    a.device.attach(rig.ioas);
    const { counters } = rig.unit();
    const before = { ...counters };
    readText(a, GPA + DATA, 4);
    readText(a, GPA + DATA + 8, 4);
    readText(a, GPA - 0x1000, 4);
    expect([counters.transactions - before.transactions, counters.walks - before.walks, counters.tlbHits - before.tlbHits, counters.faults - before.faults]).toEqual([3, 2, 1, 1]);
    expect(counters.events - before.events).toBe(1);
  });
});

describe("a host under observation", () => {
  test("has every call of VT-d's counted and made to fail, with the old table in force and nothing left", () => {
    const rig = new Rig();
    const observer = new HostObserver();
    const host = observeHost(rig.host, observer);
    const pages = rig.host.hardware.memory.livePages;
    const iommufd = host.openIommufd();
    const a = bind(host, iommufd, A);
    const ioasId = iommufd.ioasAlloc();
    iommufd.ioasMap({ ioasId, source: { address: rig.ram.hostAddress }, length: BigInt(rig.ram.size), iova: BigInt(GPA), readable: true, writable: true });
    const alloc = (ptId: number, flags: number, dataType: number, data: Uint8Array): number => iommufd.hwptAlloc({ flags, devId: a.devId, ptId, dataType, data });
    const parent = alloc(ioasId, 1, 0, new Uint8Array(0));
    const tables = new GuestTables(rig.ram);
    tables.map(0x1000, GPA + DATA);
    rig.put(DATA, "text");
    const table = nested(iommufd, a.devId, parent, tables);
    const faults = host.vtdFaults!.open(iommufd.fd, a.devId);
    a.device.attach(parent);
    observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "ENOMEM" });
    expect(errno(() => a.device.attach(table))).toBe("ENOMEM");
    expect(readText(a, GPA + DATA, 4)).toBe("text");
    a.device.attach(table);
    expect(readText(a, 0x1000, 4)).toBe("text");
    observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO" });
    expect(iommufd.hwptInvalidate({ hwptId: table, dataType: 0, entryLength: 24, entryCount: 1, data: new Uint8Array(24) })).toEqual({ errno: "EIO", handled: 0 });
    faults.close();
    a.device.close();
    for (const id of [table, parent, ioasId]) {
      iommufd.destroy(id);
    }
    iommufd.close();
    expect([observer.created, observer.freed, observer.calls.get("VTD_FAULTS")]).toEqual([4, 4, 1]);
    expect(rig.host.liveObjects().map((object) => object.type)).toEqual(["iommufd", "ioas"]);
    expect(rig.host.hardware.memory.livePages).toBe(pages);
  });
});
