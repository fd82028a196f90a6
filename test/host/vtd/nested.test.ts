import { describe, expect, test } from "vitest";
import { HostError, HwptAllocFlags } from "../../../src/iommufd/index.js";
import { A, DATA, errno, EVERYTHING, GPA, GuestTables, invalidate, OTHER, readText, Rig, writeText } from "./rig.js";

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

  test.each([
    ["48 bits of both stages", {}, 48],
    ["57 bits of the second stage, 48 of the guest's", { sagaw: [48 as const, 57 as const], firstStage5Level: true }, 48],
    ["57 bits of both", { sagaw: [57 as const], firstStage5Level: true }, 57],
    ["39 bits of guest-physical addresses", { mgaw: 39 }, 48],
    ["pages of 4 KiB in the second stage", { secondStagePages: [] }, 48],
  ])("of %s", (_what, unit, width) => {
    const rig = new Rig(unit);
    const a = rig.bind();
    const parent = rig.parent(a.devId);
    rig.put(DATA, "here");
    const tables = new GuestTables(rig.ram);
    tables.map(0x7fff_ffff_f000, GPA + DATA);
    let { root } = tables;
    if (width === 57) {
      root = GPA + DATA + 0x1000;
      tables.store(DATA + 0x1000, BigInt(tables.root) | 7n);
    }
    a.device.attach(rig.nested(a.devId, parent, { root }, { width }));
    expect(readText(a, 0x7fff_ffff_f000, 4)).toBe("here");
    expect(readText(a, 0x7fff_ffff_e000, 4)).toBeNull();
    a.device.attach(parent);
    expect(readText(a, GPA + DATA, 4)).toBe("here");
    a.device.attach(rig.ioas);
    expect(readText(a, GPA + DATA, 4)).toBe("here");
  });

  test("on a parent that functions of two units share: what leaves the parent leaves both", () => {
    const rig = new Rig();
    const [a, other] = [rig.bind(A), rig.bind(OTHER)];
    const parent = rig.parent(a.devId);
    rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress + DATA }, length: 0x1000n, iova: 0x1000_0000n, readable: true, writable: true });
    rig.put(DATA, "here");
    const tables = new GuestTables(rig.ram);
    tables.map(0x1000, 0x1000_0000);
    const nested = rig.nested(a.devId, parent, tables);
    for (const bound of [a, other]) {
      bound.device.attach(nested);
      expect([readText(bound, 0x1000, 4), readText(bound, 0x1000, 4, { ats: true })]).toEqual(["here", "here"]);
    }
    expect(rig.host.kernel.vtdAccounts().map((account) => account.domainIds)).toEqual([1, 1, 0, 0]);
    rig.iommufd.ioasUnmap(rig.ioas, 0x1000_0000n, 0x1000n);
    for (const bound of [a, other]) {
      expect([readText(bound, 0x1000, 4), readText(bound, 0x1000, 4, { ats: true })]).toEqual([null, null]);
    }
  });

  test("whose attachment fails for want of memory leaves the old one, and no domain id", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId, HwptAllocFlags.PASID);
    a.device.attach(parent);
    rig.put(DATA, "here");
    const nested = rig.nested(a.devId, parent, new GuestTables(rig.ram), { hwptFlags: HwptAllocFlags.PASID });
    const { memory } = rig.host.hardware;
    const allocatePage = memory.allocatePage.bind(memory);
    memory.allocatePage = () => {
      throw new HostError("table memory", "ENOMEM", "made to fail");
    };
    expect(errno(() => a.device.attach(nested, 64))).toBe("ENOMEM");
    expect(errno(() => a.device.attach(nested, 1))).toBe("ok");
    memory.allocatePage = allocatePage;
    a.device.detach(1);
    expect(readText(a, GPA + DATA, 4)).toBe("here");
    expect(rig.host.kernel.vtdAccounts()[0].domainIds).toBe(1);
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
