/** The unit forgets nothing by itself: with a kind of descriptor kept from it, what it was to drop is still used. */
import { describe, expect, test } from "vitest";
import { HwptAllocFlags } from "../../../src/iommufd/index.js";
import { DATA, GPA, GuestTables, invalidate, LEGACY, readText, Rig, TABLES } from "./rig.js";

/** Types of descriptors (Intel VT-d 6.5.2). */
const CONTEXT = 1;
const IOTLB = 2;
const DEVICE_TLB = 3;
const PASID_IOTLB = 6;
const PASID_CACHE = 7;
const PASID_DEVICE_TLB = 8;

/** Keeps descriptors of some types from the unit. */
function withhold(rig: Rig, types: readonly number[]): void {
  const unit = rig.unit();
  const submit = unit.submit.bind(unit);
  unit.submit = (w0, w1, w2, w3) => (types.includes(w0 & 0xf) ? 0 : submit(w0, w1, w2, w3));
}

function twoPages(rig: Rig): void {
  rig.put(DATA, "old");
  rig.put(DATA + 0x1000, "new");
}

interface Case {
  readonly what: string;
  readonly types: readonly number[];
  readonly unit?: ConstructorParameters<typeof Rig>[0];
  /** Does what fills caches and makes a change under `types`; returns what is read then. */
  readonly run: (rig: Rig, withheld: () => void) => string | null;
  readonly fresh: string | null;
}

const options = { ats: false };
const cases: Case[] = [
  {
    what: "unmapping what a first-stage table of the kernel maps",
    types: [PASID_IOTLB],
    run: (rig, withheld) => unmapped(rig, withheld, "ioas", options),
    fresh: null,
  },
  { what: "unmapping in a nesting parent", types: [IOTLB], run: (rig, withheld) => unmapped(rig, withheld, "parent", options), fresh: null },
  { what: "unmapping below a nested table", types: [IOTLB], run: (rig, withheld) => unmapped(rig, withheld, "nested", options), fresh: null },
  { what: "unmapping, with ATS", types: [DEVICE_TLB], run: (rig, withheld) => unmapped(rig, withheld, "parent", { ats: true }), fresh: null },
  { what: "unmapping below a nested table, with ATS", types: [DEVICE_TLB], run: (rig, withheld) => unmapped(rig, withheld, "nested", { ats: true }), fresh: null },
  { what: "unmapping in legacy mode", types: [IOTLB], unit: LEGACY, run: (rig, withheld) => unmapped(rig, withheld, "ioas", options), fresh: null },
  { what: "another nested table", types: [PASID_CACHE], run: (rig, withheld) => replaced(rig, withheld, undefined, false), fresh: "new" },
  { what: "another nested table of a PASID", types: [PASID_CACHE], run: (rig, withheld) => replaced(rig, withheld, 3, false), fresh: "new" },
  { what: "another nested table, with ATS", types: [DEVICE_TLB], run: (rig, withheld) => replaced(rig, withheld, undefined, true), fresh: "new" },
  { what: "another nested table of a PASID, with ATS", types: [PASID_DEVICE_TLB], run: (rig, withheld) => replaced(rig, withheld, 3, true), fresh: "new" },
  { what: "blocking", types: [PASID_CACHE], run: (rig, withheld) => blocked(rig, withheld), fresh: null },
  { what: "blocking in legacy mode", types: [CONTEXT], unit: LEGACY, run: (rig, withheld) => blocked(rig, withheld), fresh: null },
  { what: "a guest's change", types: [PASID_IOTLB], run: (rig, withheld) => guestChange(rig, withheld, undefined, false), fresh: "new" },
  { what: "a guest's change for a PASID", types: [PASID_IOTLB], run: (rig, withheld) => guestChange(rig, withheld, 3, false), fresh: "new" },
  { what: "a guest's change, with ATS", types: [DEVICE_TLB], run: (rig, withheld) => guestChange(rig, withheld, undefined, true), fresh: "new" },
  { what: "a guest's change for a PASID, with ATS", types: [PASID_DEVICE_TLB], run: (rig, withheld) => guestChange(rig, withheld, 3, true), fresh: "new" },
];

function unmapped(rig: Rig, withheld: () => void, how: "ioas" | "parent" | "nested", { ats }: { ats: boolean }): string | null {
  const a = rig.bind();
  const tables = new GuestTables(rig.ram);
  tables.map(0x1000, 0x1000_0000);
  // A page of the IOAS of its own; the guest's tables stay mapped.
  rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress + DATA }, length: 0x1000n, iova: 0x1000_0000n, readable: true, writable: true });
  const parent = how === "ioas" ? rig.ioas : rig.parent(a.devId);
  a.device.attach(how === "nested" ? rig.nested(a.devId, parent, tables) : parent);
  const iova = how === "nested" ? 0x1000 : 0x1000_0000;
  expect(readText(a, iova, 3, { ats })).toBe("old");
  withheld();
  rig.iommufd.ioasUnmap(rig.ioas, 0x1000_0000n, 0x1000n);
  return readText(a, iova, 3, { ats });
}

function replaced(rig: Rig, withheld: () => void, pasid: number | undefined, ats: boolean): string | null {
  const a = rig.bind();
  const parent = rig.parent(a.devId, HwptAllocFlags.PASID);
  const nested = [0, 1].map((i) => {
    const tables = new GuestTables(rig.ram, TABLES + i * 0x10_0000);
    tables.map(0x1000, GPA + DATA + i * 0x1000);
    return rig.nested(a.devId, parent, tables, { hwptFlags: HwptAllocFlags.PASID });
  });
  a.device.attach(nested[0], pasid);
  expect(readText(a, 0x1000, 3, { pasid, ats })).toBe("old");
  withheld();
  a.device.attach(nested[1], pasid);
  return readText(a, 0x1000, 3, { pasid, ats });
}

function blocked(rig: Rig, withheld: () => void): string | null {
  const a = rig.bind();
  a.device.attach(rig.ioas);
  expect(readText(a, GPA + DATA, 3)).toBe("old");
  withheld();
  a.device.detach();
  // The table is gone, so data cannot tell; the reason of the fault does: 0x02 and 0x59 are an entry that is not present.
  const unit = rig.unit();
  const reasons: number[] = [];
  unit.onFault((record) => reasons.push(record[3] & 0xff));
  unit.translate(0x1700, -1, 0, GPA + DATA, 1);
  return reasons.some((reason) => reason === 0x02 || reason === 0x59) ? null : "old";
}

function guestChange(rig: Rig, withheld: () => void, pasid: number | undefined, ats: boolean): string | null {
  const a = rig.bind();
  const parent = rig.parent(a.devId, HwptAllocFlags.PASID);
  const tables = new GuestTables(rig.ram);
  const entry = tables.map(0x1000, GPA + DATA);
  const nested = rig.nested(a.devId, parent, tables, { hwptFlags: HwptAllocFlags.PASID });
  a.device.attach(nested, pasid);
  expect(readText(a, 0x1000, 3, { pasid, ats })).toBe("old");
  withheld();
  tables.store(entry, BigInt(GPA + DATA + 0x1000) | 7n);
  expect(invalidate(rig.iommufd, nested, { addr: 0x1000n, flags: 1 }).errno).toBeNull();
  return readText(a, 0x1000, 3, { pasid, ats });
}

describe("what the unit has cached", () => {
  test.each(cases)("$what takes effect", ({ run, unit, fresh }) => {
    const rig = new Rig(unit);
    twoPages(rig);
    expect(run(rig, () => {})).toBe(fresh);
    expect(rig.host.kernel.vtdAccounts().every((account) => account.commandErrors === 0)).toBe(true);
  });

  test.each(cases)("$what takes no effect without its descriptors", ({ run, unit, types }) => {
    const rig = new Rig(unit);
    twoPages(rig);
    expect(run(rig, () => withhold(rig, types))).toBe("old");
  });

  test("the guest's page-selective invalidation leaves other pages, other PASIDs and other functions' entries", () => {
    const rig = new Rig();
    twoPages(rig);
    const a = rig.bind();
    const parent = rig.parent(a.devId, HwptAllocFlags.PASID);
    const tables = new GuestTables(rig.ram);
    const entries = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000].map((iova) => tables.map(iova, GPA + DATA));
    const [one, two] = [0, 1].map(() => rig.nested(a.devId, parent, tables, { hwptFlags: HwptAllocFlags.PASID }));
    a.device.attach(one);
    a.device.attach(two, 1);
    const read = (pasid?: number): Array<string | null> => entries.map((_entry, i) => readText(a, 0x1000 * (i + 1), 3, { pasid }));
    read();
    read(1);
    for (const entry of entries) {
      tables.store(entry, BigInt(GPA + DATA + 0x1000) | 7n);
    }
    // Pages 2 and 3 of the second PASID: an aligned span of two.
    invalidate(rig.iommufd, two, { addr: 0x2000n, npages: 2n, flags: 1 });
    expect(read()).toEqual(["old", "old", "old", "old", "old"]);
    expect(read(1)).toEqual(["old", "new", "new", "old", "old"]);
    // Pages 3 and 4 are in no span of two: four pages around 4 and those below.
    invalidate(rig.iommufd, one, { addr: 0x3000n, npages: 2n, flags: 1 });
    expect(read()[4]).toBe("new");
    expect(read().slice(2, 4)).toEqual(["new", "new"]);
  });
});
