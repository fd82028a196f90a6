import { describe, expect, it } from "vitest";
import { HostError } from "../../../src/iommufd/index.js";
import { Refusal } from "../../../src/support/index.js";
import { A, B, Board, FIRST_STAGE, hostDescription, iotlbPages, pasidCache, pasidCacheGlobal, piotlbAll, SHADOWED, wait } from "./rig.js";

/** What a guest and its user do; the board, and the first plug's refusal if there was one. */
function story(prepare: (board: Board) => void, properties = FIRST_STAGE): Board {
  const board = new Board(properties, hostDescription());
  prepare(board);
  const attempt = (act: () => void): void => {
    try {
      act();
    } catch (error) {
      if (!(error instanceof Refusal) && !(error instanceof HostError)) {
        throw error;
      }
    }
  };
  attempt(() => board.plug(A));
  attempt(() => board.plug(B, 0, true));
  const scalable = properties.scalableMode === true;
  if (scalable) {
    board.context(A);
    board.context(B);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.entry(B, 0, board.passThrough(6));
    board.entry(A, 3, board.firstStage(board.table(), 5));
    board.entry(B, 4, board.firstStage(1, 5));
  } else {
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.legacyContext(B, 6, 2n);
  }
  board.start(scalable);
  invariants(board);
  const goOn = (): void => board.vtd.write(0x34, 4, 0x10n);
  if (scalable) {
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.run(pasidCache(5, 0), piotlbAll(5, 0), wait(1));
    goOn();
    invariants(board);
    board.entry(A, 3, []);
    board.entry(B, 4, board.passThrough(6));
    board.entry(B, 0, board.firstStage(1, 5));
    board.run(pasidCacheGlobal, wait(2));
    goOn();
  } else {
    board.map(0, 0x9000n, board.target(0), 3n);
    board.run(iotlbPages(5, 0x9000n), wait(1));
    goOn();
    board.legacyContext(A, 7, 0n, board.table(3n));
    board.setRoot(false);
  }
  invariants(board);
  board.stop();
  invariants(board);
  if (board.functions.has(B)) {
    board.unplug(B);
  }
  board.vtd.reset();
  invariants(board);
  return board;
}

/** Never open beyond RAM, whatever fails; nowhere known is a page that no table names. */
function invariants(board: Board): void {
  for (const address of board.functions.keys()) {
    for (const pasid of [-1, 3, 4]) {
      expect(board.probe(address, pasid)).not.toMatch(/outside RAM|nowhere/);
    }
  }
}

/** How many calls of each kind the story makes. */
function counted(properties = FIRST_STAGE): Map<string, number> {
  const board = story(() => {}, properties);
  board.close();
  return board.observer.calls;
}

describe.each([
  ["nested", FIRST_STAGE, ["HWPT_ALLOC", "VFIO_ATTACH_IOMMUFD_PT", "VFIO_DETACH_IOMMUFD_PT", "HWPT_INVALIDATE", "DESTROY", "VTD_FAULTS", "GET_HW_INFO"]],
  ["mirrored", SHADOWED, ["IOAS_ALLOC", "IOAS_IOVA_RANGES", "IOAS_MAP", "IOAS_UNMAP", "HWPT_ALLOC", "VFIO_ATTACH_IOMMUFD_PT", "VFIO_DETACH_IOMMUFD_PT", "DESTROY"]],
] as const)("%s: whatever call fails", (_name, properties, operations) => {
  const calls = counted(properties);
  const failing = operations.flatMap((operation) => Array.from({ length: calls.get(operation) ?? 0 }, (_unused, n) => [operation, n + 1] as const));

  it("there are calls to fail", () => {
    expect(failing.length).toBeGreaterThan(15);
  });

  it.each(failing)("%s, the %ith", (operation, nth) => {
    const board = story((one) => one.observer.failOn({ operation, nth, errno: "ENOMEM" }), properties);
    board.observer.clearFailures();
    board.close();
    expect(board.live()).toEqual({});
  });
});
