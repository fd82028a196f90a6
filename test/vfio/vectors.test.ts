import { describe, expect, test } from "vitest";
import { A } from "../smmuv3/accel/rig.js";
import { BAR0, BDF, capability, ENGINE, read32, started, write32 } from "./rig.js";

const MSIX = 0x11;

type Machine = ReturnType<typeof machine>;

/** A function whose MSI-X table is reached through its BAR, as its capability says. */
function machine(): ReturnType<typeof started> & {
  vector: (n: number, address: number, data: number, masked?: boolean) => void;
  control: (value: number) => void;
  raise: (n: number) => void;
  entry: (n: number) => number;
} {
  const made = started();
  const { board } = made;
  const at = capability(board, MSIX);
  const table = board.pci.configRead(BDF, at + 4, 4);
  expect(table & 7).toBe(0);
  const entry = (n: number): number => BAR0 + (table & ~7) + 16 * n;
  return {
    ...made,
    entry,
    vector: (n, address, data, masked = false) => {
      write32(board, entry(n), address);
      write32(board, entry(n) + 4, 0);
      write32(board, entry(n) + 8, data);
      write32(board, entry(n) + 12, masked ? 1 : 0);
    },
    control: (value) => board.pci.configWrite(BDF, at + 2, 2, value),
    raise: (n) => board.hardware(A).raise(n),
  };
}

const ENABLE = 0x8000;
const FUNCTION_MASK = 0x4000;

describe("MSI-X vectors", () => {
  test("the table is this side's: what the guest writes is read back and does not reach the device", () => {
    const { board, vector, entry } = machine();
    vector(1, 0xfee0_0000, 0x55, true);
    expect([0, 4, 8, 12].map((at) => read32(board, entry(1) + at))).toEqual([0xfee0_0000, 0, 0x55, 1]);
    expect(read32(board, entry(0) + 12), "masked after reset").toBe(1);
    expect(board.routes.size).toBe(0);
    expect(board.observer.calls.get("VFIO_SET_IRQS")).toBeUndefined();
  });

  test("a live vector is a route and a trigger; the device's interrupt arrives", () => {
    const { board, vector, control, raise } = machine();
    vector(0, 0x0809_0040, 7);
    vector(2, 0x0809_0040, 9);
    expect(board.routes.size, "MSI-X is off").toBe(0);
    control(ENABLE);
    expect([...board.routes].sort()).toEqual([
      ["dev0.0", "8090040:7"],
      ["dev0.2", "8090040:9"],
    ]);
    raise(2);
    raise(0);
    raise(1);
    expect(board.delivered).toEqual(["dev0.2", "dev0.0"]);
  });

  test.each([
    { name: "its own bit", hide: (m: Machine) => m.vector(0, 0x0809_0040, 7, true), show: (m: Machine) => m.vector(0, 0x0809_0040, 7) },
    { name: "the function's", hide: (m: Machine) => m.control(ENABLE | FUNCTION_MASK), show: (m: Machine) => m.control(ENABLE) },
  ])("masked by $name: no route, pending instead of delivered, and delivered once when the mask goes", ({ hide, show }) => {
    const made = machine();
    const { board, vector, control, raise } = made;
    control(ENABLE);
    vector(0, 0x0809_0040, 7);
    const pending = BAR0 + (board.pci.configRead(BDF, capability(board, MSIX) + 8, 4) & ~7);
    hide(made);
    expect(board.routes.size).toBe(0);
    raise(0);
    raise(0);
    expect(board.delivered).toEqual([]);
    expect(read32(board, pending)).toBe(1);
    show(made);
    expect(board.delivered).toEqual(["dev0.0"]);
    expect(read32(board, pending)).toBe(0);
    raise(0);
    expect(board.delivered).toEqual(["dev0.0", "dev0.0"]);
    expect(board.observer.calls.get("VFIO_SET_IRQS"), "masking needs no host call").toBe(1);
  });

  test("switched off: no route, nothing pending, and the host's side is off too", () => {
    const { board, vector, control, raise } = machine();
    control(ENABLE);
    vector(0, 0x0809_0040, 7);
    vector(1, 0x0809_0040, 8);
    control(0);
    expect(board.routes.size).toBe(0);
    raise(0);
    control(ENABLE);
    expect(board.delivered).toEqual([]);
    raise(0);
    raise(1);
    expect(board.delivered).toEqual(["dev0.0", "dev0.1"]);
    expect(board.observer.calls.get("VFIO_SET_IRQS")).toBe(5);
  });

  test("a new message is a new route", () => {
    const { board, vector, control } = machine();
    control(ENABLE);
    vector(0, 0x0809_0040, 7);
    write32(board, BAR0, 0);
    vector(0, 0x0809_0040, 8);
    expect([...board.routes]).toEqual([["dev0.0", "8090040:8"]]);
  });

  test("reset and unplug take all routes", () => {
    const { board, fn, vector, control } = machine();
    control(ENABLE);
    vector(0, 0x0809_0040, 7);
    fn.reset();
    expect(board.routes.size).toBe(0);
    board.pci.configWrite(BDF, 0x10, 4, BAR0);
    board.pci.configWrite(BDF, 4, 2, 6);
    control(ENABLE);
    vector(3, 0x0809_0040, 7);
    expect(board.routes.size).toBe(1);
    board.unplug(A);
    expect(board.routes.size).toBe(0);
    expect(board.log.lines).toEqual([]);
  });

  test("a refused VFIO_SET_IRQS is told, leaves no route, and can be tried again", () => {
    const { board, vector, control, raise } = machine();
    control(ENABLE);
    board.observer.failOn({ operation: "VFIO_SET_IRQS", nth: 1, errno: "ENOSPC" });
    vector(0, 0x0809_0040, 7);
    expect(board.routes.size).toBe(0);
    expect(board.log.warnings()).toEqual([expect.stringContaining("MSI-X vector 0 is not delivered: VFIO_SET_IRQS: ENOSPC") as string]);
    vector(0, 0x0809_0040, 7);
    raise(0);
    expect(board.delivered).toEqual(["dev0.0"]);
    // Switching off may be refused too: nothing is delivered to a route that is gone.
    board.delivered.length = 0;
    board.observer.failOn({ operation: "VFIO_SET_IRQS", nth: 1, errno: "EIO" });
    control(0);
    raise(0);
    expect(board.routes.size).toBe(0);
    expect(board.delivered).toEqual([]);
  });

  test("a guest that provokes the refusal for ever does not fill the log", () => {
    const { board, vector, control } = machine();
    control(ENABLE);
    for (let i = 0; i < 100; i++) {
      board.observer.failOn({ operation: "VFIO_SET_IRQS", nth: 1, errno: "ENOSPC" });
      vector(0, 0x0809_0040, i);
    }
    expect(board.log.lines.length).toBeLessThan(30);
  });

  test("the message goes through both stages: without a mapping of the window there is a fault, no interrupt", () => {
    const { board, vector, control, raise } = machine();
    const table = board.table();
    board.smmu.ste(BDF, board.stage1(table));
    board.smmu.enable();
    control(ENABLE);
    vector(0, 0x0809_0040, 7);
    expect(board.probe(A)).toBe("table 0");
    board.smmu.events();
    raise(0);
    expect(board.delivered).toEqual([]);
    const [event] = board.smmu.events();
    expect([event[0] & 0xff, event[1], event[4] >>> 12]).toEqual([0x10, BDF, 0x8000]);
    // An identity mapping of the window that the firmware announces, as Linux makes it.
    board.mapIdentity(table, 0x0800_0000);
    raise(0);
    expect(board.delivered).toEqual(["dev0.0"]);
  });
});

describe("reset", () => {
  test("ends what the device did, and its bus mastering", () => {
    const { board, fn } = machine();
    write32(board, BAR0 + ENGINE.PATTERN, 5);
    expect(board.hardware(A).mayRequest(-1, 1, false)).toBe(true);
    fn.reset();
    expect(board.hardware(A).mayRequest(-1, 1, false)).toBe(false);
    expect(board.pci.configRead(BDF, 4, 2)).toBe(0);
    board.pci.configWrite(BDF, 0x10, 4, BAR0);
    board.pci.configWrite(BDF, 4, 2, 6);
    expect(read32(board, BAR0 + ENGINE.PATTERN)).toBe(0);
    expect(board.hardware(A).mayRequest(-1, 1, false)).toBe(true);
  });

  test("that the host refuses is told; bus mastering is off all the same", () => {
    const { board, fn } = machine();
    board.observer.failOn({ operation: "VFIO_RESET", nth: 1, errno: "EIO" });
    fn.reset();
    expect(board.log.warnings()).toEqual([expect.stringContaining("VFIO_RESET: EIO") as string]);
    expect(board.hardware(A).mayRequest(-1, 1, false)).toBe(false);
  });
});
