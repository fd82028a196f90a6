/** Adjacent pages of a mirror are one call of the host, and what goes of them never has DMA to the rest fail. */
import { describe, expect, it } from "vitest";
import { A, Board, iotlbDomain, iotlbPages, SHADOWED, STATUS, wait } from "./rig.js";

/** A leaf table of 512 pages, the entry of the directory that leads there, and the pages. */
const LEAF = 0x140_0000;
const SLOT = 8 * 100;
const PAGES = 0x60_0000;
const FIRST = (4n << 30n) + (100n << 21n);

const page = (n: number): bigint => FIRST + BigInt(n) * 0x1000n;

/** Entries for consecutive pages from page `from` on. */
const run = (from: number, count: number, bits = 3n): bigint[] => Array.from({ length: count }, (_unused, n) => BigInt(PAGES + (from + n) * 0x1000) | bits);

/** The same in an order in which none is beside the one before. */
const scattered = (count: number): bigint[] => Array.from({ length: count }, (_unused, n) => BigInt(PAGES + (n ^ 1) * 0x1000) | 3n);

/** A function on a mirror that has one page, and an empty leaf table. */
function mirrored(): Board {
  const board = new Board(SHADOWED);
  board.plug(A);
  const n = board.table(3n);
  board.store(board.base(n) + 0x2000 + SLOT, BigInt(LEAF) | 3n);
  board.legacyContext(A, 5, 0n, n);
  board.start(false);
  board.goOn();
  expect(mappings(board)).toBe(1);
  return board;
}

const mappings = (board: Board): number => board.acceleration.describeFunctions()[0].shadowMappings;
const status = (board: Board): bigint => board.load(STATUS) & 0xffffn;

/** Host calls meanwhile: IOAS_MAP, IOAS_UNMAP, and IOAS_ALLOC of new mirrors. */
function callsOf(board: Board, act: () => void): [maps: number, unmaps: number, mirrors: number] {
  const counts = (): number[] => ["IOAS_MAP", "IOAS_UNMAP", "IOAS_ALLOC"].map((name) => board.observer.calls.get(name) ?? 0);
  const before = counts();
  act();
  const [maps, unmaps, mirrors] = counts().map((count, i) => count - before[i]);
  return [maps, unmaps, mirrors];
}

let data = 0;
let token = 0;

/** Entries from page `at` on, and an invalidation of 2^mask pages around it; all that it needs. */
function change(board: Board, at: number, entries: readonly bigint[], mask: number, meanwhile = (): void => {}): void {
  board.store(LEAF + 8 * at, ...entries);
  board.run(iotlbPages(5, page(at & -(1 << mask)), BigInt(mask)), wait(++data));
  for (let turns = 0; status(board) !== BigInt(data); turns++) {
    expect(turns).toBeLessThan(1000);
    meanwhile();
    expect(board.acceleration.progress).toBe("working");
    let once = 0;
    board.goOn(() => once++ > 0);
  }
  meanwhile();
}

const none = (count: number): bigint[] => Array.from({ length: count }, () => 0n);

/** Pages that a function reaches, with what is written found in the right place. */
function reaches(board: Board, n: number): boolean {
  const value = BigInt(0x1234_0000 + n + 0x1_0000 * ++token);
  return board.dmaWrite(A, page(n), value) && board.load(PAGES + n * 0x1000) === value;
}

describe("pages that one invalidation maps", () => {
  it.each([
    [1, 0],
    [16, 4],
    [512, 9],
  ])("are one call where they are adjacent, and one when they go: %i", (pages, mask) => {
    const board = mirrored();
    expect(callsOf(board, () => change(board, 0, run(0, pages), mask))).toEqual([1, 0, 0]);
    expect([mappings(board), reaches(board, 0), reaches(board, pages - 1), board.dmaWrite(A, page(pages), 1n)]).toEqual([2, true, true, false]);
    expect(callsOf(board, () => change(board, 0, run(0, pages), mask))).toEqual([0, 0, 0]);
    expect(callsOf(board, () => change(board, 0, none(pages), mask))).toEqual([0, 1, 0]);
    expect([mappings(board), board.dmaWrite(A, page(0), 1n), board.dmaWrite(A, page(pages - 1), 1n)]).toEqual([1, false, false]);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are a call each where they are not, and go with one call", () => {
    const board = mirrored();
    expect(callsOf(board, () => change(board, 0, scattered(512), 9))).toEqual([512, 0, 0]);
    expect(callsOf(board, () => change(board, 0, none(512), 9))).toEqual([0, 1, 0]);
  });

  it("are beside those that were there before, which stay", () => {
    const board = mirrored();
    change(board, 0, run(0, 4), 2);
    expect(callsOf(board, () => change(board, 4, run(4, 4), 3))).toEqual([1, 0, 0]);
    expect([0, 3, 4, 7].map((n) => reaches(board, n))).toEqual([true, true, true, true]);
    expect(callsOf(board, () => change(board, 0, none(4), 2))).toEqual([0, 1, 0]);
    expect([3, 4, 7].map((n) => reaches(board, n))).toEqual([false, true, true]);
    // The range of the next one reaches over what is there.
    change(board, 0, run(0, 1), 0);
    change(board, 2, run(2, 1), 0);
    expect(callsOf(board, () => change(board, 0, none(8), 3))).toEqual([0, 3, 0]);
    expect(mappings(board)).toBe(1);
  });

  it("are apart where permissions are others", () => {
    const board = mirrored();
    expect(callsOf(board, () => change(board, 0, [...run(0, 2), ...run(2, 2, 1n), ...run(4, 2)], 3))).toEqual([3, 0, 0]);
    expect([1, 2, 3, 4].map((n) => reaches(board, n))).toEqual([true, false, false, true]);
  });

  it("are the pages of a large one, which goes over into them and back without a call", () => {
    const board = mirrored();
    const slot = board.base(0) + 0x2000 + SLOT;
    board.store(LEAF, ...run(0, 512));
    board.store(slot, BigInt(PAGES) | 0x83n);
    expect(callsOf(board, () => board.run(iotlbPages(5, FIRST, 9n)))).toEqual([1, 0, 0]);
    board.store(slot, BigInt(LEAF) | 3n);
    expect(callsOf(board, () => board.run(iotlbDomain(5)))).toEqual([0, 0, 0]);
    board.store(slot, BigInt(PAGES) | 0x83n);
    expect(callsOf(board, () => board.run(iotlbPages(5, page(7))))).toEqual([0, 0, 0]);
    expect([reaches(board, 0), reaches(board, 511)]).toEqual([true, true]);
  });

  it("are joined for large pages, too", () => {
    const board = mirrored();
    board.store(board.base(0) + 0x2000 + SLOT, BigInt(PAGES) | 0x83n, BigInt(PAGES + 0x20_0000) | 0x83n, BigInt(PAGES + 0x40_0000) | 0x83n);
    expect(callsOf(board, () => board.run(iotlbPages(5, FIRST & ~0x7f_ffffn, 11n)))).toEqual([1, 0, 0]);
    expect([reaches(board, 0), reaches(board, 3 * 512 - 1)]).toEqual([true, true]);
    board.store(board.base(0) + 0x2000 + SLOT, 0n, 0n, 0n);
    expect(callsOf(board, () => board.run(iotlbPages(5, FIRST & ~0x7f_ffffn, 11n)))).toEqual([0, 1, 0]);
  });
});

describe("a part of them that goes", () => {
  it.each([
    ["unmapped", [0n], false],
    ["read-only", [BigInt(PAGES + 5 * 0x1000) | 1n], false],
    ["elsewhere", [BigInt(PAGES + 600 * 0x1000) | 3n], true],
  ] as const)("leaves DMA to the rest as it is at every moment: %s", (_name, entry, written) => {
    const board = mirrored();
    change(board, 0, run(0, 512), 9);
    const calls = callsOf(board, () => change(board, 5, entry, 0, () => expect([0, 4, 6, 511].map((n) => reaches(board, n))).toEqual([true, true, true, true])));
    // A new mirror: the page beside, and each page of this table of its own.
    expect(calls).toEqual([1 + 511 + (entry[0] === 0n ? 0 : 1), 0, 1]);
    expect([board.dmaWrite(A, page(5), 1n), reaches(board, 5), board.probe(A)]).toEqual([written, false, "table 0"]);
    // From then on what goes of this table goes alone.
    expect(callsOf(board, () => change(board, 100, [0n], 0))).toEqual([0, 1, 0]);
    expect([99, 100, 101].map((n) => reaches(board, n))).toEqual([true, false, true]);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("has the rest go, too, where another processor is about to unmap it", () => {
    const board = mirrored();
    change(board, 0, run(0, 512), 9);
    board.store(LEAF, ...none(300));
    let turns = 0;
    const other = (): void => {
      if (++turns === 2) {
        board.store(LEAF, ...none(512));
      }
    };
    expect(callsOf(board, () => change(board, 0, none(1), 0, other))).toEqual([0, 1, 0]);
    expect(mappings(board)).toBe(1);
  });

  it("has nothing joined any more after the fourth", () => {
    const board = mirrored();
    for (let table = 0; table < 5; table++) {
      board.store(board.base(0) + 0x2000 + SLOT + 8 * table, BigInt(LEAF + 0x1000 * table) | 3n);
    }
    for (let table = 0; table < 5; table++) {
      const at = 512 * table;
      const maps = callsOf(board, () => change(board, at, run(0, 512), 9))[0];
      expect([table, maps]).toEqual([table, table < 4 ? 1 : 512]);
      expect([table, callsOf(board, () => change(board, at + 9, [0n], 0))[2]]).toEqual([table, table < 4 ? 1 : 0]);
    }
  });

  it("is told as done when the host has taken the new mirror, and blocks the function where it does not", () => {
    const board = mirrored();
    change(board, 0, run(0, 512), 9);
    board.observer.failOn({ operation: "IOAS_MAP", nth: 100, errno: "ENOMEM" });
    board.store(LEAF + 8 * 5, 0n);
    board.run(iotlbPages(5, page(5)), wait(0x7777));
    expect([status(board) === 0x7777n, reaches(board, 5)]).toEqual([false, true]);
    board.goOn(() => status(board) === 0x7777n);
    expect([status(board), reaches(board, 5)]).toEqual([0x7777n, false]);
    board.goOn();
    expect([reaches(board, 4), reaches(board, 5)]).toEqual([true, false]);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("is of no matter where the mirror goes meanwhile", () => {
    for (const end of [(board: Board) => board.stop(), (board: Board) => board.unplug(A), (board: Board) => board.vtd.reset()]) {
      const board = mirrored();
      change(board, 0, run(0, 512), 9);
      board.store(LEAF + 8 * 5, 0n);
      board.run(iotlbPages(5, page(5)));
      expect(board.acceleration.progress).toBe("working");
      end(board);
      expect(board.acceleration.progress).toBe("done");
      board.goOn();
      board.close();
      expect(board.live()).toEqual({});
    }
  });
});
