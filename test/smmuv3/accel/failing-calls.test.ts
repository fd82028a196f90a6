/**
 * Every host call of every phase fails once, each in a run of its own. Whatever fails, a function has its
 * old table or its new one or is blocked, at every moment; somebody is told; nothing is left on the host.
 */
import { describe, expect, test } from "vitest";
import { ACCESS_READ } from "../../../src/translation/index.js";
import { type Errno, HostError } from "../../../src/iommufd/index.js";
import { Refusal } from "../../../src/support/index.js";
import { buildSte } from "../../../src/smmuv3/spec/index.js";
import { A, B, Board, C, HOST_FUNCTIONS } from "./rig.js";

interface Phase {
  readonly name: string;
  /** Brings the board to where the phase begins. */
  readonly prepare: (board: Board) => void;
  readonly act: (board: Board) => void;
  /** What the guest, or the user, does again after a failure; default `act`. Not tried where null. */
  readonly again?: ((board: Board) => void) | null;
  /** A later step of the phase mends what an earlier one could not. */
  readonly recovers?: boolean;
}

/** Functions A and B on buses 9 and 10 with tables 0 and 1, table 2 to spare. */
function plugged(board: Board): void {
  board.plug(A, 0);
  board.plug(B, 1);
  board.number(0, 9);
  board.number(1, 10);
  for (const [n, sid] of [0x900, 0xa00].entries()) {
    expect(board.table()).toBe(n);
    board.smmu.ste(sid, board.stage1(n));
  }
  board.table();
}

function booted(board: Board): void {
  plugged(board);
  board.freeze();
  board.smmu.enable();
  for (const bdf of [0x900, 0xa00]) {
    board.pci.configWrite(bdf, 4, 2, 6);
  }
}

const abortEntry = buildSte({ V: 1, CONFIG: 0 });
const bypassEntry = buildSte({ V: 1, CONFIG: 4 });

function reconfigure(words: (board: Board) => Int32Array): (board: Board) => void {
  return (board) => {
    board.smmu.ste(0x900, words(board));
    board.smmu.configure(0x900);
    board.smmu.skipFailed();
  };
}

const phases: Phase[] = [
  { name: "start, first function", prepare: () => {}, act: (board) => void board.plug(A) },
  { name: "start, second function", prepare: (board) => void board.plug(A), act: (board) => void board.plug(B, 1) },
  {
    name: "boot",
    prepare: plugged,
    act: (board) => board.smmu.enable(),
    again: (board) => {
      board.smmu.cr0(0);
      board.smmu.enable();
    },
  },
  { name: "reconfigure to another table", prepare: booted, act: reconfigure((board) => board.stage1(2)) },
  { name: "reconfigure to abort", prepare: booted, act: reconfigure(() => abortEntry) },
  { name: "reconfigure to bypass", prepare: booted, act: reconfigure(() => bypassEntry) },
  { name: "reconfigure to the same", prepare: booted, act: reconfigure((board) => board.stage1(0)) },
  { name: "reconfigure to an illegal entry", prepare: booted, act: reconfigure(() => buildSte({ V: 1, CONFIG: 6 })) },
  {
    name: "reconfigure from abort",
    prepare: (board) => {
      booted(board);
      reconfigure(() => abortEntry)(board);
    },
    act: reconfigure((board) => board.stage1(2)),
  },
  {
    name: "configure all",
    prepare: booted,
    act: (board) => {
      board.smmu.ste(0x900, board.stage1(2));
      board.smmu.ste(0xa00, bypassEntry);
      board.smmu.configureAll();
      board.smmu.skipFailed();
    },
  },
  {
    name: "renumber",
    prepare: (board) => {
      booted(board);
      board.smmu.ste(0xc00, board.stage1(2));
    },
    act: (board) => board.number(0, 12),
    again: (board) => board.smmu.configureAll(),
  },
  {
    name: "renumber to a StreamID with the same entry",
    prepare: (board) => {
      booted(board);
      board.smmu.ste(0xc00, board.stage1(0));
    },
    act: (board) => board.number(0, 12),
    again: (board) => board.smmu.configureAll(),
  },
  {
    name: "swap",
    recovers: true,
    prepare: booted,
    act: (board) => {
      board.number(0, 10);
      board.number(1, 9);
    },
    again: (board) => board.smmu.configureAll(),
  },
  {
    name: "hotplug",
    prepare: (board) => {
      booted(board);
      board.number(2, 11);
      board.smmu.ste(0xb00, board.stage1(2));
    },
    act: (board) => void board.plug(C, 2, { hotplugged: true }),
  },
  {
    name: "hotplug as the first",
    prepare: (board) => {
      board.number(2, 11);
      board.table();
      board.smmu.ste(0xb00, board.stage1(0));
      board.freeze();
      board.smmu.enable();
    },
    act: (board) => void board.plug(C, 2, { hotplugged: true }),
  },
  { name: "unplug", prepare: booted, act: (board) => board.unplug(A), again: null },
  {
    name: "unplug the last",
    prepare: (board) => {
      booted(board);
      board.unplug(A);
    },
    act: (board) => board.unplug(B),
    again: null,
  },
  {
    name: "disable",
    prepare: booted,
    act: (board) => board.smmu.cr0(0),
    again: (board) => {
      board.smmu.cr0(1);
      board.smmu.cr0(0);
    },
  },
  {
    name: "GBPA",
    prepare: plugged,
    act: (board) => board.smmu.gbpa(true),
    again: (board) => {
      board.smmu.gbpa(false);
      board.smmu.gbpa(true);
    },
  },
  {
    name: "event queue",
    prepare: booted,
    act: (board) => {
      board.smmu.cr0(9);
      board.smmu.cr0(0xd);
    },
  },
  { name: "reset", recovers: true, prepare: booted, act: (board) => board.reset(), again: (board) => board.smmu.smmu.reset() },
  { name: "exit", prepare: booted, act: (board) => board.close(), again: null },
];

/** Refused host calls and refusals are what a plug may throw; guest accesses may not throw at all. */
function attempt(act: () => void): string[] {
  try {
    act();
    return [];
  } catch (error) {
    if (error instanceof Refusal || error instanceof HostError) {
      return [error.message];
    }
    throw error;
  }
}

function probes(board: Board): Record<string, string> {
  return Object.fromEntries(HOST_FUNCTIONS.slice(0, 3).map((address) => [address, board.probe(address)]));
}

interface Run {
  readonly board: Board;
  readonly before: Record<string, string>;
  readonly after: Record<string, string>;
  /** Per function, what it could reach at some host call of the phase. */
  readonly during: Record<string, Set<string>>;
  readonly calls: Map<string, number>;
  readonly thrown: string[];
  /** What was thrown and what the log says. */
  readonly messages: string[];
}

function run(phase: Phase, failure?: { operation: string; nth: number; errno: Errno }): Run {
  const board = new Board();
  phase.prepare(board);
  const before = probes(board);
  const during: Record<string, Set<string>> = {};
  const calls = new Map<string, number>();
  board.observer.onCall = (operation) => {
    calls.set(operation, (calls.get(operation) ?? 0) + 1);
    for (const [address, reach] of Object.entries(probes(board))) {
      // Without bus mastering nothing leaves the function, wherever its table leads.
      if (board.hardware(address).mayRequest(-1, ACCESS_READ, false)) {
        (during[address] ??= new Set()).add(reach);
      }
    }
  };
  const told = board.log.lines.length;
  if (failure !== undefined) {
    board.observer.failOn(failure);
  }
  const thrown = attempt(() => phase.act(board));
  board.observer.onCall = null;
  const messages = [...thrown, ...board.log.lines.slice(told).map((line) => line.text)];
  return { board, before, after: probes(board), during, calls, thrown, messages };
}

const errnoOf: Record<string, Errno> = { DESTROY: "EBUSY", HWPT_INVALIDATE: "EIO" };

describe.each(phases)("$name", (phase) => {
  const clean = run(phase);
  const left = clean.board.live();
  const cases = [...clean.calls].flatMap(([operation, count]) => Array.from({ length: count }, (_unused, n) => ({ operation, nth: n + 1 })));

  test("without failure: nothing is told, nothing is left", () => {
    const { board, thrown } = clean;
    expect([...thrown, ...board.log.warnings()]).toEqual([]);
    expect(board.live()).toEqual(left);
    board.close();
    expect(board.live()).toEqual({});
    expect(board.strayReads()).toEqual([]);
  });

  test("each call fails once", () => {
    expect(cases.length, "host calls in this phase").toBeGreaterThan(0);
    for (const { operation, nth } of cases) {
      const what = `${operation} ${nth}`;
      const { board, before, after, during, thrown, messages } = run(phase, { operation, nth, errno: errnoOf[operation] ?? "ENOMEM" });
      expect(board.observer.clearFailures(), `${what} has happened`).toBe(0);
      expect(messages.join("\n"), what).toContain(operation);
      for (const [address, reach] of Object.entries(after)) {
        expect([before[address], clean.after[address], "abort"], `${what}: ${address} afterwards`).toContain(reach);
        for (const moment of during[address] ?? []) {
          expect([before[address], clean.after[address], "abort"], `${what}: ${address} meanwhile`).toContain(moment);
        }
      }
      if (thrown.length > 0 && operation !== "DESTROY") {
        expect(board.log.warnings(), `${what}: the way back`).toEqual([]);
      }
      for (const text of messages) {
        const [, blocked] = /host (\S+)\).*; it is blocked$/.exec(text) ?? [];
        if (blocked !== undefined && phase.recovers !== true) {
          expect(after[blocked], `${what}: ${text}`).toBe("abort");
        }
      }
      for (const fn of board.functions.values()) {
        expect(fn.attachedTo, `${what}: ${fn.name}`).not.toBeNull();
      }
      if (phase.again !== null) {
        attempt(() => (phase.again ?? phase.act)(board));
        expect(probes(board), `${what}, then again`).toEqual(clean.after);
      }
      // One that could not be destroyed may wait for the next occasion.
      const waiting = operation === "DESTROY" ? 1 : 0;
      const count = (objects: Record<string, number>): number => Object.values(objects).reduce((sum, n) => sum + n, 0);
      expect(count(board.live()) - count(left), what).toBeGreaterThanOrEqual(0);
      expect(count(board.live()) - count(left), `${what}: objects left`).toBeLessThanOrEqual(waiting);
      board.close();
      expect(board.live(), what).toEqual({});
      expect(probes(board), `${what}, then closed`).toEqual(Object.fromEntries(HOST_FUNCTIONS.slice(0, 3).map((address) => [address, "abort"])));
      expect(board.strayReads(), what).toEqual([]);
      board.host.close();
    }
  });
});
