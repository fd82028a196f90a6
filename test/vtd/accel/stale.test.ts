import { describe, expect, it } from "vitest";
import type { VtdProperties } from "../../../src/vtd/index.js";
import { QIE, R, SRTP, TE } from "../rig.js";
import { A, B, Board, contextDevice, FIRST_STAGE, IOVA, iotlbDomain, iotlbPages, pasidCache, piotlbAll, piotlbPages, SHADOWED, STATUS, wait } from "./rig.js";

/** A function on first-stage table 0 with domain 5, read once; `other`: a second table that none of its entries names. */
function cached(properties: Partial<VtdProperties> = FIRST_STAGE): { board: Board; other: number } {
  const board = new Board(properties);
  board.plug(A);
  board.context(A);
  board.entry(A, 0, board.firstStage(board.table(), 5));
  board.entry(A, 9, board.firstStage(0, 5));
  board.start();
  const other = board.table();
  expect([board.probe(A), board.probe(A, 9)]).toEqual(["table 0", "table 0"]);
  return { board, other };
}

/** Table 0 leads elsewhere now; without an invalidation the hardware's IOTLB has it as it was. */
function remap(board: Board, other: number): void {
  board.map(0, IOVA, board.target(other));
  expect(board.probe(A)).toBe("table 0");
}

describe("SRTP (6.6, CAP.ESRTPS)", () => {
  it("drops what the host has cached of nested tables that stay", () => {
    const { board, other } = cached();
    remap(board, other);
    board.taken();
    board.command(SRTP);
    expect(board.taken()).toEqual([expect.stringMatching(/^invalidate \d+: 0\+all$/), expect.stringMatching(/^invalidate \d+: 0\+all$/)]);
    expect([board.probe(A), board.probe(A, 9)]).toEqual([`table ${other}`, `table ${other}`]);
  });

  it("takes a table away whose invalidation the host refuses, and brings it back at the next occasion", () => {
    const { board, other } = cached();
    remap(board, other);
    board.observer.failOn({ operation: "HWPT_INVALIDATE", nth: 1, errno: "EIO" });
    board.command(SRTP);
    expect([board.probe(A), board.probe(A, 9)]).toEqual(["abort", `table ${other}`]);
    board.vtd.write(R.FECTL, 4, 0n);
    expect(board.probe(A)).toBe(`table ${other}`);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("has mirrors follow the tables", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.start(false);
    const other = board.table(3n);
    board.map(0, IOVA, board.target(other), 3n);
    expect(board.probe(A)).toBe("table 0");
    board.command(SRTP);
    expect(board.probe(A)).toBe(`table ${other}`);
  });
});

describe("an entry whose domain id changes (6.5.3.3)", () => {
  it("is invalidated by the old id", () => {
    const { board, other } = cached();
    remap(board, other);
    board.entry(A, 0, board.firstStage(0, 7));
    board.run(pasidCache(5, 0), piotlbAll(5, 0), wait(1));
    expect(board.probe(A)).toBe(`table ${other}`);
  });

  it.each([
    ["PASID-selective", piotlbAll(5, 0)],
    ["of the pages", piotlbPages(5, 0, IOVA)],
    ["of the domain", iotlbDomain(5)],
  ] as const)("is so, too, where another function's invalidation was met before: %s", (_name, descriptor) => {
    const { board, other } = cached();
    board.plug(B);
    board.context(B);
    board.entry(B, 0, board.firstStage(other, 6));
    board.entry(A, 0, board.firstStage(0, 7));
    board.run(pasidCache(6, 0));
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", `table ${other}`]);
    remap(board, other);
    board.run(pasidCache(5, 0), descriptor, wait(1));
    expect(board.probe(A)).toBe(`table ${other}`);
  });

  it("is so where its table changes with it", () => {
    const { board, other } = cached();
    board.plug(B);
    board.context(B);
    board.entry(B, 0, board.firstStage(0, 6));
    board.entry(A, 0, board.firstStage(other, 7));
    board.run(pasidCache(6, 0));
    expect(board.probe(A)).toBe(`table ${other}`);
    board.map(other, IOVA, board.target(0));
    expect(board.probe(A)).toBe(`table ${other}`);
    board.run(pasidCache(5, 0), piotlbAll(5, 0), wait(1));
    expect(board.probe(A)).toBe("table 0");
  });

  it("stays reachable by the new id alone once it is another's", () => {
    const { board } = cached();
    for (const domain of [10, 11, 12, 13, 14]) {
      board.entry(A, 0, board.firstStage(0, domain));
      board.run(pasidCache(domain, 0));
    }
    board.taken();
    board.run(piotlbAll(14, 0), wait(1), piotlbAll(10, 0), wait(2));
    expect(board.taken()).toHaveLength(2);
    // PASID 9 has the id still, PASID 0 had it too long ago: it has been flushed five times since.
    board.run(piotlbAll(5, 0), wait(3));
    expect(board.taken()).toHaveLength(0);
  });
});

describe("PASID-based IOTLB invalidations of mirrored second stages (table 24)", () => {
  const mirrored = (): Board => {
    const board = new Board({ ...SHADOWED, scalableMode: true, pasidBits: 20 });
    board.plug(A);
    board.context(A);
    board.entry(A, 0, [1n | (2n << 6n) | (2n << 2n) | BigInt(board.base(board.table(3n))), 5n, 0n]);
    board.start(true);
    board.table(3n);
    board.map(0, IOVA, board.target(1), 3n);
    expect(board.probe(A)).toBe("table 0");
    return board;
  };

  it("act where they are PASID-selective and of the domain", () => {
    const board = mirrored();
    board.run(piotlbAll(6, 0), piotlbPages(5, 0, IOVA), wait(1));
    expect(board.probe(A)).toBe("table 0");
    board.run(piotlbAll(5, 3), wait(2));
    expect(board.probe(A)).toBe("table 1");
  });

  it("stop the queue where the host refuses a mapping", () => {
    const board = mirrored();
    board.observer.failOn({ operation: "IOAS_MAP", nth: 1, errno: "ENOMEM" });
    board.run(piotlbAll(5, 0), wait(3));
    expect([board.read(R.FSTS) & 0x10, board.load(STATUS) & 0xffffn, board.probe(A)]).toEqual([0x10, 0n, "abort"]);
    board.vtd.write(R.FSTS, 4, 0x10n);
    expect([board.read(R.FSTS) & 0x10, board.load(STATUS) & 0xffffn, board.probe(A)]).toEqual([0, 3n, "table 1"]);
  });
});

describe("from legacy to scalable mode while translation is on", () => {
  it("all present PASIDs are bound", () => {
    const board = new Board();
    board.plug(A);
    board.legacyContext(A, 9, 0n, board.table(3n));
    board.start(false);
    expect(board.probe(A)).toBe("table 0");
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.entry(A, 9, board.firstStage(board.table(), 6));
    board.setRoot(true);
    expect([board.probe(A), board.probe(A, 9)]).toEqual(["table 1", "table 2"]);
    board.legacyContext(A, 9, 0n, 0);
    board.setRoot(false);
    expect([board.probe(A), board.probe(A, 9)]).toEqual(["table 0", "abort"]);
    board.close();
    expect(board.live()).toEqual({});
  });
});

describe("what the host refuses is tried again", () => {
  /** Neither the parent nor detaching: the function keeps its table after TE is off. */
  const stuck = (): Board => {
    const { board } = cached();
    board.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "ENOSPC" });
    // The second detach is PASID 9's.
    board.observer.failOn({ operation: "VFIO_DETACH_IOMMUFD_PT", nth: 1, errno: "ENOSPC" });
    board.stop();
    expect(board.probe(A)).toBe("table 0");
    return board;
  };

  it.each([
    ["a register write", (board: Board) => board.vtd.write(R.FECTL, 4, 0n)],
    ["work of the queue", (board: Board) => board.run(wait(1))],
    ["a driver that enables bus mastering", (board: Board) => board.functions.get(A)!.configWrite(4, 2, 6)],
    ["another function that leaves", (board: Board) => {
      board.plug(B);
      board.unplug(B);
    }],
  ] as const)("by %s, also while translation is off", (_name, act) => {
    const board = stuck();
    act(board);
    expect(board.probe(A)).toBe("bypass");
  });

  it("for PASIDs, too", () => {
    const { board } = cached();
    board.entry(A, 9, board.passThrough(5));
    board.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "ENOSPC" });
    board.run(pasidCache(5, 9));
    expect([board.probe(A, 9), board.read(R.FSTS) & 0x10]).toEqual(["abort", 0x10]);
    board.vtd.write(R.IECTL, 4, 0n);
    expect(board.probe(A, 9)).toBe("bypass");
  });
});

describe("a plug", () => {
  it("is not refused for what the guest's entries ask of the host: the function is blocked, and tried again", () => {
    const board = new Board();
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.start();
    board.observer.failOn({ operation: "HWPT_ALLOC", nth: 2, errno: "ENOMEM" });
    board.plug(A, 0, true);
    expect(board.probe(A)).toBe("abort");
    expect(board.log.warnings().join()).toContain("ENOMEM");
    board.vtd.write(R.FECTL, 4, 0n);
    expect(board.probe(A)).toBe("table 0");
  });

  it("is not refused for tables that lead in circles", () => {
    const board = new Board(SHADOWED);
    board.table(3n);
    for (let i = 0; i < 512; i++) {
      board.store(board.base(0) + 8 * i, BigInt(board.base(0)) | 3n);
    }
    board.legacyContext(A, 5, 0n, 0);
    board.start(false);
    board.plug(A, 0, true);
    expect(board.probe(A)).toBe("abort");
    // The guest mends its tables.
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.run(contextDevice(board.sid(A)));
    expect(board.probe(A)).toBe("table 1");
  });

  it("is refused where the host cannot even block the function", () => {
    const board = new Board();
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.start();
    board.observer.failOn({ operation: "HWPT_ALLOC", nth: 2, errno: "ENOMEM" });
    board.observer.failOn({ operation: "VFIO_DETACH_IOMMUFD_PT", nth: 1, errno: "ENOMEM" });
    expect(() => board.plug(A, 0, true)).toThrow(/Detaching from HWPT failed/);
    expect(board.live()).toEqual({});
  });
});

describe("register-based invalidation", () => {
  it("reaches mirrors", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.setRoot(false);
    board.command(TE);
    board.table(3n);
    board.map(0, IOVA, board.target(1), 3n);
    expect([board.probe(A), board.read(R.GSTS) & QIE]).toEqual(["table 0", 0]);
    // IVT, global.
    board.vtd.write(R.IOTLB, 8, 0x9000_0000_0000_0000n);
    expect(board.probe(A)).toBe("table 1");
    board.run(iotlbPages(5, IOVA));
  });
});

describe("registers, while the host neither takes a function to its tables nor off those that it has", () => {
  /** The host refuses the next change of a mirror, and to take the function off it. */
  function refusing(board: Board, change: "IOAS_UNMAP" | "VFIO_ATTACH_IOMMUFD_PT"): void {
    for (let nth = 1; nth <= 3; nth++) {
      board.observer.failOn({ operation: change, nth, errno: "ENOMEM" });
      board.observer.failOn({ operation: "VFIO_DETACH_IOMMUFD_PT", nth, errno: "ENOMEM" });
    }
  }

  /** A function on a mirror, queued invalidation off. */
  function mirrored(): Board {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.setRoot(false);
    board.command(TE);
    expect(board.probe(A)).toBe("table 0");
    return board;
  }

  it.each([
    ["IOTLB.IVT", R.IOTLB, 8, 0x9000_0000_0000_0000n, (board: Board) => board.map(0, IOVA, 0, 3n), "IOAS_UNMAP", "abort"],
    ["CCMD.ICC", R.CCMD, 8, 0xa000_0000_0000_0000n, (board: Board) => board.legacyContext(A, 5, 0n, board.table(3n)), "VFIO_ATTACH_IOMMUFD_PT", "table 1"],
  ] as const)("tell nothing as done: %s", (_name, register, size, command, change, refused, found) => {
    const board = mirrored();
    change(board);
    refusing(board, refused);
    board.vtd.write(register, size, command);
    expect([board.acceleration.progress, board.probe(A)]).toEqual(["refused", "table 0"]);
    // A guest that polls has the host asked again, until it does what is asked of it.
    let polls = 0;
    while (board.read(register + 4) >>> 31 === 1) {
      expect(board.probe(A)).toBe("table 0");
      polls++;
    }
    expect([polls > 0, board.probe(A), board.acceleration.progress]).toEqual([true, found, "done"]);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("tell nothing as done: GSTS.TES", () => {
    const board = mirrored();
    refusing(board, "VFIO_ATTACH_IOMMUFD_PT");
    board.stop();
    expect([board.acceleration.progress, board.probe(A)]).toEqual(["refused", "table 0"]);
    let polls = 0;
    while (board.read(R.GSTS) >>> 31 === 1) {
      polls++;
    }
    expect([polls > 0, board.acceleration.progress]).toEqual([true, "done"]);
    expect(board.probe(A)).toContain("bypass");
  });
});
