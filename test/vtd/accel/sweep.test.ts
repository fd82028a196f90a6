/** All PASIDs of a function follow its tables in bounded steps, whatever is in the tables, and nothing is told as done before. */
import { describe, expect, it } from "vitest";
import { VtdAcceleration, type VtdProperties } from "../../../src/vtd/index.js";
import { R, SRTP, TE } from "../rig.js";
import { hollowDevice } from "./hollow.js";
import {
  A,
  B,
  Board,
  contextDevice,
  contextGlobal,
  FIRST_STAGE,
  hostDescription,
  IOVA,
  iotlbDomain,
  iotlbGlobal,
  pasidCache,
  pasidCacheDomain,
  pasidCacheGlobal,
  piotlbPages,
  STATUS,
  wait,
} from "./rig.js";

/** Steps at once in these tests, and host calls that they are enough for at the most: each counts four. */
const AT_ONCE = 64;
const CALLS_AT_ONCE = 3 * (AT_ONCE / 4);
/** PASIDs from 1 on that are present: more than one step binds. */
const MANY = 100;

const status = (board: Board): bigint => board.load(STATUS) & 0xffffn;
const bound = (board: Board): number => board.acceleration.bindingCount;
const calls = (board: Board): number => [...board.observer.calls.values()].reduce((sum, count) => sum + count, 0);

/** Host calls that an access makes. */
function made(board: Board, access: () => void): number {
  const before = calls(board);
  access();
  return calls(board) - before;
}

/** Goes on to the end, and no step makes more calls than are allowed. Returns the number of steps. */
function goOn(board: Board, allowed = CALLS_AT_ONCE): number {
  let steps = 0;
  let before = calls(board);
  board.goOn(() => {
    expect(calls(board) - before).toBeLessThanOrEqual(allowed);
    before = calls(board);
    steps++;
    return false;
  });
  return steps;
}

/** A function with entries for many PASIDs on table 0 with domain 5, but nothing of it is bound. */
function filled(properties: Partial<VtdProperties> = FIRST_STAGE): Board {
  const board = new Board(properties, hostDescription(), AT_ONCE);
  board.plug(A);
  board.context(A);
  board.start();
  board.table();
  board.table();
  board.entry(A, 0, board.firstStage(0, 5));
  for (let pasid = 1; pasid <= MANY; pasid++) {
    board.entry(A, pasid, board.firstStage(0, 5));
  }
  return board;
}

/** The same, all bound. */
function swept(properties: Partial<VtdProperties> = FIRST_STAGE): Board {
  const board = filled(properties);
  board.run(pasidCacheGlobal);
  board.goOn();
  expect(bound(board)).toBe(MANY + 1);
  return board;
}

/** A hundred entries that have been passed, or not, while the sweep is suspended. */
function suspended(): Board {
  const board = filled();
  board.run(pasidCacheGlobal);
  expect(board.acceleration.progress).toBe("working");
  expect(bound(board)).toBeGreaterThan(2);
  expect(bound(board)).toBeLessThan(MANY);
  return board;
}

describe("the PASIDs of a function", () => {
  it.each([
    ["a global PASID-cache invalidation", [pasidCacheGlobal]],
    ["one of a domain", [pasidCacheDomain(5)]],
    ["one of the function's context entry", [contextDevice(0x100)]],
    ["one of all context entries", [contextGlobal]],
    ["many of them", Array.from({ length: 40 }, () => pasidCacheGlobal)],
  ] as const)("are bound in steps, and the wait behind is done when they are: %s", (_name, descriptors) => {
    const board = filled();
    expect(made(board, () => board.run(...descriptors, wait(7)))).toBeLessThanOrEqual(CALLS_AT_ONCE);
    expect([board.acceleration.progress, status(board)]).toEqual(["working", 0n]);
    expect(bound(board)).toBeLessThan(MANY);
    expect(goOn(board)).toBeGreaterThan(4);
    expect([board.acceleration.progress, status(board), bound(board), board.head]).toEqual(["done", 7n, MANY + 1, descriptors.length + 1]);
    expect([1, 50, MANY].map((pasid) => board.probe(A, pasid))).toEqual(["table 0", "table 0", "table 0"]);
  });

  it.each([
    ["TE", (board: Board) => board.stop(), (board: Board) => board.command(TE), 31],
    ["SRTP", (board: Board) => board.setRoot(false), (board: Board) => board.setRoot(true), 30],
  ] as const)("are unbound and bound in steps, and GSTS does not tell before they are: %s", (_name, off, on, bit) => {
    const board = swept();
    const gsts = (): number => (board.read(R.GSTS) >>> bit) & 1;
    expect(made(board, () => off(board))).toBeLessThanOrEqual(CALLS_AT_ONCE + 4);
    expect(board.acceleration.progress).toBe("working");
    goOn(board, CALLS_AT_ONCE + 4);
    expect([board.acceleration.progress, bound(board), board.probe(A, 50)]).toEqual(["done", 0, "abort"]);
    expect(made(board, () => on(board))).toBeLessThanOrEqual(CALLS_AT_ONCE + 4);
    expect([board.acceleration.progress, bound(board) < MANY]).toEqual(["working", true]);
    // A guest that polls has it done.
    let polls = 0;
    while (gsts() === 0) {
      polls++;
    }
    expect([polls > 1, board.acceleration.progress, bound(board)]).toEqual([true, "done", MANY + 1]);
  });

  it("that lose their entries, their tables, PASIDE or their context entry are unbound in steps", () => {
    const losses: Array<(board: Board) => void> = [
      (board) => {
        for (let pasid = 1; pasid <= MANY; pasid++) {
          board.entry(A, pasid, []);
        }
      },
      (board) => board.store(0x20_0000, 0n, 0n),
      (board) => board.store(0x11_1000, board.load(0x11_1000) & ~8n),
      (board) => board.context(A, false),
    ];
    for (const loss of losses) {
      const board = swept();
      loss(board);
      expect(made(board, () => board.run(contextDevice(board.sid(A)), wait(3)))).toBeLessThanOrEqual(CALLS_AT_ONCE);
      expect([board.acceleration.progress, status(board)]).toEqual(["working", 0n]);
      goOn(board);
      expect([board.acceleration.progress, status(board), board.probe(A, 1), board.probe(A, MANY)]).toEqual(["done", 3n, "abort", "abort"]);
      expect(bound(board)).toBeLessThanOrEqual(1);
      board.close();
      expect(board.live()).toEqual({});
    }
  });

  it("are told of as done by registers when they are: CCMD.ICC", () => {
    const board = swept();
    board.stopQueue();
    board.legacyContext(A, 5, 2n);
    board.setRoot(false);
    board.vtd.write(R.CCMD, 8, 0xa000_0000_0000_0000n);
    expect([board.acceleration.progress, board.read(R.CCMD + 4) >>> 31]).toEqual(["working", 1]);
    board.goOn();
    expect([board.acceleration.progress, board.read(R.CCMD + 4) >>> 31, bound(board)]).toEqual(["done", 0, 0]);
  });
});

describe("a sweep that is suspended", () => {
  it("misses no entry that changes meanwhile and is invalidated, whether it was passed or not", () => {
    const board = suspended();
    board.entry(A, 1, board.firstStage(1, 5));
    board.entry(A, 2, []);
    board.entry(A, MANY - 1, []);
    board.entry(A, MANY, board.firstStage(1, 5));
    board.entry(A, MANY + 1, board.firstStage(1, 5));
    board.run(pasidCache(5, 1), pasidCacheDomain(5), wait(2));
    goOn(board);
    expect(status(board)).toBe(2n);
    expect([1, 2, 3, MANY - 2, MANY - 1, MANY, MANY + 1].map((pasid) => board.probe(A, pasid))).toEqual(["table 1", "abort", "table 0", "table 0", "abort", "table 1", "table 1"]);
  });

  it("does not hold back an invalidation of one PASID, and does not undo it", () => {
    const board = suspended();
    board.entry(A, MANY, board.firstStage(1, 5));
    board.entry(A, 1, []);
    board.run(pasidCache(5, MANY), pasidCache(5, 1));
    expect([board.acceleration.progress, board.probe(A, 1), board.probe(A, MANY)]).toEqual(["working", "abort", "table 1"]);
    board.run(wait(1));
    goOn(board);
    expect([board.probe(A, 1), board.probe(A, MANY), status(board)]).toEqual(["abort", "table 1", 1n]);
  });

  it("comes to its end though the guest wants it anew in each step", () => {
    const board = suspended();
    for (let step = 0; step < 40 && bound(board) <= MANY; step++) {
      board.acceleration.pasidCacheInvalidated(-1);
      let first = true;
      board.goOn(() => !(first && !(first = false)));
    }
    expect(bound(board)).toBe(MANY + 1);
    board.goOn();
    expect(board.acceleration.progress).toBe("done");
  });

  it.each([
    ["the function leaves", (board: Board) => board.unplug(A), "table 2"],
    ["the unit is reset", (board: Board) => board.vtd.reset(), "bypass"],
    ["translation goes off", (board: Board) => board.stop(), "bypass"],
  ] as const)("is given up where %s, and nothing is left", (_name, end, other) => {
    const board = suspended();
    board.plug(B);
    board.context(B);
    board.entry(B, 0, board.firstStage(board.table(), 6));
    board.run(pasidCache(6, 0), wait(1));
    end(board);
    goOn(board, CALLS_AT_ONCE + 8);
    expect([board.acceleration.progress, board.probe(B)]).toEqual(["done", other]);
    if (other === "bypass") {
      expect([bound(board), board.probe(A), board.probe(A, 1)]).toEqual([0, "bypass", "abort"]);
    } else {
      expect(status(board)).toBe(1n);
    }
    board.close();
    expect(board.live()).toEqual({});
  });

  it("goes on with the context entry as it is then", () => {
    const board = suspended();
    const before = bound(board);
    board.context(A, false);
    goOn(board);
    // What was passed stays until the guest's invalidation.
    expect(bound(board)).toBeLessThanOrEqual(before);
    board.run(contextDevice(board.sid(A)), wait(2));
    goOn(board);
    expect([bound(board), board.probe(A), board.probe(A, 1)]).toEqual([0, "abort", "abort"]);
  });
});

describe("invalidations of the tables of many PASIDs", () => {
  it.each([
    ["SRTP", (board: Board) => board.command(SRTP), (board: Board) => (board.read(R.GSTS) >>> 30) & 1],
    ["IOTLB of the domain", (board: Board) => board.run(iotlbDomain(5), wait(1)), (board: Board) => Number(status(board))],
    ["IOTLB, global", (board: Board) => board.run(iotlbGlobal, wait(1)), (board: Board) => Number(status(board))],
    ["IOTLB of two domains", (board: Board) => board.run(iotlbDomain(5), iotlbDomain(6), wait(1)), (board: Board) => Number(status(board))],
  ] as const)("are made in steps, of each table, before they are told as done: %s", (_name, act, done) => {
    const board = swept();
    for (const pasid of [1, 50, MANY]) {
      expect(board.probe(A, pasid)).toBe("table 0");
    }
    board.map(0, IOVA, board.target(1));
    expect(made(board, () => act(board))).toBeLessThanOrEqual(CALLS_AT_ONCE + 4);
    expect([board.acceleration.progress, done(board)]).toEqual(["working", 0]);
    goOn(board);
    expect([board.acceleration.progress, done(board)]).toEqual(["done", 1]);
    expect([1, 50, MANY].map((pasid) => board.probe(A, pasid))).toEqual(["table 1", "table 1", "table 1"]);
  });

  it("of a domain reach that domain's tables alone", () => {
    const board = swept();
    board.entry(A, 7, board.firstStage(0, 6));
    board.run(pasidCache(6, 7));
    board.goOn();
    board.taken();
    board.run(iotlbDomain(9), wait(1));
    board.goOn();
    expect([board.taken(), status(board)]).toEqual([[], 1n]);
  });

  it("one by one are sent before more tables wait than a drain can serve", () => {
    const board = new Board();
    board.plug(A);
    board.context(A);
    board.start();
    board.table();
    for (let pasid = 1; pasid <= 600; pasid++) {
      board.entry(A, pasid, board.firstStage(0, 5));
    }
    board.run(pasidCacheGlobal);
    board.goOn();
    const { acceleration } = board;
    let taken = 0;
    while (acceleration.pending < acceleration.capacity) {
      acceleration.forwardPasidIotlb(5, ++taken, 0, 0, -1, false);
    }
    const before = acceleration.stepsTaken;
    expect([taken, acceleration.flush(), acceleration.stepsTaken - before]).toEqual([512, -1, 4 * 512]);
  });

  it("that the host refuses take the tables away, and bring them back", () => {
    const board = swept();
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 60, errno: "EIO" });
    board.map(0, IOVA, board.target(1));
    board.run(iotlbGlobal, wait(1));
    goOn(board);
    expect([status(board), bound(board), board.read(R.FSTS) & 0x10]).toEqual([1n, MANY + 1, 0]);
    for (let pasid = 1; pasid <= MANY; pasid++) {
      expect(board.probe(A, pasid)).toBe("table 1");
    }
  });
});

describe("a drain that ends on the way", () => {
  it("has sent all that it has taken, the last one too", () => {
    for (let stepsAtOnce = 4; stepsAtOnce <= 24; stepsAtOnce++) {
      const board = new Board(FIRST_STAGE, hostDescription(), stepsAtOnce);
      board.plug(A);
      board.context(A);
      board.entry(A, 0, board.firstStage(board.table(), 5));
      board.start();
      board.goOn();
      board.taken();
      const pages = Array.from({ length: 40 }, (_unused, n) => 0x1000 * (n + 1));
      board.queue(...pages.map((page) => piotlbPages(5, 0, BigInt(page))), wait(1));
      board.kick();
      const sent = (): number[] => board.calls.flatMap((call) => call.split(": ")[1].split(", ")).map((entry) => parseInt(entry, 16));
      for (let step = 0; step < 50; step++) {
        // Whatever IQH tells as done is so.
        expect(sent()).toEqual(pages.slice(0, Math.min(board.vtd.registers.word(R.IQH) / 32, 40)));
        let ran = false;
        board.goOn(() => ran || !(ran = true));
      }
      expect([sent(), status(board)]).toEqual([pages, 1n]);
    }
  });
});

describe("PASIDs that the host refuses", () => {
  /** The host refuses each table from now on. */
  const refusing = (board: Board, operation: "HWPT_ALLOC" | "VFIO_DETACH_IOMMUFD_PT", from: number): void => {
    for (let nth = from; nth < from + 1000; nth++) {
      board.observer.failOn({ operation, nth, errno: "ENOMEM" });
    }
  };

  it("are tried again at the next occasion, few of them at once, many in a sweep, and that comes to an end", () => {
    for (const entries of [30, MANY]) {
      const board = filled();
      for (let pasid = entries + 1; pasid <= MANY; pasid++) {
        board.entry(A, pasid, []);
      }
      refusing(board, "HWPT_ALLOC", 2);
      board.run(pasidCacheGlobal, wait(1));
      // Blocked is as good as done: nothing stale is left.
      for (let tries = 0; (board.read(R.FSTS) & 0x10) !== 0 && tries < 3; tries++) {
        board.goOn();
        board.vtd.write(R.FSTS, 4, 0x10n);
      }
      board.goOn();
      expect(bound(board)).toBe(1);
      board.observer.clearFailures();
      board.vtd.write(R.FECTL, 4, 0n);
      board.goOn();
      expect(bound(board)).toBe(entries + 1);
      board.close();
      expect(board.live()).toEqual({});
    }
  });

  it("to take off their tables hold back what waits", () => {
    const board = swept();
    for (let pasid = 60; pasid <= MANY; pasid++) {
      board.entry(A, pasid, []);
    }
    refusing(board, "VFIO_DETACH_IOMMUFD_PT", 5);
    board.run(pasidCacheGlobal, wait(4));
    board.goOn();
    expect([board.acceleration.progress, status(board), board.read(R.FSTS) & 0x10, board.probe(A, MANY)]).toEqual(["refused", 0n, 0x10, "table 0"]);
    board.observer.clearFailures();
    board.vtd.write(R.FSTS, 4, 0x10n);
    board.goOn();
    expect([board.acceleration.progress, status(board), board.probe(A, MANY), bound(board)]).toEqual(["done", 4n, "abort", 60]);
  });
});

describe("without caching mode", () => {
  const silent: Partial<VtdProperties> = { ...FIRST_STAGE, cachingMode: false };

  it("the end of a drain looks at requests without PASID alone, not at all PASIDs", () => {
    const board = new Board(silent);
    board.plug(A);
    board.context(A);
    board.start();
    board.table();
    for (let pasid = 1; pasid <= 2000; pasid++) {
      board.entry(A, pasid, [1n | (7n << 6n), 5n, 0n]);
    }
    board.run(pasidCacheGlobal, wait(1));
    board.goOn();
    const { acceleration } = board;
    const before = acceleration.stepsTaken;
    board.run(wait(2));
    expect([acceleration.stepsTaken - before < 10, acceleration.progress, status(board)]).toEqual([true, "done", 2n]);
    // They are found at the next drain all the same.
    board.entry(A, 0, board.firstStage(0, 5));
    board.run(wait(3));
    expect(board.probe(A)).toBe("table 0");
  });
});

describe("a hostile directory", () => {
  /** 16,384 directory entries that all name one PASID table, whose entries are all present. */
  const hostile = (stepsAtOnce?: number): Board => {
    const board = new Board(FIRST_STAGE, hostDescription(), stepsAtOnce);
    board.plug(A);
    board.context(A);
    board.table();
    for (let pasid = 0; pasid < 64; pasid++) {
      board.entry(A, pasid, board.firstStage(0, 5));
    }
    const table = board.load(0x20_0000);
    const directory = 0x180_0000;
    board.quads.fill(table, directory / 8, directory / 8 + 2 ** 14);
    board.store(0x11_1000, BigInt(directory) | 1n | 8n | (7n << 9n));
    return board;
  };

  it("costs an access, and each step behind it, what the budget allows", () => {
    const board = hostile();
    board.startQueue();
    board.setRoot(true);
    expect(made(board, () => board.command(TE))).toBeLessThan(1100);
    expect(board.read(R.GSTS) >>> 31).toBe(0);
    for (let step = 0; step < 3; step++) {
      let ran = false;
      expect(made(board, () => void board.goOn(() => ran || !(ran = true)))).toBeLessThan(1100);
    }
    expect([board.acceleration.progress, bound(board) > 1200]).toEqual(["working", true]);
    expect(made(board, () => board.run(pasidCacheGlobal, contextGlobal, iotlbGlobal, wait(1)))).toBeLessThan(3300);
    expect(status(board)).toBe(0n);
    board.unplug(A);
    board.goOn();
    expect([board.live(), status(board)]).toEqual([{}, 1n]);
  });

  it("binds as many PASIDs as are allowed, and others when some have gone", () => {
    const board = new Board(FIRST_STAGE, hostDescription(), AT_ONCE);
    board.context(A);
    board.table();
    for (let pasid = 0; pasid <= MANY; pasid++) {
      board.entry(A, pasid, board.firstStage(0, 5));
    }
    const { device, calls: made } = hollowDevice();
    const acceleration = (board.vtd.backend = new VtdAcceleration(board.vtd, board.log, 80));
    const told = (): unknown[] => {
      const [fn] = acceleration.describeFunctions();
      return [fn.pasids.length, fn.blockedPasids.length, fn.blockedPasids[0]];
    };
    acceleration.addFunction(board.ports[0].secondary, 0, device);
    board.start();
    board.goOn();
    const reason = "the guest binds more than 80 PASIDs of a function";
    expect(told()).toEqual([80, 21, { pasid: 80, reason }]);
    // It is no reason to stop the queue, and an entry that changes is followed.
    board.entry(A, 3, []);
    board.entry(A, 4, board.passThrough(6));
    board.run(pasidCacheGlobal, wait(1));
    board.goOn();
    expect([status(board), board.read(R.FSTS) & 0x10, ...told()]).toEqual([1n, 0, 80, 20, { pasid: 81, reason }]);
    acceleration.removeFunction(board.ports[0].secondary, 0);
    expect(made.destroy).toBe(made.alloc);
  });

  it.runIf(process.env.VIOMMU_FUZZ === "nightly")("binds 2^18 PASIDs, and the others are blocked for that reason", () => {
    const board = hostile();
    const { device, calls: made } = hollowDevice();
    board.unplug(A);
    const { acceleration } = board;
    acceleration.addFunction(board.ports[0].secondary, 0, device);
    board.start();
    const steps = board.goOn();
    const [fn] = acceleration.describeFunctions();
    expect([acceleration.progress, board.read(R.GSTS) >>> 31, fn.pasids.length, made.alloc, made.attach]).toEqual(["done", 1, 2 ** 18, 2 ** 18, 2 ** 18]);
    expect(fn.blockedPasids[0]).toEqual({ pasid: 2 ** 18, reason: "the guest binds more than 262144 PASIDs of a function" });
    // Nine steps of a binding, and one of each entry behind them.
    expect(steps).toBeGreaterThan((9 * 2 ** 18 + 3 * 2 ** 18) / 4200);
    acceleration.removeFunction(board.ports[0].secondary, 0);
    expect(made.destroy).toBe(2 ** 18);
  }, 600_000);
});
