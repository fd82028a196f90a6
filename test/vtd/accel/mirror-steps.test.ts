/** A mirror is made and kept in bounded steps, and nothing is told as done before it is. */
import { describe, expect, it } from "vitest";
import { R, TE } from "../rig.js";
import { A, B, Board, contextDevice, FIRST_STAGE, IOVA, iotlbDomain, iotlbPages, pasidCache, pasidCacheDomain, pasidCacheGlobal, SHADOWED, STATUS, wait } from "./rig.js";


const mappings = (board: Board): number => board.acceleration.describeFunctions()[0].shadowMappings;
const status = (board: Board): bigint => board.load(STATUS) & 0xffffn;

/** Leaf tables of 512 pages, from IOVA 0 on. */
const TABLES = 4;

/** Entries for the pages of 2 MiB from an address on, none beside the one before: each is a mapping of its own. */
const apart = (address: number): bigint[] => Array.from({ length: 512 }, (_unused, page) => BigInt(address + (page ^ 1) * 0x1000) | 3n);

/** A function whose tables are more than one step mirrors. */
function started(properties = SHADOWED): Board {
  const board = new Board(properties);
  board.plug(A);
  const n = board.table(3n);
  // The directory is met twice: from IOVA 0 on, and around IOVA.
  const directory = board.base(n) + 0x2000;
  for (let i = 0; i < TABLES; i++) {
    const table = 0x140_0000 + i * 0x1000;
    board.store(directory + 8 * i, BigInt(table) | 3n);
    board.store(table, ...apart(0x40_0000));
  }
  board.store(board.base(n), BigInt(board.base(n) + 0x1000) | 3n);
  board.store(board.base(n) + 0x1000, BigInt(directory) | 3n);
  board.legacyContext(A, 5, 0n, n);
  return board;
}

/** The same, mirrored to the end. */
function mirrored(): Board {
  const board = started();
  board.start(false);
  board.goOn();
  expect(mappings(board)).toBeGreaterThan(4096);
  return board;
}

describe("a mirror that is made", () => {
  it("holds back GSTS.TES, and the function stays where it is until it is there", () => {
    const board = started();
    board.start(false);
    expect([board.acceleration.progress, board.read(R.GSTS) >>> 31]).toEqual(["working", 0]);
    expect(board.dmaWrite(A, 0x9000n, 1n)).toBe(true);
    expect(board.load(0x9000)).toBe(1n);
    const steps = board.goOn();
    expect(steps).toBeGreaterThan(3);
    expect([board.acceleration.progress, board.read(R.GSTS) >>> 31]).toEqual(["done", 1]);
    expect(board.dmaWrite(A, 0x9000n, 2n)).toBe(true);
    expect([board.load(0x9000), board.load(0x40_8000)]).toEqual([1n, 2n]);
  });

  it("is finished by a guest that polls", () => {
    const board = started();
    board.start(false);
    let polls = 0;
    while (board.read(R.GSTS) >>> 31 === 0) {
      polls++;
    }
    expect([polls > 3, mappings(board) > 4096]).toEqual([true, true]);
  });

  it("keeps the function blocked where nobody waits: at a plug, and when its bus gets another number", () => {
    const board = started();
    board.start(false);
    board.goOn();
    board.unplug(A);
    board.plug(A, 0, true);
    expect(board.dmaWrite(A, 0x9000n, 1n)).toBe(false);
    expect(board.acceleration.describeFunctions()[0]).toMatchObject({ table: "blocked", reason: "the guest's second-stage tables are being mirrored" });
    board.goOn();
    expect(board.dmaWrite(A, 0x9000n, 1n)).toBe(true);
    board.number(0, 7);
    board.acceleration.busNumbersChanged();
    board.number(0, 1);
    board.acceleration.busNumbersChanged();
    expect(board.dmaWrite(A, 0x9000n, 1n)).toBe(false);
    board.goOn();
    expect(board.dmaWrite(A, 0x9000n, 1n)).toBe(true);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("is given up when translation goes off, the function leaves or the unit is reset, and nothing is left", () => {
    for (const [end, enabled] of [
      [(board: Board) => board.vtd.write(R.GCMD, 4, 0n), 0],
      [(board: Board) => board.unplug(A), 1],
      [(board: Board) => board.vtd.reset(), 0],
    ] as const) {
      const board = started();
      board.start(false);
      expect(board.acceleration.progress).toBe("working");
      end(board);
      expect([board.acceleration.progress, board.read(R.GSTS) >>> 31]).toEqual(["done", enabled]);
      board.goOn();
      board.close();
      expect(board.live()).toEqual({});
    }
  });
});

describe("a machine that is gone", () => {
  it("has no mirror go on", () => {
    const board = started();
    board.start(false);
    const { calls } = board.observer;
    const before = calls.get("IOAS_MAP");
    board.vtd.dispose();
    board.goOn();
    expect([board.acceleration.progress, calls.get("IOAS_MAP")]).toEqual(["working", before]);
  });
});

describe("an invalidation of a large mirror", () => {
  it("is complete before the wait behind it", () => {
    const board = mirrored();
    // Half of the pages lead elsewhere.
    for (let i = 2; i < TABLES; i++) {
      board.store(0x140_0000 + i * 0x1000, ...apart(0x60_0000));
    }
    board.run(iotlbDomain(5), wait(1));
    expect([board.acceleration.progress, status(board), board.head]).toEqual(["working", 0n, 1]);
    board.goOn();
    expect([status(board), board.head]).toEqual([1n, 2]);
    expect(board.dmaWrite(A, 0x7f_f000n, 9n)).toBe(true);
    expect(board.load(0x7f_e000)).toBe(9n);
  });

  it("does no more at once, however many come", () => {
    const board = mirrored();
    for (let i = 0; i < TABLES; i++) {
      board.store(0x140_0000 + i * 0x1000, ...apart(0x60_0000));
    }
    const before = board.observer.calls.get("IOAS_MAP")!;
    board.run(...Array.from({ length: 64 }, () => iotlbDomain(5)), wait(1));
    expect(board.observer.calls.get("IOAS_MAP")! - before).toBeLessThan(1024);
    board.goOn();
    expect([board.observer.calls.get("IOAS_MAP")! - before, status(board)]).toEqual([4096, 1n]);
  });

  it("costs what has changed", () => {
    const board = mirrored();
    const before = new Map(board.observer.calls);
    board.store(0x140_0000 + 8 * 5, BigInt(0x60_0000) | 3n);
    board.run(iotlbPages(5, 0x5000n), wait(1));
    expect(status(board)).toBe(1n);
    expect([...board.observer.calls].filter(([name, count]) => count !== (before.get(name) ?? 0))).toEqual([
      ["IOAS_MAP", before.get("IOAS_MAP")! + 1],
      ["IOAS_UNMAP", (before.get("IOAS_UNMAP") ?? 0) + 1],
    ]);
  });

  it("by registers is told as done when it is", () => {
    const board = started();
    board.setRoot(false);
    board.command(TE);
    board.goOn();
    for (let i = 0; i < TABLES; i++) {
      board.store(0x140_0000 + i * 0x1000, ...apart(0x60_0000));
    }
    // IVT, global.
    board.vtd.write(R.IOTLB, 8, 0x9000_0000_0000_0000n);
    expect(board.read(R.IOTLB + 4) >>> 31).toBe(1);
    board.goOn();
    expect([board.read(R.IOTLB + 4) >>> 31, board.dmaWrite(A, 0x9000n, 5n), board.load(0x60_8000)]).toEqual([0, true, 5n]);
  });

  it("walks anew what a page of it was invalidated: the rest of a large page that has become small ones", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    const region = IOVA & ~0x1f_ffffn;
    const slot = board.base(0) + 0x2000 + 8 * Number((IOVA >> 21n) & 0x1ffn);
    const table = board.load(slot);
    board.store(slot, BigInt(0x40_0000) | 0x83n);
    board.start(false);
    board.map(0, region, board.target(1), 3n);
    board.store(slot, table);
    // Hardware drops the large page with any part of it, and finds the small ones when they are used.
    board.run(iotlbPages(5, region), wait(1));
    expect([board.dmaWrite(A, region, 3n), board.load(board.target(1)), board.probe(A)]).toEqual([true, 3n, "table 0"]);
  });

  it("that the host refuses on the way leaves the function blocked, not on what was before", () => {
    const board = mirrored();
    for (let i = 0; i < TABLES; i++) {
      board.store(0x140_0000 + i * 0x1000, ...apart(0x60_0000));
    }
    board.observer.failOn({ operation: "IOAS_MAP", nth: 3000, errno: "ENOMEM" });
    board.run(iotlbDomain(5), wait(1));
    board.goOn(() => status(board) === 1n);
    expect([status(board), board.log.warnings().join()]).toEqual([1n, expect.stringContaining("ENOMEM")]);
    board.dmaWrite(A, 0x9000n, 0x77n);
    expect(board.load(0x40_8000)).toBe(0n);
    // It is tried again, as everything that the host refuses.
    board.goOn();
    expect([board.dmaWrite(A, 0x9000n, 0x78n), board.load(0x60_8000)]).toEqual([true, 0x78n]);
  });
});

describe("other tables", () => {
  it("of the same domain are one step: the function is on the old mirror, then on the new", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.start(false);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.calls.length = 0;
    board.run(contextDevice(board.sid(A)), wait(1));
    expect(board.calls.map((call) => call.split(" ")[0])).toEqual(["alloc", "attach", "destroy", "destroy"]);
    expect(board.probe(A)).toBe("table 1");
  });

  it("that the host does not map leave no half of them", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.plug(B);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.legacyContext(B, 6, 2n);
    board.start(false);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.observer.failOn({ operation: "IOAS_MAP", nth: 1, errno: "ENOMEM" });
    board.run(contextDevice(board.sid(A)), wait(1));
    expect([board.probe(A), board.read(R.FSTS) & 0x10]).toEqual(["abort", 0x10]);
    board.vtd.write(R.FSTS, 4, 0x10n);
    expect([board.probe(A), status(board)]).toEqual(["table 1", 1n]);
  });

  it("are followed where only the domain is another, without a mapping made anew", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.start(false);
    board.legacyContext(A, 7, 0n, 0);
    const before = board.observer.calls.get("IOAS_MAP");
    board.run(contextDevice(board.sid(A)));
    expect([board.observer.calls.get("IOAS_MAP"), board.probe(A)]).toEqual([before, "table 0"]);
    board.map(0, IOVA, 0, 3n);
    board.run(iotlbDomain(5));
    expect(board.probe(A)).toBe("abort");
  });
});

describe("a mirror that a PASID-cache invalidation asks for", () => {
  it.each([
    ["PASID-selective", pasidCache(5, 0)],
    ["domain-selective", pasidCacheDomain(5)],
    ["global", pasidCacheGlobal],
  ])("is made to its end, and the wait behind it is done: %s", (_name, invalidation) => {
    const board = started({ ...SHADOWED, scalableMode: true, pasidBits: 20 });
    board.context(A);
    board.start();
    board.entry(A, 0, [1n | (2n << 6n) | (2n << 2n) | BigInt(board.base(0)), 5n, 0n]);
    board.run(invalidation, wait(7));
    expect([board.acceleration.progress, status(board)]).toEqual(["working", 0n]);
    expect(board.goOn()).toBeGreaterThan(3);
    expect([board.acceleration.progress, status(board), mappings(board) > 4096]).toEqual(["done", 7n, true]);
  });

  it("is given up when the entry goes back to pass-through before it is made", () => {
    const board = started({ ...SHADOWED, scalableMode: true, pasidBits: 20 });
    board.context(A);
    board.entry(A, 0, board.passThrough(5));
    board.start();
    board.entry(A, 0, [1n | (2n << 6n) | (2n << 2n) | BigInt(board.base(0)), 5n, 0n]);
    board.run(pasidCache(5, 0));
    expect(board.acceleration.progress).toBe("working");
    board.entry(A, 0, board.passThrough(5));
    board.run(pasidCache(5, 0), wait(7));
    expect([board.acceleration.progress, status(board)]).toEqual(["done", 7n]);
    board.goOn();
    expect(board.probe(A)).toContain("bypass");
    board.close();
    expect(board.live()).toEqual({});
  });
});

describe("a mirror that legacy mode asks for", () => {
  it("is given up when the root table goes back to scalable mode before it is made", () => {
    const board = started(FIRST_STAGE);
    const first = board.table();
    board.context(A);
    board.entry(A, 0, board.firstStage(first, 5));
    board.start();
    expect(board.probe(A)).toBe("table 1");
    board.legacyContext(A, 5, 0n, 0);
    board.setRoot(false);
    expect(board.acceleration.progress).toBe("working");
    board.context(A);
    board.setRoot(true);
    expect(board.acceleration.progress).toBe("done");
    board.goOn();
    expect(board.probe(A)).toBe("table 1");
    board.close();
    expect(board.live()).toEqual({});
  });
});
