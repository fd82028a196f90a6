import { describe, expect, test } from "vitest";
import { MemoryRegion } from "../../src/memory/index.js";
import { plugFunction, unplugFunction } from "../../src/pci/index.js";
import { SoftwareIommuOps } from "../../src/smmuv3/index.js";
import { Refusal } from "../../src/support/index.js";
import { A, B, Board, E, hostDescription, RAM_BASE, SMMU0 } from "../smmuv3/accel/rig.js";

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

describe("refused", () => {
  test("a function that the host does not have, with those that it has", () => {
    const board = new Board();
    const text = refusal(() => board.make("0000:7f:00.0"));
    expect(text).toContain("vfio 0000:7f:00.0: no such host device");
    expect(text).toContain(A);
    // The domain may be left out, and letters be large.
    expect(board.make("01:00.0").hostAddress).toBe(A);
    expect(board.make("0000:01:00.0".toUpperCase()).name).toBe(`vfio-pci 'dev0' (host ${A})`);
  });

  test("a legacy container", () => {
    const board = new Board({ properties: [] });
    const text = refusal(() => plugFunction(board.make(A, { iommufd: null }), board.pci.bus, null));
    expect(text).toContain(`vfio ${A}: legacy VFIO containers are not available`);
    expect(text).toContain("would work: -object iommufd,id=iommufd0 and iommufd=iommufd0");
    expect(board.observer.total()).toBe(0);
  });

  test("ats=on where the function, or its SMMU, has none", () => {
    for (const fn of [{ ats: false }]) {
      const board = new Board({ fn });
      const text = refusal(() => board.plug(A, 0, { ats: true }));
      expect(text.split("\n")[0]).toBe(`vfio ${A}: vfio-pci: ATS requested but not supported by kernel`);
      expect(text).toContain("would work: ats=auto or ats=off");
      expect(board.live()).toEqual({});
    }
  });

  test("a function of another driver", () => {
    const board = new Board({ fn: { driver: "nvme" } });
    const text = refusal(() => board.plug(A));
    expect(text).toContain("ENODEV");
    expect(text).toContain("bound to nvme");
    expect(board.live()).toEqual({});
  });

  test("a function that is in use", () => {
    const board = new Board();
    board.plug(A);
    const text = refusal(() => board.plug(A, 1));
    expect(text).toContain("in use, by another machine or by another vfio-pci");
    expect(board.live()).toMatchObject({ device: 1 });
    expect(board.probe(A)).toBe("bypass");
  });

  test("a function that the firmware wants mapped one to one", () => {
    const board = new Board({ fn: { reserved: [{ base: "0x3988e000", size: "0x24a000", type: "direct" }] } });
    const text = refusal(() => board.plug(A));
    expect(text).toContain("Firmware has requested this device have a 1:1 IOMMU mapping");
    expect(text).toContain("the firmware wants a function of its IOMMU group mapped one to one (RMRR; reserved_regions of the group has it as direct)");
    expect(board.live()).toEqual({});
  });

  test("a software-translated SMMU in front", () => {
    const board = new Board({ properties: [] });
    board.pci.bus.iommu = new SoftwareIommuOps(new Board().smmu.smmu);
    const text = refusal(() => plugFunction(board.make(A), board.pci.bus, null));
    expect(text).toContain("requires iommu MAP notifier which is not currently supported");
    expect(text).toContain("accel=on");
    expect(board.live()).toEqual({});
  });

  test("a function without IOMMU", () => {
    const description = hostDescription({}, { ats: false, pasidBits: 0 });
    description.functions[0].smmu = null;
    const board = new Board({ description });
    expect(refusal(() => board.plug(A))).toContain(`vfio ${A}: VFIO_BIND_IOMMUFD: EINVAL`);
    expect(board.live()).toEqual({});
  });
});

describe("without a vIOMMU", () => {
  test("the guest's RAM is there at its own addresses, nothing else", () => {
    const board = new Board({ properties: [] });
    const fn = board.make(A);
    plugFunction(fn, board.pci.bus, null);
    expect(board.probe(A)).toBe("bypass");
    expect(board.live()).toEqual({ iommufd: 1, device: 1, ioas: 1, "hwpt-paging": 1 });
    expect(fn.attachedTo).toBe(fn.parentHwptId);
    // A second one of the same SMMU shares the table, one of another has its own.
    const b = board.make(B);
    const e = board.make(E);
    plugFunction(b, board.pci.bus, null);
    plugFunction(e, board.pci.bus, null);
    expect(b.parentHwptId).toBe(fn.parentHwptId);
    expect(e.parentHwptId).not.toBe(fn.parentHwptId);
    expect(fn.hostIommu).toBe(SMMU0);
    unplugFunction(fn);
    expect(board.probe(A)).toBe("abort");
    expect(board.probe(B)).toBe("bypass");
    unplugFunction(b);
    expect(board.live()).toEqual({ iommufd: 1, device: 1, ioas: 1, "hwpt-paging": 1 });
    unplugFunction(e);
    expect(board.live()).toEqual({});
  });

  test("RAM that comes and goes is mapped and unmapped; ROM is read-only", () => {
    const board = new Board({ properties: [] });
    plugFunction(board.make(A), board.pci.bus, null);
    const more = board.observed.allocateMemory("more", 0x10_0000);
    const region = MemoryRegion.ram("more", more);
    board.space.root.add(0x8000_0000, region);
    expect(board.dmaWrite(A, 0x8000_0000, 77n)).toBe(true);
    board.space.root.remove(region);
    expect(board.dmaWrite(A, 0x8000_0000, 78n)).toBe(false);
    board.space.root.add(0x8000_0000, MemoryRegion.rom("rom", more));
    expect(board.dmaRead(A, 0x8000_0000)).toBe(77n);
    expect(board.dmaWrite(A, 0x8000_0000, 79n)).toBe(false);
  });

  test("RAM that is discarded faults, what is beside it does not, and it works again when it is populated", () => {
    for (const options of [{ properties: [] }, {}]) {
      const board = new Board(options);
      if ("properties" in options) {
        plugFunction(board.make(A), board.pci.bus, null);
      } else {
        board.plug(A);
      }
      const more = board.observed.allocateMemory("more", 0x10_0000);
      const region = MemoryRegion.discardableRam("more", more, 0x4_0000);
      board.space.root.add(0x8000_0000, region);
      const whole = board.live();
      const written = () => [0, 1, 2, 3].map((n) => board.dmaWrite(A, 0x8000_0000 + n * 0x4_0000, 5n));
      expect(written()).toEqual([true, true, true, true]);
      region.discard(0x4_0000, 0x8_0000);
      expect(written()).toEqual([true, false, false, true]);
      expect(board.space.readWord(0x8004_0000, 8)).toBe(5n);
      region.populate(0x8_0000, 0x4_0000);
      expect(written()).toEqual([true, false, true, true]);
      // A host that does not map it: it stays discarded, with nothing of it mapped.
      region.discard(0x8_0000, 0x4_0000);
      board.observer.failOn({ operation: "IOAS_MAP", nth: 2, errno: "ENOMEM" });
      expect(() => region.populate(0x4_0000, 0x8_0000)).toThrow(/IOAS_MAP: ENOMEM.*more at 0x80080000/);
      expect(written()).toEqual([true, false, false, true]);
      region.populate(0x4_0000, 0x8_0000);
      expect(written()).toEqual([true, true, true, true]);
      expect(board.live()).toEqual(whole);
    }
  });

  test("RAM that the host does not map is told, and the machine runs on", () => {
    const board = new Board({ properties: [] });
    const fn = board.make(A);
    plugFunction(fn, board.pci.bus, null);
    const more = board.observed.allocateMemory("more", 0x10_0000);
    const region = MemoryRegion.ram("dimm1", more);
    board.observer.failOn({ operation: "IOAS_MAP", nth: 1, errno: "ENOMEM" });
    board.space.root.add(0x8000_0000, region);
    expect(board.log.warnings()).toEqual([
      expect.stringMatching(/IOAS_MAP: ENOMEM.*dimm1 at 0x80000000.*not reachable by DMA.*RLIMIT_MEMLOCK/) as string,
    ]);
    expect(board.dmaRead(A, 0x8000_0000)).toBeNull();
    expect(board.dmaRead(A, RAM_BASE)).not.toBeNull();
    board.space.root.remove(region);
    expect(board.log.warnings().length).toBe(1);
    unplugFunction(fn);
    expect(board.live()).toEqual({});
  });
});

test("a table that cannot be freed at once is freed later, while its iommufd stays open", () => {
  // A without a vIOMMU, B behind one: two IOASs in one iommufd.
  const board = new Board();
  plugFunction(board.make(A), board.pci.bus, null);
  const alone = board.live();
  board.plug(B, 0);
  const calls: number[] = [];
  for (let nth = 1; nth <= 6; nth++) {
    board.observer.failOn({ operation: "DESTROY", nth, errno: "EBUSY" });
    board.unplug(B);
    calls.push(board.observer.clearFailures());
    // The last one, the IOAS itself, has nothing that comes after it.
    expect({ ...board.live(), ioas: 1 }, `DESTROY ${nth}`).toEqual(alone);
    expect(board.live().ioas, `DESTROY ${nth}`).toBeLessThanOrEqual(2);
    board.plug(B, 0);
  }
  expect(calls).toEqual([0, 0, 0, 0, 0, 1]);
  // Each refusal is told, and nothing else follows from it.
  expect(board.log.warnings().length).toBe(5);
  board.close();
});

describe("an iommufd as the user named it", () => {
  test("is opened with its first function, closed with its last, and not deleted in between", () => {
    const board = new Board();
    const [context] = board.contexts;
    context.checkUnused();
    board.plug(A);
    board.plug(B, 1);
    expect(context.userCount).toBe(2);
    expect(refusal(() => context.checkUnused())).toContain("Can not delete IOMMUFD backend 'iommufd0' with 2 users");
    board.close();
    context.checkUnused();
    expect(board.live()).toEqual({});
  });

  test("two of them have an IOAS each", () => {
    const board = new Board({ properties: [] });
    plugFunction(board.make(A), board.pci.bus, null);
    plugFunction(board.make(B, { iommufd: board.contexts[1] }), board.pci.bus, null);
    expect(board.live()).toEqual({ iommufd: 2, device: 2, ioas: 2, "hwpt-paging": 2 });
  });
});

test("every host call fails once while a function without vIOMMU comes and goes: nothing is left", () => {
  const life = (board: Board): void => {
    const fn = board.make(A);
    plugFunction(fn, board.pci.bus, null);
    fn.reset();
    unplugFunction(fn);
  };
  const clean = new Board({ properties: [] });
  life(clean);
  expect(clean.observer.calls.size).toBeGreaterThan(6);
  for (const [operation, count] of clean.observer.calls) {
    for (let nth = 1; nth <= count; nth++) {
      const board = new Board({ properties: [] });
      board.observer.failOn({ operation, nth, errno: operation === "DESTROY" ? "EBUSY" : "ENOMEM" });
      let told = "";
      try {
        life(board);
      } catch (error) {
        told = refusal(() => {
          throw error;
        });
      }
      expect(told + board.log.warnings().join("\n"), `${operation} ${nth}`).toContain(operation);
      expect(board.live(), `${operation} ${nth}`).toEqual({});
      expect(board.probe(A)).toBe("abort");
      // And again, in the same machine.
      life(board);
      expect(board.live()).toEqual({});
    }
  }
});
