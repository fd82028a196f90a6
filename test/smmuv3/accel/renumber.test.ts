import { describe, expect, test } from "vitest";
import { buildSte, EVENT } from "../../../src/smmuv3/spec/index.js";
import { A, B, Board, C, encodeCommand, IOVA, OP } from "./rig.js";

/** Functions A and B with tables 0 and 1 on buses 9 and 10; a stream table that knows buses 0xb and 0xc too. */
function booted(): Board {
  const board = new Board();
  board.plug(A);
  board.plug(B, 1);
  board.number(0, 9);
  board.number(1, 10);
  for (const sid of [0x900, 0xa00, 0xb00, 0xc00]) {
    board.smmu.ste(sid, board.stage1(board.table()));
  }
  board.freeze();
  board.smmu.enable();
  return board;
}

const reach = (board: Board): string[] => [board.probe(A), board.probe(B)];

/** vSID of every vDEVICE by host address, from the accounts on both sides. */
function bindings(board: Board): Array<string | null> {
  const ids = board.smmu.acceleration.describeFunctions().map((fn) => (fn.vdeviceId === null ? null : fn.streamId!.toString(16)));
  expect(board.live().vdevice ?? 0).toBe(ids.filter((id) => id !== null).length);
  expect(new Set(ids.filter((id) => id !== null)).size).toBe(ids.filter((id) => id !== null).length);
  return ids;
}

describe("the guest gives buses other numbers", () => {
  test("with SMMUEN set: the function goes to the entry of its new StreamID at once", () => {
    const board = booted();
    expect(reach(board)).toEqual(["table 0", "table 1"]);
    board.attaches.length = 0;
    board.number(0, 0xb);
    expect(reach(board)).toEqual(["table 2", "table 1"]);
    expect(board.attaches.length).toBe(1);
    expect(bindings(board)).toEqual(["b00", "a00"]);
    // Its old StreamID is nobody's.
    board.smmu.configure(0x900);
    expect(reach(board)).toEqual(["table 2", "table 1"]);
    expect(board.log.warnings()).toEqual([]);
  });

  test("to a StreamID whose entry is not valid: blocked", () => {
    const board = booted();
    board.number(0, 0xd);
    expect(reach(board)).toEqual(["abort", "table 1"]);
  });

  test("to none for a moment: blocked, then on its new entry", () => {
    const board = booted();
    // Bus 0's entry is not the function's, whatever it says.
    board.smmu.ste(0, buildSte({ V: 1, CONFIG: 4 }));
    board.number(0, 0);
    expect(reach(board)).toEqual(["abort", "table 1"]);
    expect(bindings(board)).toEqual([null, "a00"]);
    board.smmu.configureAll();
    expect(reach(board)).toEqual(["abort", "table 1"]);
    board.number(0, 0xc);
    expect(reach(board)).toEqual(["table 3", "table 1"]);
  });

  test("with SMMUEN clear: the StreamID is bound when SMMUEN is set", () => {
    const board = booted();
    board.smmu.cr0(0xc);
    board.number(0, 0xb);
    expect(reach(board)).toEqual(["bypass", "bypass"]);
    expect(bindings(board)).toEqual([null, "a00"]);
    board.smmu.cr0(0xd);
    expect(reach(board)).toEqual(["table 2", "table 1"]);
    expect(bindings(board)).toEqual(["b00", "a00"]);
  });

  test.each([
    { name: "through a common number", steps: [[0, 10], [1, 9]] },
    { name: "the other way round", steps: [[1, 9], [0, 10]] },
    { name: "through zero", steps: [[0, 0], [1, 9], [0, 10]] },
    { name: "both through zero", steps: [[0, 0], [1, 0], [0, 10], [1, 9]] },
    { name: "through a third", steps: [[0, 0xc], [1, 9], [0, 10]] },
  ])("two functions exchange their StreamIDs $name", ({ steps }) => {
    const board = booted();
    for (const [port, bus] of steps) {
      board.number(port, bus);
      bindings(board);
      // Nobody is on an entry of a StreamID that is no longer its own.
      const [a, b] = reach(board);
      const own = (bus: number): string[] => ["abort", ...(bus >= 9 && bus <= 12 ? [`table ${bus - 9}`] : [])];
      expect(own(board.ports[0].secondaryBus)).toContain(a);
      expect(own(board.ports[1].secondaryBus)).toContain(b);
    }
    expect(reach(board)).toEqual(["table 1", "table 0"]);
    expect(bindings(board)).toEqual(["a00", "900"]);
    expect(board.log.warnings()).toEqual([]);
    expect(board.smmu.commandError).toBe(false);
    board.close();
    expect(board.live()).toEqual({});
  });

  test("one number for two buses: the second is blocked and told, a command for the StreamID is no error", () => {
    const board = booted();
    board.number(0, 10);
    expect(reach(board)).toEqual(["abort", "table 1"]);
    board.smmu.configure(0xa00);
    expect(board.smmu.commandError).toBe(false);
    expect(reach(board)).toEqual(["abort", "table 1"]);
    expect(board.log.lines.map((line) => `${line.level}: ${line.text}`)[0]).toMatch(/^guest-error: .*'dev0'.*'dev1'.* StreamID 0xa00 both/);
    // The one that has it goes away: the other gets its entry.
    board.number(1, 11);
    expect(reach(board)).toEqual(["table 1", "table 2"]);
  });

  test("the same for a function that is plugged in", () => {
    const board = booted();
    board.number(2, 9);
    board.plug(C, 2, { hotplugged: true });
    expect([...reach(board), board.probe(C)]).toEqual(["table 0", "table 1", "abort"]);
    board.number(2, 0xc);
    expect([...reach(board), board.probe(C)]).toEqual(["table 0", "table 1", "table 3"]);
  });

  test("the one that has the StreamID is unplugged: the one that waited gets its entry", () => {
    const board = booted();
    board.number(0, 10);
    expect(reach(board)).toEqual(["abort", "table 1"]);
    board.unplug(B);
    expect(board.probe(A)).toBe("table 1");
  });

  test("an entry equal to the old StreamID's is attached anew, so that faults carry the new StreamID", () => {
    const board = booted();
    board.smmu.ste(0xb00, board.stage1(0));
    board.number(0, 0xb);
    expect(reach(board)[0]).toBe("table 0");
    board.smmu.events();
    expect(board.dmaRead(A, IOVA + 0x10_0000)).toBeNull();
    const [event] = board.smmu.events();
    expect([event[0] & 0xff, event[1]]).toEqual([EVENT.F_TRANSLATION, 0xb00]);
  });

  test("invalidations follow the StreamID", () => {
    const board = booted();
    board.number(0, 0xb);
    board.invalidations.length = 0;
    board.smmu.submit(
      encodeCommand(OP.CFGI_CD, { SID: 0x900, LEAF: 1 }),
      encodeCommand(OP.CFGI_CD, { SID: 0xb00, LEAF: 1 }),
      encodeCommand(OP.SYNC),
    );
    expect(board.invalidations).toEqual([["5 b00 1 0"]]);
    expect(board.smmu.commandError).toBe(false);
  });

  test("a guest that does so a thousand times gets a log of bounded length", () => {
    const board = booted();
    for (let i = 0; i < 1000; i++) {
      board.number(0, 9 + (i & 1));
    }
    expect(board.log.lines.length).toBeLessThan(40);
    board.observer.onCall = null;
    // The same with a host that refuses every time.
    for (let i = 0; i < 200; i++) {
      board.observer.failOn({ operation: "VDEVICE_ALLOC", nth: 1, errno: "ENOMEM" });
      board.number(0, 0xb + (i & 1));
      expect(board.probe(A)).toBe("abort");
    }
    expect(board.log.lines.length).toBeLessThan(60);
  });
});
