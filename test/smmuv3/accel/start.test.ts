import { describe, expect, test } from "vitest";
import { MemoryRegion } from "../../../src/memory/index.js";
import { PciFunction, PciePciBridge, plugFunction } from "../../../src/pci/index.js";
import { CD, put } from "../../../src/smmuv3/spec/index.js";
import { Refusal } from "../../../src/support/index.js";
import { A, AUTO, B, Board, C, D, E, EXPLICIT, hostDescription, IOVA, RAM_BASE, SMMU0, SMMU1 } from "./rig.js";

/** Names of the host calls that `act` makes, in order. */
function calls(board: Board, act: () => void): string[] {
  const names: string[] = [];
  board.observer.onCall = (operation) => names.push(operation);
  act();
  board.observer.onCall = null;
  return names;
}

function refusal(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Refusal) {
      return error.message;
    }
    throw error;
  }
  throw new Error("it was not refused");
}

class Endpoint extends PciFunction {
  constructor() {
    super("e1000e", "net0", "endpoint", { vendorId: 0x8086, deviceId: 0x10d3, classCode: 0x020000 }, 4096);
  }
}

describe("the first function and the next", () => {
  test("the first brings IOAS, parent, vIOMMU, abort and bypass tables, and is attached to GBPA's", () => {
    const board = new Board();
    expect(calls(board, () => void board.plug(A))).toEqual([
      "VFIO_BIND_IOMMUFD",
      "GET_HW_INFO",
      "IOAS_ALLOC",
      "IOAS_MAP",
      "HWPT_ALLOC",
      "VFIO_ATTACH_IOMMUFD_PT",
      "VIOMMU_ALLOC",
      "HWPT_ALLOC",
      "HWPT_ALLOC",
      "VFIO_ATTACH_IOMMUFD_PT",
    ]);
    // linux/iommufd.h: abort is V with Config 0, bypass V with Config 0b100.
    expect(board.nested).toEqual([
      [1n, 0n],
      [9n, 0n],
    ]);
    expect(board.smmu.acceleration.hostIommu).toBe(SMMU0);
    expect(board.smmu.tables()).toEqual({ [A]: "bypass" });
    expect(board.probe(A)).toBe("bypass");
  });

  test("the second is attached to the shared parent and then to GBPA's table, and makes nothing", () => {
    const board = new Board();
    board.plug(A);
    board.smmu.gbpa(true);
    const before = board.live();
    expect(calls(board, () => void board.plug(B, 1))).toEqual([
      "VFIO_BIND_IOMMUFD",
      "GET_HW_INFO",
      "VFIO_ATTACH_IOMMUFD_PT",
      "VFIO_ATTACH_IOMMUFD_PT",
    ]);
    expect(board.live()).toEqual({ ...before, device: 2 });
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "abort"]);
  });

  test("the last one takes the vIOMMU with it, and a later one makes a new one", () => {
    const board = new Board();
    board.plug(A);
    board.plug(B, 1);
    board.unplug(A);
    expect(board.live()).toMatchObject({ viommu: 1, "hwpt-nested": 2, device: 1 });
    expect(board.probe(B)).toBe("bypass");
    board.unplug(B);
    expect(board.live()).toEqual({});
    expect(board.smmu.acceleration.hostIommu).toBeNull();
    board.plug(E);
    expect(board.smmu.acceleration.hostIommu).toBe(SMMU1);
    expect(board.probe(E)).toBe("bypass");
    board.close();
    expect(board.live()).toEqual({});
    expect(board.log.lines).toEqual([]);
  });

  test("a function is never where DMA is open while it leaves with its entry blocking it", () => {
    const board = new Board();
    board.plug(A);
    board.plug(B, 1);
    board.number(0, 9);
    board.number(1, 10);
    board.table();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.enable();
    // Bus mastering as the guest has it.
    board.pci.configWrite(0x900, 4, 2, 6);
    const hardware = board.hardware(A);
    expect(hardware.mayRequest(-1, 1, false)).toBe(true);
    const open: string[] = [];
    board.observer.onCall = (operation) => {
      if (hardware.mayRequest(-1, 1, false) && board.probe(A).includes("bypass")) {
        open.push(operation);
      }
    };
    board.unplug(A);
    board.observer.onCall = null;
    expect(open).toEqual([]);
  });
});

test("a hot-plugged function whose table cannot be made gives back what it has got, in order", () => {
  const board = new Board();
  board.plug(A);
  board.freeze();
  board.number(1, 10);
  board.smmu.ste(0xa00, board.stage1(board.table()));
  board.smmu.enable();
  const before = board.live();
  board.observer.failOn({ operation: "HWPT_ALLOC", nth: 1, errno: "ENOMEM" });
  let text = "";
  expect(
    calls(board, () => {
      text = refusal(() => board.plug(B, 1, { hotplugged: true }));
    }),
  ).toEqual(["VFIO_BIND_IOMMUFD", "GET_HW_INFO", "VFIO_ATTACH_IOMMUFD_PT", "VDEVICE_ALLOC", "HWPT_ALLOC", "DESTROY"]);
  expect(text).toContain(`vfio ${B}: HWPT_ALLOC: ENOMEM (Failed to set vIOMMU: `);
  expect(board.live()).toEqual(before);
  expect(board.probe(B)).toBe("abort");
});

describe("what is shared", () => {
  test("two vSMMUs of one physical SMMU share the address space and the IOAS; each has a parent of its own", () => {
    const board = new Board({ properties: [EXPLICIT, EXPLICIT] });
    const a = board.plug(A);
    const b = board.plug(B, 3);
    expect(a.dma).toBe(b.dma);
    expect(a.dma).not.toBe(board.space);
    expect(a.ioasId).toBe(b.ioasId);
    expect(a.parentHwptId).not.toBe(b.parentHwptId);
    expect(board.live()).toEqual({ iommufd: 1, device: 2, ioas: 1, "hwpt-paging": 2, viommu: 2, "hwpt-nested": 4 });
    // Each goes its own way.
    board.smmus[1].gbpa(true);
    expect([board.probe(A), board.probe(B)]).toEqual(["bypass", "abort"]);
    board.close();
    expect(board.live()).toEqual({});
  });

  test("functions of one vSMMU share the parent", () => {
    const board = new Board();
    expect(board.plug(A).parentHwptId).toBe(board.plug(B, 1).parentHwptId);
    expect(board.live()).toMatchObject({ "hwpt-paging": 1, viommu: 1 });
  });

  test("two vSMMUs of one physical SMMU whose guest uses one ASID for two tables do not see each other's translations", () => {
    const board = new Board({ properties: [EXPLICIT, EXPLICIT] });
    const functions = [board.plug(A), board.plug(B, 3)];
    const tables = [board.table(), board.table()];
    functions.forEach((fn, n) => {
      board.number(3 * n, 9 + 8 * n);
      const context = board.contextOf(tables[n]);
      put(context, CD.ASID, 7);
      board.store(board.descriptor(tables[n]) - RAM_BASE, context);
      board.smmus[n].ste(board.sid(fn), board.stage1(tables[n]));
      board.smmus[n].enable();
    });
    // The first access fills the TLB, with that ASID and that IOVA.
    expect(board.dmaWrite(A, IOVA, 1n)).toBe(true);
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "table 1"]);
  });

  test("vSMMUs of two physical SMMUs share the IOAS; each has a parent of its own", () => {
    const board = new Board({ properties: [EXPLICIT, EXPLICIT] });
    const a = board.plug(A);
    const e = board.plug(E, 3);
    expect(a.dma).toBe(e.dma);
    expect(a.ioasId).toBe(e.ioasId);
    expect(board.live()).toEqual({ iommufd: 1, device: 2, ioas: 1, "hwpt-paging": 2, viommu: 2, "hwpt-nested": 4 });
    expect(board.observer.calls.get("IOAS_MAP")).toBe(1);
    expect([board.smmus[0].acceleration.hostIommu, board.smmus[1].acceleration.hostIommu]).toEqual([SMMU0, SMMU1]);
    board.close();
    expect(board.live()).toEqual({});
  });

  test("bridges get the SMMU's own space, one for each (bus, devfn)", () => {
    const board = new Board({ properties: [EXPLICIT, EXPLICIT] });
    expect(board.ports[0].dma?.kind).toBe("iommu");
    expect(board.ports[0].dma).not.toBe(board.ports[3].dma);
  });

  test("a port's message goes to the doorbell that the SMMU tells, and nobody walks the guest's tables for it", () => {
    const board = new Board();
    const writes: string[] = [];
    board.space.root.add(
      0x0809_0000,
      MemoryRegion.mmio("its", 0x1000, {
        read: () => 0n,
        write: (offset, size, value, attributes) => void writes.push(`${offset.toString(16)} ${size} ${value} from ${attributes?.requesterId.toString(16)}`),
      }),
    );
    const [port] = board.ports;
    const sid = port.requesterId;
    board.smmu.ste(sid, board.stage1(board.table()));
    board.smmu.enable();
    board.pci.configWrite(port.bdf, 4, 2, 6);
    expect(port.sendMessage(0x1234_5000n, 77)).toBe(0);
    expect(writes).toEqual([`40 4 77 from ${sid.toString(16)}`]);
    expect(board.strayReads()).toEqual([]);
    // As any request it needs bus mastering.
    board.pci.configWrite(port.bdf, 4, 2, 2);
    expect(port.sendMessage(0x1234_5000n, 78)).not.toBe(0);
    expect(writes.length).toBe(1);
  });

  test("the doorbell is told, and parents are to nest", () => {
    const board = new Board();
    const fn = board.plug(A);
    const { ops, bus, devfn } = fn.iommuPath;
    expect(ops!.getMsiDirectGpa!(bus, devfn)).toBe(0x0809_0040);
    const { parentOwner, ...flags } = ops!.getViommuFlags!();
    expect(flags).toEqual({ wantNestingParent: true, pasidSupported: false });
    expect(parentOwner === board.smmu.acceleration).toBe(true);
  });
});

describe("who may not sit there: refused with names, and nothing is left", () => {
  function refusedPlug(board: Board, act: () => unknown): string {
    const before = board.live();
    const lines = board.log.lines.length;
    const tables = board.smmu.tables();
    const text = refusal(act);
    expect(board.live()).toEqual(before);
    expect(board.smmu.tables()).toEqual(tables);
    expect(board.log.lines.slice(lines)).toEqual([]);
    return text;
  }

  test("a function of another physical SMMU", () => {
    const board = new Board();
    board.plug(A);
    const text = refusedPlug(board, () => board.plug(E, 1));
    expect(text).toContain(`vfio ${E}: Failed to set vIOMMU: A vSMMU corresponds to exactly one physical SMMU`);
    for (const name of [SMMU0, SMMU1, "'dev0'", "'dev4'", "arm-smmuv3 'smmu0'", "would work: another pxb-pcie"]) {
      expect(text).toContain(name);
    }
    expect(board.probe(E)).toBe("abort");
  });

  test("a function of another iommufd", () => {
    const board = new Board();
    board.plug(A);
    const text = refusedPlug(board, () => board.plug(B, 1, { iommufd: board.contexts[1] }));
    for (const words of [`vfio ${B}: Failed to set vIOMMU: `, "'iommufd0'", "'iommufd1'", "'dev0'", "'dev1'", "would work: iommufd=iommufd0"]) {
      expect(text).toContain(words);
    }
  });

  test("a second function behind one PCIe-to-PCI bridge: they have one StreamID", () => {
    const board = new Board();
    const bridge = new PciePciBridge({ id: "pci0" });
    plugFunction(bridge, board.ports[0].secondary, 0);
    const a = board.make(A);
    plugFunction(a, bridge.secondary, 8);
    board.functions.set(A, a);
    const text = refusedPlug(board, () => plugFunction(board.make(B), bridge.secondary, 16));
    for (const words of ["share a StreamID", "'dev0'", "'dev1'", "pcie-root-port"]) {
      expect(text).toContain(words);
    }
    // The first one's StreamID is the bridge's: secondary bus, device 0.
    board.number(0, 9);
    board.pci.configWrite(0x900, 0x18, 4, 0x000a0a09);
    expect(a.requesterId).toBe(0xa00);
    board.table();
    board.smmu.ste(0xa00, board.stage1(0));
    board.smmu.enable();
    expect(board.probe(A)).toBe("table 0");
    expect(board.smmu.acceleration.describeFunctions()[0].streamId).toBe(0xa00);
    board.close();
    expect(board.live()).toEqual({});
  });

  test("emulated endpoints", () => {
    const board = new Board();
    const text = refusedPlug(board, () => plugFunction(new Endpoint(), board.ports[0].secondary, 0));
    expect(text.split("\n")[0]).toBe("Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on");
    expect(text).toContain("e1000e 'net0'");
    expect(text).toContain("arm-smmuv3 'smmu0'");
    expect(board.observer.total()).toBe(0);
  });

  test("vfio-pci without iommufd, before anything is made", () => {
    const board = new Board();
    const text = refusedPlug(board, () => board.plug(A, 0, { iommufd: null }));
    expect(text.split("\n")[0]).toBe("vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on");
    expect(text).toContain("would work: -object iommufd");
    expect(board.observer.total()).toBe(0);
  });

  test("a second function at one place", () => {
    const board = new Board();
    const fn = board.plug(A);
    const text = refusedPlug(board, () => board.smmu.acceleration.addFunction(fn.bus!, fn.devfn, fn));
    expect(text).toContain("Device already has an associated hiodi 0x1");
    expect(board.probe(A)).toBe("bypass");
  });
});

describe("auto", () => {
  const shown = (board: Board): { ril: boolean; ats: boolean; oas: number; ssidsize: number; cd2l: boolean } => {
    const { ril, ats, oas, ssidsize, cd2l } = board.smmu.smmu.properties;
    return { ril, ats, oas, ssidsize, cd2l };
  };
  const withoutFeatures = { idr0: 0x0d44101b, idr1: 0x02730010, idr3: 0x1014, idr5: 0x74 };

  test("takes what the first function's host has", () => {
    const board = new Board({ properties: [AUTO] });
    expect(shown(board)).toEqual({ ril: true, ats: false, oas: 44, ssidsize: 0, cd2l: false });
    board.plug(A);
    expect(shown(board)).toEqual({ ril: true, ats: true, oas: 48, ssidsize: 20, cd2l: true });
    // IDR0.ATS, CD2L; IDR1.SSIDSIZE; IDR3.RIL; IDR5.OAS (Arm IHI 0070, 6.3.1 to 6.3.6).
    expect([0, 4, 0xc, 0x14].map((at) => board.smmu.get(at).toString(16))).toEqual(["d4c141a", "2730510", "1404", "75"]);
    const poor = new Board({ properties: [AUTO], smmu: withoutFeatures, fn: { ats: false, pasidBits: 0 } });
    poor.plug(A);
    expect(shown(poor)).toEqual({ ril: false, ats: false, oas: 44, ssidsize: 0, cd2l: false });
    expect([0, 4, 0xc, 0x14].map((at) => poor.smmu.get(at).toString(16))).toEqual(["d44101a", "2730010", "1004", "74"]);
  });

  test("what is explicit stays", () => {
    const board = new Board({ properties: [{ ril: false, ats: "auto", oas: 44, ssidsize: 8 }] });
    board.plug(A);
    expect(shown(board)).toEqual({ ril: false, ats: true, oas: 44, ssidsize: 8, cd2l: true });
  });

  test("is refused at the machine's start without a function, with upstream's words", () => {
    const board = new Board({ properties: [{ ...EXPLICIT, ats: "auto", oas: "auto" }] });
    const text = refusal(() => board.freeze());
    expect(text.split("\n")[0]).toBe("arm-smmuv3 accel=on with 'auto' properties requires at least one cold-plugged VFIO device");
    expect(text).toContain("ats=auto, oas=auto");
    expect(text).toContain("arm-smmuv3 'smmu0'");
    new Board().freeze();
  });

  test("is taken back when the first function fails, and asked again of the next", () => {
    for (const operation of ["VIOMMU_ALLOC", "HWPT_ALLOC"]) {
      const description = hostDescription({}, { ats: false, pasidBits: 0 });
      Object.assign(description.smmus[1], withoutFeatures);
      const board = new Board({ properties: [AUTO], description });
      board.observer.failOn({ operation, nth: operation === "HWPT_ALLOC" ? 3 : 1, errno: "ENOMEM" });
      expect(refusal(() => board.plug(A))).toContain(`${operation}: ENOMEM`);
      expect(shown(board), operation).toEqual({ ril: true, ats: false, oas: 44, ssidsize: 0, cd2l: false });
      expect(refusal(() => board.freeze())).toContain("requires at least one cold-plugged");
      board.plug(E);
      expect(shown(board)).toEqual({ ril: false, ats: false, oas: 44, ssidsize: 0, cd2l: false });
      board.freeze();
      board.close();
      expect(board.live()).toEqual({});
    }
  });

  test("is taken back when the first function does not fit otherwise", () => {
    const board = new Board({ properties: [{ ...AUTO, ssidsize: 20 }], smmu: { idr1: 0x02730410 }, fn: { pasidBits: 16 } });
    expect(refusal(() => board.plug(A))).toContain("SSIDSIZE not compatible (host=16, QEMU=20)");
    expect(shown(board)).toMatchObject({ ats: false, oas: 44 });
  });

  test("is frozen by the start: a hot-plugged function that does not fit is refused alone", () => {
    const description = hostDescription({}, { ats: false, pasidBits: 0 });
    Object.assign(description.smmus[1], withoutFeatures);
    const board = new Board({ properties: [AUTO], description });
    board.plug(A);
    board.plug(B, 1);
    board.freeze();
    board.number(0, 9);
    board.table();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.enable();
    const live = board.live();
    const ids = [0, 4, 0xc, 0x14].map((at) => board.smmu.get(at));
    expect(refusal(() => board.plug(E, 2, { hotplugged: true }))).toContain("exactly one physical SMMU");
    board.unplug(B);
    board.unplug(A);
    // Nobody is left, and the guest has been told features that this host does not have.
    const text = refusal(() => board.plug(E, 2, { hotplugged: true }));
    expect(text).toContain("Host SMMUv3 SSIDSIZE not compatible (host=0, QEMU=20)");
    expect(text).toContain("'dev4'");
    expect([0, 4, 0xc, 0x14].map((at) => board.smmu.get(at))).toEqual(ids);
    expect(board.live()).toEqual({});
    // The machine runs on: SMMUEN is as the guest left it, and a function that fits is served.
    board.plug(A, 0, { hotplugged: true });
    board.number(0, 9);
    board.smmu.configureAll();
    expect(board.probe(A)).toBe("table 0");
    expect(live).toMatchObject({ device: 2 });
  });

  test("a function that is refused before the start leaves the SMMU as it was for those that fit", () => {
    const board = new Board();
    board.plug(A);
    board.smmu.gbpa(true);
    expect(board.probe(A)).toBe("abort");
    const text = refusal(() => {
      board.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 2, errno: "ENOMEM" });
      board.plug(B, 1);
    });
    expect(text).toContain("VFIO_ATTACH_IOMMUFD_PT: ENOMEM");
    board.smmu.gbpa(false);
    board.smmu.gbpa(true);
    expect(board.probe(A)).toBe("abort");
  });
});

describe("a machine may start empty with explicit properties", () => {
  test("and serves hot-plugged functions, each with the table that its entry says", () => {
    const board = new Board();
    board.freeze();
    board.number(0, 9);
    board.number(1, 10);
    board.table();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.enable();
    expect(board.live()).toEqual({});
    board.plug(C, 0, { hotplugged: true });
    expect(board.probe(C)).toBe("table 0");
    expect(board.live()).toMatchObject({ viommu: 1, veventq: 1, vdevice: 1, "hwpt-nested": 3 });
    board.plug(D, 1, { hotplugged: true });
    expect(board.probe(D), "its entry is not valid").toBe("abort");
    expect(board.log.lines).toEqual([]);
    board.close();
    expect(board.live()).toEqual({});
  });

  test("an accelerated SMMU without functions takes every command", () => {
    const board = new Board();
    board.freeze();
    board.smmu.enable();
    board.smmu.configureAll();
    board.smmu.configure(0x900);
    board.reset();
    board.smmu.gbpa(true);
    expect(board.smmu.commandError).toBe(false);
    expect(board.observer.total()).toBe(0);
  });
});
