import { describe, expect, it } from "vitest";
import { R } from "../rig.js";
import { A, B, Board, contextDevice, contextGlobal, FIRST_STAGE, iotlbDomain, pasidCache, pasidCacheDomain, pasidCacheGlobal, piotlbAll, piotlbPages, STATUS, wait } from "./rig.js";

/** A board whose function A has a context entry, in scalable mode, translation on. */
function started(properties = FIRST_STAGE): Board {
  const board = new Board(properties);
  board.plug(A);
  board.context(A);
  board.start();
  board.taken();
  return board;
}

describe("requests without PASID", () => {
  it("go to the parent while translation is off, and nowhere while no entry is present", () => {
    const board = new Board();
    board.plug(A);
    expect(board.probe(A)).toBe("bypass");
    board.start();
    expect(board.read(R.FSTS)).toBe(0);
    expect(board.probe(A)).toBe("abort");
    // Its requests find no root entry.
    expect([board.read(R.FSTS), (board.read64(R.FRCD + 8) >> 32n) & 0xffn]).toEqual([2, 0x39n]);
    board.stop();
    expect(board.probe(A)).toBe("bypass");
    board.close();
    expect(board.live()).toEqual({});
  });

  it("go through the guest's first stage when its entry becomes present", () => {
    const board = started();
    const table = board.table();
    board.entry(A, 0, board.firstStage(table, 5));
    expect(board.probe(A)).toBe("abort");
    board.run(pasidCache(5, 0), wait(1));
    expect(board.probe(A)).toBe(`table ${table}`);
    expect(board.load(STATUS) & 0xffffn).toBe(1n);
    const [nest, attach] = board.taken();
    expect(nest).toMatch(new RegExp(`^nest \\d+ on \\d+ flags 8: 0 ${board.base(table).toString(16)} 48$`));
    expect(attach).toBe(`attach ${A} ${nest.split(" ")[1]}`);
  });

  it("pass WPE on to the host; SRE is reserved for a guest without supervisor requests", () => {
    const board = started();
    board.entry(A, 0, board.firstStage(board.table(), 5, 0x10n));
    board.run(pasidCache(5, 0));
    expect(board.taken()[0]).toMatch(/ flags 8: 4 /);
    expect(board.probe(A)).toBe("table 0");
    board.entry(A, 0, board.firstStage(board.table(), 5, 0x1n));
    board.run(pasidCache(5, 0));
    expect(board.probe(A)).toBe("abort");
  });

  it("are moved by one replacing attach, the old table freed after it", () => {
    const board = started();
    const [first, second] = [board.table(), board.table()];
    board.entry(A, 0, board.firstStage(first, 5));
    board.run(pasidCache(5, 0));
    const old = board.taken()[0].split(" ")[1];
    board.entry(A, 0, board.firstStage(second, 5));
    board.run(pasidCache(5, 0));
    const calls = board.taken();
    expect(calls).toHaveLength(3);
    const fresh = calls[0].split(" ")[1];
    expect(calls.slice(1)).toEqual([`attach ${A} ${fresh}`, `destroy ${old}`]);
    expect(board.probe(A)).toBe(`table ${second}`);
  });

  it("stay where they are when nothing has changed, or the domain alone", () => {
    const board = started();
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.run(pasidCache(5, 0));
    board.taken();
    board.run(pasidCache(5, 0), pasidCacheGlobal, contextGlobal);
    expect(board.taken()).toEqual([]);
    board.entry(A, 0, board.firstStage(0, 6));
    board.run(pasidCache(6, 0));
    // What was cached under the old id goes, as invalidations by the new one would not have found it.
    const whole = board.taken();
    expect(whole).toEqual([expect.stringMatching(/^invalidate \d+: 0\+all$/)]);
    board.run(piotlbAll(5, 0), wait(1));
    expect(board.taken()).toEqual(whole);
    board.run(piotlbAll(6, 0), wait(2));
    expect(board.taken()).toEqual(whole);
    board.run(piotlbAll(7, 0), wait(3));
    expect(board.taken()).toEqual([]);
  });

  it("go past the guest's tables to the parent itself with pass-through", () => {
    const board = started();
    board.entry(A, 0, board.passThrough(3));
    board.run(pasidCache(3, 0));
    expect(board.probe(A)).toBe("bypass");
    expect(board.taken().map((call) => call.split(" ")[0])).toEqual(["attach"]);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.run(pasidCache(3, 0));
    expect(board.probe(A)).toBe("table 0");
  });

  it("are blocked, and the fault recorded, with an entry that is not in order", () => {
    const board = started();
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.run(pasidCache(5, 0));
    board.entry(A, 0, [1n | (3n << 6n), 5n, BigInt(board.base(0))]);
    board.run(pasidCache(5, 0));
    expect(board.probe(A)).toBe("abort");
    expect(board.read(R.FSTS) & 2).toBe(2);
    expect([Number(board.read64(R.FRCD + 8) & 0xffffn), Number((board.read64(R.FRCD + 8) >> 32n) & 0xffn)]).toEqual([board.sid(A), 0x5b]);
  });
});

describe("granularities", () => {
  const withTwo = (): Board => {
    const board = new Board();
    board.plug(A);
    board.plug(B);
    for (const address of [A, B]) {
      board.context(address);
      board.entry(address, 0, board.firstStage(board.table(), 4));
    }
    board.start();
    return board;
  };

  it("are replayed when translation is switched on, and on SRTP", () => {
    const board = withTwo();
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "table 1"]);
    board.entry(A, 0, board.firstStage(board.table(), 4));
    board.setRoot(true);
    expect([board.probe(A), board.probe(B)]).toEqual(["table 2", "table 1"]);
  });

  it.each([
    ["a PASID", pasidCache(4, 0)],
    ["a domain", pasidCacheDomain(4)],
    ["all PASIDs", pasidCacheGlobal],
    ["all context entries", contextGlobal],
  ] as const)("follow an invalidation of %s", (_name, descriptor) => {
    const board = withTwo();
    board.entry(A, 0, []);
    board.entry(B, 0, board.passThrough(4));
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "table 1"]);
    board.run(descriptor);
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "bypass"]);
  });

  it("follow an invalidation of one device's context entry, for that device alone", () => {
    const board = withTwo();
    board.context(A, false);
    board.context(B, false);
    board.run(contextDevice(board.sid(A)));
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "table 1"]);
  });

  it("are forced at reset, and nothing is left", () => {
    const board = withTwo();
    board.vtd.reset();
    expect([board.probe(A), board.probe(B)]).toEqual(["bypass", "bypass"]);
    expect(board.live()["hwpt-nested"] ?? 0).toBe(0);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are replayed when a function is plugged", () => {
    const board = new Board();
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 4));
    board.start();
    board.plug(A, 0, true);
    expect(board.probe(A)).toBe("table 0");
    board.unplug(A);
    expect(board.live()).toEqual({});
  });
});

describe("PASIDs", () => {
  it("have tables of their own, beside that of requests without one", () => {
    const board = started();
    const [rid, first, second] = [board.table(), board.table(), board.table()];
    board.entry(A, 0, board.firstStage(rid, 1));
    board.entry(A, 7, board.firstStage(first, 2));
    board.entry(A, 200, board.firstStage(second, 3));
    board.run(pasidCache(1, 0), pasidCache(2, 7), pasidCache(3, 200));
    expect([board.probe(A), board.probe(A, 7), board.probe(A, 200), board.probe(A, 8)]).toEqual([`table ${rid}`, `table ${first}`, `table ${second}`, "abort"]);
    board.entry(A, 7, []);
    board.run(pasidCache(2, 7));
    expect([board.probe(A), board.probe(A, 7), board.probe(A, 200)]).toEqual([`table ${rid}`, "abort", `table ${second}`]);
    board.entry(A, 7, board.passThrough(9));
    board.run(pasidCache(9, 7));
    expect(board.probe(A, 7)).toBe("bypass");
    expect(board.acceleration.describeFunctions()[0].pasids.map(({ pasid, table }) => `${pasid} ${table}`).sort()).toEqual(["0 nested", "200 nested", "7 parent"]);
    board.stop();
    expect([board.probe(A), board.probe(A, 7), board.probe(A, 200)]).toEqual(["bypass", "abort", "abort"]);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are found by wider invalidations, and lost by them", () => {
    const board = started();
    board.entry(A, 65, board.firstStage(board.table(), 2));
    board.entry(A, 66, board.firstStage(board.table(), 2));
    board.run(pasidCacheDomain(2));
    expect([board.probe(A, 65), board.probe(A, 66)]).toEqual(["table 0", "table 1"]);
    board.entry(A, 65, []);
    board.run(pasidCacheGlobal);
    expect([board.probe(A, 65), board.probe(A, 66)]).toEqual(["abort", "table 1"]);
  });

  it("cost a selective invalidation no walk over the others", () => {
    const board = started();
    board.table();
    for (let pasid = 1; pasid < 3000; pasid++) {
      board.entry(A, pasid, board.firstStage(0, 2));
    }
    board.run(pasidCacheGlobal);
    board.goOn();
    const { acceleration } = board;
    expect(acceleration.bindingCount).toBe(2999);
    const before = acceleration.stepsTaken;
    board.entry(A, 1234, []);
    board.run(pasidCache(2, 1234));
    expect(acceleration.bindingCount).toBe(2998);
    expect(acceleration.stepsTaken - before).toBeLessThan(20);
  });
});

describe("invalidations", () => {
  it("go to the nested tables of their domain and PASID, those between two waits in one call each", () => {
    const board = started();
    const nested = (pasid: number, domain: number): string => {
      board.taken();
      board.entry(A, pasid, board.firstStage(board.table(), domain));
      board.run(pasidCache(domain, pasid));
      return board.taken()[0].split(" ")[1];
    };
    const [rid, other] = [nested(0, 5), nested(9, 6)];
    board.run(piotlbPages(5, 0, 0x1000n), piotlbPages(6, 9, 0x4_0000_0000n, 9n, true), piotlbPages(5, 0, 0x7000n, 1n), piotlbAll(7, 1), piotlbAll(6, 9), wait(1));
    expect(board.taken()).toEqual([`invalidate ${rid}: 1000+1, 6000+2`, `invalidate ${other}: 400000000+512 leaf, 0+all`]);
    expect(board.vtd.counters()).toMatchObject({ forwarded: 4, flushes: 1 });
    board.run(piotlbAll(5, 0), wait(2), piotlbAll(5, 0), wait(3));
    expect(board.taken()).toEqual([`invalidate ${rid}: 0+all`, `invalidate ${rid}: 0+all`]);
  });

  it("take effect in the hardware", () => {
    const board = started();
    const table = board.table();
    board.entry(A, 0, board.firstStage(table, 5));
    board.run(pasidCache(5, 0));
    expect(board.probe(A)).toBe(`table ${table}`);
    const other = board.table();
    board.map(table, 0x1_2345_6000n, board.target(other));
    expect(board.probe(A)).toBe(`table ${table}`);
    board.run(piotlbPages(5, 0, 0x1_2345_6000n), wait(1));
    expect(board.probe(A)).toBe(`table ${other}`);
  });

  it("of a whole domain reach its nested tables, too", () => {
    const board = started();
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.run(pasidCache(5, 0));
    board.taken();
    board.run(iotlbDomain(6), iotlbDomain(5));
    expect(board.taken()).toHaveLength(1);
  });

  it.each([
    ["ENOMEM, once", 1, Infinity, ["table 1", "table 1"], 1],
    ["EFAULT, twice, part-way", 2, 1, ["table 1", "table 1"], 1],
    ["ENOMEM, always: the binding is made anew", 3, Infinity, ["table 1", "table 1"], 2],
  ] as const)("that the host cannot do are done in the end: %s", (_how, times, handled, [rid, pasid], bindings) => {
    const board = started();
    const table = board.table();
    const other = board.table();
    expect([table, other]).toEqual([0, 1]);
    board.entry(A, 0, board.firstStage(table, 5));
    board.entry(A, 3, board.firstStage(table, 5));
    board.run(pasidCacheGlobal, wait(1));
    expect([board.probe(A), board.probe(A, 3)]).toEqual(["table 0", "table 0"]);
    board.map(table, 0x1_2345_6000n, board.target(other));
    expect([board.probe(A), board.probe(A, 3)], "cached").toEqual(["table 0", "table 0"]);
    const made = board.observer.calls.get("HWPT_ALLOC") ?? 0;
    for (let nth = 1; nth <= times; nth++) {
      board.observer.failOn({ operation: "HWPT_INVALIDATE", nth, errno: handled === 1 ? "EFAULT" : "ENOMEM", handled });
    }
    board.run(piotlbPages(5, 0, 0x1_2345_6000n), piotlbPages(5, 3, 0x1_2345_6000n), wait(9));
    expect([board.read(R.FSTS) & 0x10, board.load(STATUS) & 0xffffn]).toEqual([0, 9n]);
    expect([board.probe(A), board.probe(A, 3)]).toEqual([rid, pasid]);
    expect((board.observer.calls.get("HWPT_ALLOC") ?? 0) - made).toBe(bindings - 1);
  });

  it("that the host refuses stop the queue at their descriptor, and are done again when the guest goes on", () => {
    const board = started();
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.run(pasidCache(5, 0));
    const start = board.head;
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO" });
    board.run(piotlbPages(5, 0, 0x1000n), piotlbPages(5, 0, 0x2000n), wait(8));
    expect([board.read(R.FSTS) & 0x10, board.head]).toEqual([0x10, start]);
    expect(board.load(STATUS) & 0xffffn).toBe(0n);
    expect(board.log.lines.some((line) => /the host refused/.test(line.text))).toBe(true);
    board.vtd.write(R.FSTS, 4, 0x10n);
    expect([board.read(R.FSTS), board.head, board.load(STATUS) & 0xffffn]).toEqual([0, start + 3, 8n]);
  });
});
