import { describe, expect, it } from "vitest";
import { MemoryRegion } from "../../../src/memory/index.js";
import { R } from "../rig.js";
import { A, B, Board, C, contextDevice, FIRST_STAGE, hostDescription, iotlbDomain, IOVA, pasidCache } from "./rig.js";

const UNIT = { dirtyTracking: true, secondStagePages: [] };

function tracked(): Board {
  const board = new Board(FIRST_STAGE, hostDescription(UNIT, UNIT));
  board.dirtyTracking = true;
  return board;
}

/** Guest-physical addresses of the dirty pages of the first 16 MiB. */
function dirty(board: Board, clear = true): number[] {
  const bitmap = board.contexts[0].readDirtyPages(0, 4096, clear);
  return Array.from({ length: 4096 }, (_unused, page) => page).filter((page) => ((bitmap[page >> 3] >> (page & 7)) & 1) !== 0).map((page) => page * 4096);
}

describe("dirty pages of the stage-2 tables", () => {
  it("are what functions have written through the guest's first stage, read and cleared", () => {
    const board = tracked();
    board.plug(A);
    board.context(A);
    const [first, second] = [board.table(), board.table()];
    board.entry(A, 0, board.firstStage(first, 5));
    board.start();
    board.dmaWrite(A, IOVA, 1n);
    board.contexts[0].setDirtyTracking(true);
    expect(dirty(board)).toEqual([]);
    board.dmaWrite(A, IOVA, 2n);
    expect(dirty(board, false)).toContain(board.target(first));
    // The guest changes its tables meanwhile: what was written through the old ones stays noted.
    board.entry(A, 0, board.firstStage(second, 5));
    board.run(pasidCache(5, 0));
    board.dmaWrite(A, IOVA, 3n);
    const found = dirty(board);
    expect(found).toContain(board.target(first));
    expect(found).toContain(board.target(second));
    expect(dirty(board)).toEqual([]);
    board.dmaWrite(A, IOVA, 4n);
    expect(dirty(board)).toContain(board.target(second));
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are of all functions together, of PASIDs and of ones plugged later too", () => {
    const board = tracked();
    board.plug(A);
    board.context(A);
    board.context(C);
    board.entry(A, 3, board.firstStage(board.table(), 5));
    board.entry(C, 0, board.passThrough(6));
    board.start();
    board.contexts[0].setDirtyTracking(true);
    board.plug(C, 0, true);
    board.dmaWrite(A, IOVA, 1n, 3);
    board.dmaWrite(C, 0x9000n, 1n);
    const found = dirty(board);
    expect(found).toContain(board.target(0));
    expect(found).toContain(0x9000);
    board.contexts[0].setDirtyTracking(false);
    expect(() => dirty(board)).toThrow(/EINVAL/);
  });

  it("are found again after a reading that the host has refused at a later table", () => {
    const board = tracked();
    board.plug(A);
    board.plug(C);
    board.context(A);
    board.context(C);
    board.entry(A, 0, board.passThrough(5));
    board.entry(C, 0, board.passThrough(6));
    board.start();
    board.contexts[0].setDirtyTracking(true);
    board.dmaWrite(A, 0x9000n, 1n);
    board.dmaWrite(A, 0xa000n, 1n);
    board.dmaWrite(C, 0xc000n, 1n);
    board.observer.failOn({ operation: "HWPT_GET_DIRTY_BITMAP", nth: 2, errno: "ENOMEM" });
    expect(() => dirty(board)).toThrow(/ENOMEM/);
    expect(dirty(board)).toEqual([0x9000, 0xa000, 0xc000]);
    expect(dirty(board)).toEqual([]);
  });

  it("stay off everywhere where one table cannot", () => {
    const board = tracked();
    board.plug(A);
    board.plug(C);
    board.observer.failOn({ operation: "HWPT_SET_DIRTY_TRACKING", nth: 2, errno: "ENOMEM" });
    expect(() => board.contexts[0].setDirtyTracking(true)).toThrow(/ENOMEM/);
    expect(() => dirty(board)).toThrow(/EINVAL/);
  });
});

describe("dirty pages of a function on a mirror", () => {
  const legacy = (): Board => {
    const board = tracked();
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    return board;
  };

  it.each(["before", "after"] as const)("are found by the guest's pages, tracking on %s the mirror is made", (when) => {
    const board = legacy();
    const track = (): void => board.contexts[0].setDirtyTracking(true);
    if (when === "before") {
      track();
    }
    board.start(false);
    if (when === "after") {
      board.dmaWrite(A, IOVA, 1n);
      track();
    }
    expect(dirty(board)).toEqual([]);
    expect(board.dmaWrite(A, IOVA, 2n)).toBe(true);
    expect(dirty(board, false)).toEqual([board.target(0)]);
    expect(dirty(board)).toEqual([board.target(0)]);
    expect(dirty(board)).toEqual([]);
    board.dmaWrite(A, IOVA, 3n);
    expect(dirty(board)).toEqual([board.target(0)]);
    board.contexts[0].setDirtyTracking(false);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are the single pages of a mapping of many", () => {
    const board = legacy();
    board.store(board.base(0) + 0x3000, ...Array.from({ length: 16 }, (_unused, page) => BigInt(0x9000 + page * 0x1000) | 3n));
    const first = IOVA & ~0x1f_ffffn;
    board.start(false);
    expect(board.acceleration.describeFunctions()[0].shadowMappings).toBe(2);
    board.contexts[0].setDirtyTracking(true);
    board.dmaWrite(A, first + 0x3000n, 1n);
    board.dmaWrite(A, first + 0xf000n, 1n);
    expect(dirty(board)).toEqual([0xc000, 0x1_8000]);
    expect(dirty(board)).toEqual([]);
  });

  it("are not lost with what the guest unmaps, nor with the mirror", () => {
    const board = legacy();
    const other = board.table(3n);
    board.map(0, 0x9000n, 0x9000, 3n);
    board.store(board.base(0) + 0x3000 + 8 * 0xa, 0xa001n);
    board.start(false);
    board.contexts[0].setDirtyTracking(true);
    board.dmaWrite(A, IOVA, 1n);
    board.map(0, IOVA, 0, 3n);
    board.run(iotlbDomain(5));
    expect(dirty(board)).toEqual([board.target(0)]);
    board.dmaWrite(A, 0x9000n, 1n);
    board.legacyContext(A, 6, 0n, other);
    board.run(contextDevice(board.sid(A)));
    // A mapping that was read-only has nothing.
    expect(dirty(board)).toEqual([0x9000]);
    expect(dirty(board)).toEqual([]);
  });

  it("are kept for another reading where they are beside what was asked for", () => {
    const board = legacy();
    board.map(0, IOVA + 0x1000n, 0x100_0000, 3n);
    board.start(false);
    board.contexts[0].setDirtyTracking(true);
    board.dmaWrite(A, IOVA, 1n);
    board.dmaWrite(A, IOVA + 0x1000n, 1n);
    expect(dirty(board)).toEqual([board.target(0)]);
    expect(board.contexts[0].readDirtyPages(0x100_0000, 8)).toEqual(Uint8Array.of(1));
    expect(board.contexts[0].readDirtyPages(0x100_0000, 8)).toEqual(Uint8Array.of(0));
  });

  it("are found again after a reading that the host has refused at a later range", () => {
    const board = legacy();
    board.map(0, 0x9000n, 0x9000, 3n);
    board.start(false);
    board.contexts[0].setDirtyTracking(true);
    board.dmaWrite(A, 0x9000n, 1n);
    board.dmaWrite(A, IOVA, 1n);
    // The stage-2 table's, and the first range's.
    board.observer.failOn({ operation: "HWPT_GET_DIRTY_BITMAP", nth: 3, errno: "ENOMEM" });
    expect(() => dirty(board)).toThrow(/ENOMEM/);
    expect(dirty(board)).toEqual([0x9000, board.target(0)]);
    expect(dirty(board)).toEqual([]);
  });

  it("block a function whose mirror the host cannot track, and leave tracking off where it refuses", () => {
    const board = legacy();
    board.start(false);
    board.observer.failOn({ operation: "HWPT_SET_DIRTY_TRACKING", nth: 2, errno: "ENOMEM" });
    expect(() => board.contexts[0].setDirtyTracking(true)).toThrow(/ENOMEM/);
    expect(() => dirty(board)).toThrow(/EINVAL/);
    board.contexts[0].setDirtyTracking(true);
    board.observer.failOn({ operation: "HWPT_SET_DIRTY_TRACKING", nth: 1, errno: "ENOMEM" });
    board.legacyContext(A, 6, 0n, board.table(3n));
    board.run(contextDevice(board.sid(A)));
    expect([board.probe(A), board.read(R.FSTS) & 0x10]).toEqual(["abort", 0x10]);
    board.close();
    expect(board.live()).toEqual({});
  });
});

describe("RAM that is unplugged", () => {
  it("is out of reach of functions, whatever the guest's first stage says", () => {
    const board = new Board();
    const extra = board.observed.allocateMemory("dimm", 0x10_0000);
    const region = MemoryRegion.ram("dimm", extra);
    board.system.add(0x4000_0000, region);
    board.plug(A);
    board.plug(B);
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.map(0, IOVA, 0x4000_0000);
    board.start();
    expect([board.dmaWrite(A, IOVA, 5n), board.dmaWrite(A, IOVA + 0x1000n, 5n)]).toEqual([true, false]);
    board.system.remove(region);
    expect(board.dmaWrite(A, IOVA, 5n)).toBe(false);
    board.system.add(0x4000_0000, region);
    expect(board.dmaWrite(A, IOVA, 6n)).toBe(true);
  });
});
