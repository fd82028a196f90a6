import { describe, expect, test } from "vitest";
import { HwptAllocFlags, HwptDataType } from "../../../src/iommufd/index.js";
import { A, B, DATA, errno, GPA, GuestTables, LEGACY, readText, Rig, TABLES, writeText } from "./rig.js";

const { PASID, DIRTY_TRACKING } = HwptAllocFlags;

/** Tables at different places, each with one page at 0x1000 of a text of its own. */
function guestTables(rig: Rig, texts: readonly string[]): GuestTables[] {
  return texts.map((text, i) => {
    const tables = new GuestTables(rig.ram, TABLES + i * 0x10_0000);
    rig.put(DATA + i * 0x1000, text);
    tables.map(0x1000, GPA + DATA + i * 0x1000);
    return tables;
  });
}

describe("PASIDs", () => {
  test("each has its own table; one for another in one step; what is detached is blocked", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId, PASID);
    const [one, two, three] = guestTables(rig, ["one", "two", "six"]).map((tables) => rig.nested(a.devId, parent, tables, { hwptFlags: PASID }));
    a.device.attach(parent);
    a.device.attach(one, 1);
    a.device.attach(two, 65);
    const seen = (): Array<string | null> => [undefined, 1, 65, 2].map((pasid) => readText(a, pasid === undefined ? GPA + DATA : 0x1000, 3, { pasid }));
    expect(seen()).toEqual(["one", "one", "two", null]);
    a.device.attach(three, 1);
    expect(seen()).toEqual(["one", "six", "two", null]);
    a.device.attach(parent, 1);
    expect([readText(a, GPA + DATA, 3, { pasid: 1 }), readText(a, 0x1000, 3, { pasid: 1 })]).toEqual(["one", null]);
    a.device.detach(65);
    expect(readText(a, 0x1000, 3, { pasid: 65 })).toBeNull();
    a.device.detach();
    expect([readText(a, GPA + DATA, 3), readText(a, GPA + DATA, 3, { pasid: 1 })]).toEqual([null, "one"]);
    a.device.detach(1);
    expect(rig.host.kernel.vtdAccounts()[0]).toMatchObject({ domainIds: 0, commandErrors: 0 });
  });

  test("of other functions are other PASIDs, also on the same nested table", () => {
    const rig = new Rig();
    const [a, b] = [rig.bind(A), rig.bind(B)];
    const parent = rig.parent(a.devId, PASID);
    const [one, two] = guestTables(rig, ["one", "two"]).map((tables) => rig.nested(a.devId, parent, tables, { hwptFlags: PASID }));
    a.device.attach(one, 5);
    b.device.attach(two, 5);
    b.device.attach(one, 6);
    expect([readText(a, 0x1000, 3, { pasid: 5 }), readText(a, 0x1000, 3, { pasid: 6 })]).toEqual(["one", null]);
    expect([readText(b, 0x1000, 3, { pasid: 5 }), readText(b, 0x1000, 3, { pasid: 6 })]).toEqual(["two", "one"]);
    a.device.detach(5);
    expect(readText(b, 0x1000, 3, { pasid: 6 })).toBe("one");
  });

  test("are refused without the tables' flag, beyond the width and with dirty tracking; behind units without them they do nothing", () => {
    const rig = new Rig();
    const a = rig.bind();
    const alloc = (target: Rig, devId: number, flags: number): number => target.iommufd.hwptAlloc({ flags, devId, ptId: target.ioas, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
    const able = alloc(rig, a.devId, PASID);
    const plain = alloc(rig, a.devId, 0);
    expect(errno(() => a.device.attach(plain, 1))).toBe("EINVAL");
    expect(errno(() => a.device.attach(rig.ioas, 1))).toBe("EINVAL");
    expect(errno(() => a.device.attach(able, 0x1_0000))).toBe("EINVAL");
    expect(errno(() => a.device.attach(alloc(rig, a.devId, PASID | DIRTY_TRACKING), 1))).toBe("EINVAL");
    expect(errno(() => a.device.attach(able, 0xffff))).toBe("ok");
    expect(errno(() => a.device.attach(plain))).toBe("EINVAL");
    a.device.detach(0xffff);
    a.device.attach(plain);
    expect(errno(() => a.device.attach(able, 1))).toBe("EINVAL");
    const legacy = new Rig(LEGACY);
    const b = legacy.bind();
    expect(errno(() => b.device.attach(alloc(legacy, b.devId, PASID), 1)), "Linux __iommu_set_group_pasid").toBe("ok");
  });

  test("cost table memory while they are attached", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId, PASID);
    const [one] = guestTables(rig, ["one"]).map((tables) => rig.nested(a.devId, parent, tables, { hwptFlags: PASID }));
    const pages = rig.host.hardware.memory.livePages;
    for (let pasid = 64; pasid < 64 * 20; pasid += 32) {
      a.device.attach(one, pasid);
    }
    expect(rig.host.hardware.memory.livePages).toBe(pages + 19);
    for (let pasid = 64; pasid < 64 * 20; pasid += 32) {
      a.device.detach(pasid);
    }
    expect(rig.host.hardware.memory.livePages).toBe(pages);
  });

  test("keep privileged and executing requests apart by the guest's SRE, WPE", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId, PASID);
    const tables = new GuestTables(rig.ram);
    // A page for supervisors, read-only.
    tables.map(0x1000, GPA + DATA, 0x1n);
    rig.put(DATA, "one");
    const [plain, supervisor, protecting] = [0, 1, 5].map((flags) => rig.nested(a.devId, parent, tables, { flags, hwptFlags: PASID }));
    const answers = [plain, supervisor, protecting].map((nested) => {
      a.device.attach(nested, 1);
      return [readText(a, 0x1000, 3, { pasid: 1 }), privileged(a, "read"), privileged(a, "write")];
    });
    expect(answers).toEqual([
      [null, false, false],
      [null, true, true],
      [null, true, false],
    ]);
    expect(writeText(a, 0x1000, "x", { pasid: 1 })).toBe(false);
  });
});

/** The DMA engine with bit 5 of CONTROL: privileged mode requested. */
function privileged(bound: { device: { regionWrite(region: number, offset: number, data: Uint8Array): void; regionRead(region: number, offset: number, out: Uint8Array): void } }, what: "read" | "write"): boolean {
  const set = (register: number, value: number): void => bound.device.regionWrite(0, register, Uint8Array.of(value, value >>> 8, value >>> 16, value >>> 24));
  set(0x08, 0x1000);
  set(0x0c, 0);
  set(0x10, 0x1000);
  set(0x14, 0);
  set(0x18, 3);
  set(0x20, 1);
  set(0x24, 0xff);
  set(0x1c, 1 | ((what === "read" ? 1 : 2) << 1) | (1 << 3) | (1 << 5));
  const out = new Uint8Array(4);
  bound.device.regionRead(0, 0x24, out);
  return (out[0] & 0xc) === 0;
}
