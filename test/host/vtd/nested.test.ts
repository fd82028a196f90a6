import { describe, expect, test } from "vitest";
import { DATA, EVERYTHING, GPA, GuestTables, invalidate, readText, Rig, writeText } from "./rig.js";

describe("a nested table", () => {
  test("translates by the guest's first stage, then by the parent; the parent translates what comes as it is", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId);
    rig.put(DATA, "in guest RAM");
    a.device.attach(parent);
    expect(readText(a, GPA + DATA, 12)).toBe("in guest RAM");
    const tables = new GuestTables(rig.ram);
    const entry = tables.map(0x7000_1000, GPA + DATA);
    const nested = rig.nested(a.devId, parent, tables);
    a.device.attach(nested);
    expect(readText(a, 0x7000_1000, 12)).toBe("in guest RAM");
    expect(readText(a, GPA + DATA, 12)).toBeNull();
    expect(writeText(a, 0x7000_1800, "written")).toBe(true);
    expect(rig.text(DATA + 0x800, 7)).toBe("written");
    // Accessed and dirty bits of the guest's entry.
    expect(tables.load(entry) & 0x60n).toBe(0x60n);
    a.device.attach(parent);
    expect(readText(a, GPA + DATA, 12)).toBe("in guest RAM");
    expect(readText(a, 0x7000_1000, 12)).toBeNull();
  });

  test("keeps what it has translated until the guest's change is told", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId);
    const tables = new GuestTables(rig.ram);
    rig.put(DATA, "one");
    rig.put(DATA + 0x1000, "two");
    const first = tables.map(0x1000, GPA + DATA);
    tables.map(0x2000, GPA + DATA);
    const nested = rig.nested(a.devId, parent, tables);
    a.device.attach(nested);
    for (const ats of [false, true]) {
      expect([readText(a, 0x1000, 3, { ats }), readText(a, 0x2000, 3, { ats })]).toEqual(["one", "one"]);
    }
    tables.store(first, BigInt(GPA + DATA + 0x1000) | 7n);
    tables.store(first + 8, BigInt(GPA + DATA + 0x1000) | 7n);
    for (const ats of [false, true]) {
      expect([readText(a, 0x1000, 3, { ats }), readText(a, 0x2000, 3, { ats })]).toEqual(["one", "one"]);
    }
    expect(invalidate(rig.iommufd, nested, { addr: 0x1000n, flags: 1 })).toEqual({ errno: null, handled: 1 });
    for (const ats of [false, true]) {
      expect([readText(a, 0x1000, 3, { ats }), readText(a, 0x2000, 3, { ats })]).toEqual(["two", "one"]);
    }
    expect(invalidate(rig.iommufd, nested, EVERYTHING)).toEqual({ errno: null, handled: 1 });
    for (const ats of [false, true]) {
      expect(readText(a, 0x2000, 3, { ats })).toBe("two");
    }
    expect(rig.host.kernel.vtdAccounts()[0].commandErrors).toBe(0);
  });
});
