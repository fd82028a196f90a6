/** What the kernel answers behind VT-d units (Linux drivers/iommu/intel/nested.c, iommu.c; drivers/iommu/iommufd). */
import { describe, expect, test } from "vitest";
import { HwCapabilities, HwInfoType, HwptAllocFlags, HwptDataType, INVALIDATE_VTD_S1_BYTES, ViommuType } from "../../../src/iommufd/index.js";
import { A, B, ERRATUM, errno, EVERYTHING, GPA, GuestTables, invalidate, LEGACY, OTHER, refusal, Rig, UNSNOOPED, vtdS1 } from "./rig.js";

const { NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID, PASID } = HwptAllocFlags;

function hwpt(rig: Rig, devId: number, ptId: number, flags: number, dataType: number = HwptDataType.NONE, data: Uint8Array = new Uint8Array(0)): number {
  return rig.iommufd.hwptAlloc({ flags, devId, ptId, dataType, data });
}

describe("GET_HW_INFO", () => {
  test("gives both capability registers, and the erratum's flag for the units that have it", () => {
    const rig = new Rig();
    const info = rig.iommufd.getHwInfo(rig.bind(A).devId);
    expect([info.type, info.dataLength, info.maxPasidLog2]).toEqual([HwInfoType.INTEL_VTD, 24, 16]);
    expect(info.capabilities).toBe(HwCapabilities.DIRTY_TRACKING | HwCapabilities.PCI_PASID_EXEC | HwCapabilities.PCI_PASID_PRIV);
    const view = new DataView(info.data.buffer);
    expect([view.getUint32(0, true), view.getBigUint64(8, true), view.getBigUint64(16, true)]).toEqual([0, rig.unit().cap, rig.unit().ecap]);
    const other = rig.iommufd.getHwInfo(rig.bind(ERRATUM).devId);
    expect(new DataView(other.data.buffer).getUint32(0, true)).toBe(1);
  });

  test("takes VT-d's type and the default one, and says what a unit of legacy mode lacks", () => {
    const rig = new Rig(LEGACY);
    const { devId } = rig.bind();
    expect(errno(() => rig.iommufd.getHwInfo(devId, { flags: 1, inputType: HwInfoType.INTEL_VTD }))).toBe("ok");
    expect(errno(() => rig.iommufd.getHwInfo(devId, { flags: 1, inputType: HwInfoType.ARM_SMMUV3 }))).toBe("EOPNOTSUPP");
    expect(errno(() => rig.iommufd.getHwInfo(devId, { flags: 2 }))).toBe("EOPNOTSUPP");
    const info = rig.iommufd.getHwInfo(devId);
    expect([info.maxPasidLog2, info.capabilities]).toEqual([0, 0]);
  });
});

describe("HWPT_ALLOC of a table on an IOAS", () => {
  test("makes nesting parents and tables that track dirty pages of the second stage, others of the first", () => {
    const rig = new Rig();
    const { devId } = rig.bind();
    const stage = (id: number): number => rig.host.kernel.tableAccounts().find((account) => account.hwptId === id)!.stage;
    expect([0, PASID, NEST_PARENT, DIRTY_TRACKING, NEST_PARENT | DIRTY_TRACKING | PASID].map((flags) => stage(hwpt(rig, devId, rig.ioas, flags)))).toEqual([1, 1, 2, 2, 2]);
    const first = new Rig({ secondStage: false, nesting: false, dirtyTracking: false });
    const only = first.bind();
    expect([0, NEST_PARENT, DIRTY_TRACKING].map((flags) => errno(() => hwpt(first, only.devId, first.ioas, flags)))).toEqual(["ok", "EOPNOTSUPP", "EOPNOTSUPP"]);
    const second = new Rig({ firstStage: false, firstStage1g: false, nesting: false, supervisor: false });
    const table = hwpt(second, second.bind().devId, second.ioas, 0);
    expect(second.host.kernel.tableAccounts().find((account) => account.hwptId === table)!.stage).toBe(2);
  });

  test.each([
    ["a nesting parent where the unit does not nest", { nesting: false }, NEST_PARENT, "EOPNOTSUPP"],
    ["a nesting parent in legacy mode", LEGACY, NEST_PARENT, "EOPNOTSUPP"],
    ["dirty tracking where the unit keeps no dirty state", { dirtyTracking: false }, DIRTY_TRACKING, "EOPNOTSUPP"],
    ["dirty tracking in legacy mode", LEGACY, DIRTY_TRACKING, "EOPNOTSUPP"],
    ["an unknown flag", {}, 1 << 4, "EOPNOTSUPP"],
    ["a fault queue on a parent", {}, NEST_PARENT | FAULT_ID_VALID, "EOPNOTSUPP"],
    ["PASIDs in legacy mode: they are refused when one is attached", LEGACY, PASID, "ok"],
    ["a plain table in legacy mode", LEGACY, 0, "ok"],
  ] as const)("%s: %s", (_what, unit, flags, answer) => {
    const rig = new Rig(unit);
    const { devId } = rig.bind();
    expect(errno(() => hwpt(rig, devId, rig.ioas, flags))).toBe(answer);
  });
});

describe("HWPT_ALLOC of a nested table", () => {
  test("wants a nesting parent, the right data, and flags that it knows", () => {
    const rig = new Rig();
    const { devId } = rig.bind();
    const parent = rig.parent(devId);
    const s1 = vtdS1(0x1000n);
    const longer = new Uint8Array(32);
    longer.set(s1);
    const answers = (pt: number, flags: number, type: number, data: Uint8Array): string => errno(() => hwpt(rig, devId, pt, flags, type, data));
    expect(answers(parent, 0, HwptDataType.VTD_S1, s1)).toBe("ok");
    expect(answers(parent, PASID, HwptDataType.VTD_S1, s1)).toBe("ok");
    expect(answers(parent, 0, HwptDataType.VTD_S1, longer), "zeros behind it").toBe("EINVAL");
    longer[31] = 1;
    expect(answers(parent, 0, HwptDataType.VTD_S1, longer)).toBe("EINVAL");
    expect(answers(parent, 0, HwptDataType.VTD_S1, s1.subarray(0, 20))).toBe("EINVAL");
    expect(answers(parent, NEST_PARENT, HwptDataType.VTD_S1, s1)).toBe("EOPNOTSUPP");
    expect(answers(parent, DIRTY_TRACKING, HwptDataType.VTD_S1, s1)).toBe("EOPNOTSUPP");
    expect(answers(parent, 0, HwptDataType.ARM_SMMUV3, s1)).toBe("EOPNOTSUPP");
    expect(answers(parent, 0, HwptDataType.NONE, new Uint8Array(0))).toBe("EOPNOTSUPP");
    expect(answers(hwpt(rig, devId, rig.ioas, 0), 0, HwptDataType.VTD_S1, s1)).toBe("EINVAL");
    expect(answers(rig.ioas, 0, HwptDataType.VTD_S1, s1)).toBe("EOPNOTSUPP");
    const nested = hwpt(rig, devId, parent, 0, HwptDataType.VTD_S1, s1);
    expect(answers(nested, 0, HwptDataType.VTD_S1, s1)).toBe("EINVAL");
    expect(errno(() => rig.iommufd.destroy(parent))).toBe("EBUSY");
  });

  test("is judged by the unit when a function is attached: width, supervisor requests, extended accessed bit", () => {
    const rig = new Rig({ supervisor: false });
    const a = rig.bind();
    const parent = rig.parent(a.devId);
    a.device.attach(parent);
    const tables = new GuestTables(rig.ram);
    const attach = (options: { flags?: number; width?: number }): string => {
      const nested = rig.nested(a.devId, parent, tables, options);
      const answer = errno(() => a.device.attach(nested));
      a.device.attach(parent);
      return answer;
    };
    expect([48, 57, 47, 0].map((width) => attach({ width }))).toEqual(["ok", "EINVAL", "EINVAL", "EINVAL"]);
    expect([1, 2, 4, 5, 8].map((flags) => attach({ flags }))).toEqual(["EINVAL", "EINVAL", "ok", "EINVAL", "ok"]);
    const able = new Rig({ firstStage5Level: true, extendedAccess: true });
    const b = able.bind();
    const other = able.parent(b.devId);
    for (const options of [{ width: 57 }, { flags: 7 }]) {
      expect(errno(() => b.device.attach(able.nested(b.devId, other, new GuestTables(able.ram), options)))).toBe("ok");
    }
  });

  test("does not go behind a unit that does not nest", () => {
    const rig = new Rig({ nesting: false });
    expect(refusal(() => rig.parent(rig.bind().devId)).message).toBe("HWPT_ALLOC: EOPNOTSUPP (dmar0 does not nest)");
  });
});

describe("vIOMMUs", () => {
  test("there are none for VT-d", () => {
    const rig = new Rig();
    const { devId } = rig.bind();
    const hwptId = rig.parent(devId);
    for (const type of [ViommuType.DEFAULT, ViommuType.ARM_SMMUV3]) {
      expect(errno(() => rig.iommufd.viommuAlloc({ type, devId, hwptId }))).toBe("EOPNOTSUPP");
    }
  });
});

describe("HWPT_INVALIDATE of a nested table", () => {
  test("checks each entry as it comes to it, and tells how many are done", () => {
    const rig = new Rig();
    const a = rig.bind();
    const parent = rig.parent(a.devId);
    const nested = rig.nested(a.devId, parent, new GuestTables(rig.ram));
    a.device.attach(nested);
    const good = { addr: 0x1000n };
    expect(invalidate(rig.iommufd, nested, good, EVERYTHING, { addr: 0n, npages: 0n })).toEqual({ errno: null, handled: 3 });
    expect(invalidate(rig.iommufd, nested)).toEqual({ errno: null, handled: 0 });
    expect(invalidate(rig.iommufd, nested, good, { addr: 0x1800n })).toEqual({ errno: "EINVAL", handled: 1 });
    expect(invalidate(rig.iommufd, nested, good, good, { ...EVERYTHING, addr: 0x1000n })).toEqual({ errno: "EINVAL", handled: 2 });
    expect(invalidate(rig.iommufd, nested, { ...good, flags: 2 }, good)).toEqual({ errno: "EOPNOTSUPP", handled: 0 });
    expect(invalidate(rig.iommufd, nested, { ...good, reserved: 1 })).toEqual({ errno: "EOPNOTSUPP", handled: 0 });
    expect(invalidate(rig.iommufd, parent, good)).toEqual({ errno: "EINVAL", handled: 0 });
    expect(invalidate(rig.iommufd, 999, good)).toEqual({ errno: "ENOENT", handled: 0 });
    const raw = (dataType: number, entryLength: number, bytes: number, last = 0): unknown => {
      const data = new Uint8Array(bytes);
      data[bytes - 1] = last;
      return rig.iommufd.hwptInvalidate({ hwptId: nested, dataType, entryLength, entryCount: 1, data });
    };
    expect(raw(1, INVALIDATE_VTD_S1_BYTES, 24)).toEqual({ errno: "EINVAL", handled: 0 });
    expect(raw(0, 16, 24)).toEqual({ errno: "EINVAL", handled: 0 });
    expect(raw(0, 0, 24)).toEqual({ errno: "EINVAL", handled: 0 });
    expect(raw(0, 32, 24)).toEqual({ errno: "EFAULT", handled: 0 });
    expect(raw(0, 32, 32)).toEqual({ errno: null, handled: 1 });
    expect(raw(0, 32, 32, 1)).toEqual({ errno: "E2BIG", handled: 0 });
    expect(rig.host.kernel.vtdAccounts()[0].commandErrors).toBe(0);
  });
});

describe("one table behind several functions", () => {
  test("is shared behind one unit, and behind units with the same features", () => {
    const rig = new Rig();
    const [a, b, other] = [A, B, OTHER].map((address) => rig.bind(address));
    const parent = rig.parent(a.devId);
    for (const bound of [a, b, other]) {
      bound.device.attach(parent);
    }
    const ids = (): number[] => rig.host.kernel.vtdAccounts().map((account) => account.domainIds);
    expect(ids()).toEqual([1, 1, 0, 0]);
    for (const bound of [a, b, other]) {
      bound.device.detach();
    }
    expect(ids()).toEqual([0, 0, 0, 0]);
  });

  test("that enforces snooping suits no unit without snoop control; one made for such a unit suits all", () => {
    const rig = new Rig();
    const a = rig.bind();
    const unsnooped = rig.bind(UNSNOOPED);
    const snooped = rig.parent(a.devId);
    expect(refusal(() => unsnooped.device.attach(snooped)).message).toBe(
      "VFIO_ATTACH_IOMMUFD_PT: EINVAL (dmar2 has no snoop control, the table enforces snooping)",
    );
    const plain = rig.parent(unsnooped.devId);
    unsnooped.device.attach(plain);
    a.device.attach(plain);
    // Through an IOAS a second table is made for it.
    const [c, d] = [rig.bind(B), rig.bind(OTHER)];
    unsnooped.device.detach();
    c.device.attach(rig.ioas);
    unsnooped.device.attach(rig.ioas);
    d.device.attach(rig.ioas);
    expect(rig.host.kernel.tableAccounts().length).toBe(4);
  });

  test.each([
    ["large pages of the second stage", { secondStagePages: ["2M" as const] }, "differs in its large pages"],
    ["coherency of walks", { scalableCoherentWalks: false }, "differs in the coherency of its walks"],
    ["address width", { mgaw: 39 }, "has a smaller address width"],
  ])("does not suit a unit that differs in %s", (_what, unit, text) => {
    const rig = new Rig({}, {}, unit);
    const parent = rig.parent(rig.bind().devId);
    const other = rig.bind(OTHER);
    expect(refusal(() => other.device.attach(parent)).message).toContain(`EINVAL (dmar1 ${text}`);
    other.device.attach(rig.parent(other.devId));
  });
});

describe("erratum 772415", () => {
  const readOnly = (rig: Rig, iova: number): string =>
    errno(() =>
      rig.iommufd.ioasMap({ ioasId: rig.ioas, source: { address: rig.ram.hostAddress }, length: 0x1000n, iova: BigInt(iova), readable: true, writable: false }),
    );

  test("a nesting parent refuses read-only mappings, new ones and those that are there; other tables take them", () => {
    const rig = new Rig();
    const { devId, device } = rig.bind(ERRATUM);
    const plain = hwpt(rig, devId, rig.ioas, 0);
    expect(readOnly(rig, 0x1000)).toBe("ok");
    expect(refusal(() => rig.parent(devId)).message).toContain("HWPT_ALLOC: EINVAL");
    rig.iommufd.ioasUnmap(rig.ioas, 0x1000n, 0x1000n);
    const parent = rig.parent(devId);
    expect(readOnly(rig, 0x1000)).toBe("EINVAL");
    device.attach(parent);
    device.attach(plain);
    rig.iommufd.destroy(parent);
    expect(readOnly(rig, 0x1000)).toBe("ok");
  });

  test("a parent made without that rule does not go behind the unit, nor does a nested table on it", () => {
    const rig = new Rig();
    const [a, bad] = [rig.bind(A), rig.bind(ERRATUM)];
    const parent = rig.parent(a.devId);
    expect(readOnly(rig, 0x1000)).toBe("ok");
    const text = "dmar3 has erratum 772415, the nesting parent may have read-only mappings";
    expect(refusal(() => bad.device.attach(parent)).message).toContain(text);
    const nested = rig.nested(bad.devId, parent, { root: GPA });
    expect(refusal(() => bad.device.attach(nested)).message).toContain(text);
    // An IOAS of its own, without them.
    const own = rig.iommufd.ioasAlloc();
    const its = rig.parent(bad.devId, 0, own);
    bad.device.attach(its);
    a.device.attach(its);
  });
});
