import { describe, expect, test } from "vitest";
import { DIRTY_BITMAP_NO_CLEAR, HwptAllocFlags, HwptDataType } from "../../../src/iommufd/index.js";
import { DATA, errno, GPA, GuestTables, invalidate, readText, Rig, TABLES, writeText } from "./rig.js";

const { DIRTY_TRACKING, PASID } = HwptAllocFlags;
const PAGES = 512;

/** Numbers of the dirty pages from DATA on. */
function dirty(rig: Rig, hwptId: number, flags = 0): number[] {
  const bitmap = new Uint8Array(PAGES / 8);
  rig.iommufd.hwptGetDirtyBitmap({ hwptId, flags, iova: BigInt(GPA + DATA), length: BigInt(PAGES * 4096), pageSize: 4096n, bitmap });
  return [...Array(PAGES).keys()].filter((page) => (bitmap[page >> 3] & (1 << (page & 7))) !== 0);
}

/** An IOAS without large pages: each page has a dirty bit of its own. */
function smallPages(rig: Rig): void {
  rig.iommufd.ioasUnmap(rig.ioas, 0n, (1n << 64n) - 1n);
  rig.iommufd.option(1, "set", rig.ioas, 0n);
  rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress }, length: BigInt(rig.ram.size), iova: BigInt(GPA), readable: true, writable: true });
}

describe("dirty tracking of a nesting parent", () => {
  test("sees writes through the parent and through nested tables, with and without PASID and ATS, and what is cleared stays clean", () => {
    const rig = new Rig();
    smallPages(rig);
    const a = rig.bind();
    const parent = rig.parent(a.devId, DIRTY_TRACKING | PASID);
    expect(errno(() => dirty(rig, parent))).toBe("EINVAL");
    a.device.attach(parent);
    writeText(a, GPA + DATA, "before");
    rig.iommufd.hwptSetDirtyTracking(parent, true);
    expect(dirty(rig, parent)).toEqual([]);
    writeText(a, GPA + DATA + 0x3000, "x");
    writeText(a, GPA + DATA + 0x5000, "x", { ats: true });
    expect(dirty(rig, parent, DIRTY_BITMAP_NO_CLEAR)).toEqual([3, 5]);
    expect([dirty(rig, parent), dirty(rig, parent)]).toEqual([[3, 5], []]);
    const tables = new GuestTables(rig.ram);
    tables.map(0x1000, GPA + DATA + 0x7000);
    tables.map(0x2000, GPA + DATA + 0x8000);
    const nested = rig.nested(a.devId, parent, tables, { hwptFlags: PASID });
    a.device.attach(nested);
    a.device.attach(nested, 9);
    expect(readText(a, 0x2000, 1)).not.toBeNull();
    expect(dirty(rig, parent)).toEqual([]);
    writeText(a, 0x1000, "x");
    expect(dirty(rig, parent)).toEqual([7]);
    // The IOTLB holds a dirty translation; the bit that was cleared has to be set again.
    writeText(a, 0x1000, "x", { pasid: 9 });
    writeText(a, 0x2000, "x", { pasid: 9 });
    expect(dirty(rig, parent)).toEqual([7, 8]);
    writeText(a, 0x1000, "x");
    expect(dirty(rig, parent)).toEqual([7]);
    expect(rig.host.kernel.vtdAccounts()[0]).toMatchObject({ commandErrors: 0 });
  });

  test("stays right while the guest's first stage changes, and while tables are attached and detached", () => {
    const rig = new Rig();
    smallPages(rig);
    const a = rig.bind();
    const parent = rig.parent(a.devId, DIRTY_TRACKING);
    const first = new GuestTables(rig.ram);
    const entry = first.map(0x1000, GPA + DATA + 0x7000);
    const nested = rig.nested(a.devId, parent, first);
    a.device.attach(nested);
    rig.iommufd.hwptSetDirtyTracking(parent, true);
    writeText(a, 0x1000, "x");
    first.store(entry, BigInt(GPA + DATA + 0x9000) | 7n);
    expect(invalidate(rig.iommufd, nested, { addr: 0x1000n, flags: 1 }).errno).toBeNull();
    writeText(a, 0x1000, "x");
    expect(dirty(rig, parent)).toEqual([7, 9]);
    const second = new GuestTables(rig.ram, TABLES + 0x10_0000);
    second.map(0x1000, GPA + DATA + 0xb000);
    a.device.attach(rig.nested(a.devId, parent, second));
    writeText(a, 0x1000, "x");
    a.device.attach(parent);
    writeText(a, GPA + DATA + 0xc000, "x");
    expect(dirty(rig, parent)).toEqual([11, 12]);
    rig.iommufd.hwptSetDirtyTracking(parent, false);
    writeText(a, GPA + DATA + 0xd000, "x");
    expect(errno(() => dirty(rig, parent))).toBe("EINVAL");
    rig.iommufd.hwptSetDirtyTracking(parent, true);
    expect(dirty(rig, parent)).toEqual([]);
  });

  test("makes the guest's tables dirty too: the hardware writes their accessed and dirty bits", () => {
    const rig = new Rig();
    smallPages(rig);
    const a = rig.bind();
    const parent = rig.parent(a.devId, DIRTY_TRACKING);
    const tables = new GuestTables(rig.ram, DATA + 0x10_0000);
    tables.map(0x1000, GPA + DATA);
    a.device.attach(rig.nested(a.devId, parent, tables));
    rig.iommufd.hwptSetDirtyTracking(parent, true);
    readText(a, 0x1000, 1);
    expect(dirty(rig, parent)).toEqual([256, 257, 258, 259]);
  });

  test("of large pages tells of all of one", () => {
    const rig = new Rig();
    const a = rig.bind();
    const table = rig.iommufd.hwptAlloc({ flags: DIRTY_TRACKING, devId: a.devId, ptId: rig.ioas, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
    a.device.attach(table);
    rig.iommufd.hwptSetDirtyTracking(table, true);
    writeText(a, GPA + DATA + 0x3000, "x");
    expect(dirty(rig, table).length).toBe(PAGES);
  });

  test("is refused on tables that were made without it", () => {
    const rig = new Rig();
    const parent = rig.parent(rig.bind().devId);
    expect(errno(() => rig.iommufd.hwptSetDirtyTracking(parent, true))).toBe("EOPNOTSUPP");
    expect(errno(() => dirty(rig, parent))).toBe("EOPNOTSUPP");
  });
});
