import { describe, expect, it } from "vitest";
import { ENGINE } from "../../../src/host/simulated/index.js";
import { MemoryRegion } from "../../../src/memory/index.js";
import { R } from "../rig.js";
import { A, B, Board, contextDevice, contextGlobal, FIRST_STAGE, hostDescription, IOVA, iotlbDomain, iotlbGlobal, iotlbPages, pasidCache, RAM_BYTES, SHADOWED, wait, STATUS } from "./rig.js";

function legacy(properties = SHADOWED): Board {
  const board = new Board(properties);
  board.plug(A);
  board.legacyContext(A, 5, 0n, board.table(3n));
  board.start(false);
  return board;
}

describe("legacy mode", () => {
  it("mirrors the guest's second stage when translation is switched on", () => {
    const board = legacy();
    expect(board.probe(A)).toBe("table 0");
    expect(board.acceleration.describeFunctions()[0]).toMatchObject({ table: "shadow", shadowMappings: 1 });
    board.stop();
    expect(board.probe(A)).toBe("bypass");
    board.close();
    expect(board.live()).toEqual({});
  });

  it("maps and unmaps with IOTLB invalidations, by pages, domain and all", () => {
    const board = legacy();
    const page = 0x1_2345_7000n;
    board.map(0, page, board.target(0) + 0x1000, 3n);
    expect(board.dmaWrite(A, page, 7n)).toBe(false);
    board.run(iotlbPages(5, page));
    expect(board.dmaWrite(A, page, 7n)).toBe(true);
    expect(board.load(board.target(0) + 0x1000)).toBe(7n);
    // Read-only now.
    board.map(0, page, board.target(0) + 0x1000, 1n);
    board.run(iotlbDomain(6));
    expect(board.dmaWrite(A, page, 8n)).toBe(true);
    board.run(iotlbDomain(5));
    expect(board.dmaWrite(A, page, 9n)).toBe(false);
    board.map(0, IOVA, 0, 3n);
    board.run(iotlbGlobal);
    expect(board.probe(A)).toBe("abort");
    expect(board.acceleration.describeFunctions()[0].shadowMappings).toBe(1);
  });

  it("mirrors pages of 2 MiB, and what replaces them", () => {
    const board = legacy();
    const base = board.base(0);
    const directory = base + 0x2000 + 8 * Number((IOVA >> 21n) & 0x1ffn);
    const before = board.load(directory);
    board.store(directory, BigInt(0x40_0000) | 0x83n);
    board.run(iotlbPages(5, IOVA & ~0x1f_ffffn, 9n));
    expect(board.dmaWrite(A, (IOVA & ~0x1f_ffffn) + 0x12_3000n, 77n)).toBe(true);
    expect(board.load(0x52_3000)).toBe(77n);
    board.store(directory, before);
    board.run(iotlbPages(5, IOVA & ~0x1f_ffffn, 9n));
    expect(board.dmaWrite(A, (IOVA & ~0x1f_ffffn) + 0x12_3000n, 78n)).toBe(false);
    expect(board.probe(A)).toBe("table 0");
  });

  it("lets nothing out of RAM, and nothing be written that is read-only", () => {
    const board = legacy();
    board.map(0, 0x9000n, RAM_BYTES, 3n);
    board.map(0, 0xa000n, 0xfffc_0000, 3n);
    board.run(iotlbGlobal);
    expect([board.dmaWrite(A, 0x9000n, 1n), board.dmaWrite(A, 0xa000n, 1n)]).toEqual([false, false]);
    const out = new Uint8Array(8);
    expect(board.hardware(A).readMemory(0, 0xa000, out, -1, 1, false)).toBe(true);
  });

  it("goes past the tables with a pass-through entry, and nowhere without an entry", () => {
    const board = legacy();
    board.legacyContext(A, 5, 2n);
    board.run(contextDevice(board.sid(A)));
    expect(board.probe(A)).toBe("bypass");
    board.legacyContext(A, 6, 0n, board.table(3n));
    board.run(contextGlobal);
    expect(board.probe(A)).toBe("table 1");
    board.store(0x10_0000 + 16, 0n, 0n);
    board.vtd.write(R.FRCD + 12, 4, 0x8000_0000n);
    board.run(contextGlobal);
    // What is not present is no fault of the tables, but of requests (0x1: no root entry).
    expect([board.read(R.FSTS), board.probe(A)]).toEqual([0, "abort"]);
    expect([board.read(R.FSTS), (board.read64(R.FRCD + 8) >> 32n) & 0xffn]).toEqual([2, 1n]);
  });

  it("drops what is mapped to RAM that is unplugged", () => {
    const board = new Board(SHADOWED);
    const extra = board.observed.allocateMemory("dimm", 0x10_0000);
    const region = MemoryRegion.ram("dimm", extra);
    board.system.add(0x4000_0000, region);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    board.map(0, 0x9000n, 0x4000_0000, 3n);
    board.start(false);
    expect(board.dmaWrite(A, 0x9000n, 5n)).toBe(true);
    board.system.remove(region);
    expect(board.dmaWrite(A, 0x9000n, 5n)).toBe(false);
    expect(board.probe(A)).toBe("table 0");
  });

  it("mirrors another function's registers while they are there, and takes them back when they are", () => {
    const board = new Board(SHADOWED);
    const bar = 0x1000_0000;
    board.system.add(bar, MemoryRegion.alias("pcie-mmio", board.pci.memory, bar, 0x1000_0000));
    board.plug(A);
    board.plug(B);
    const sid = board.sid(B);
    board.pci.configWrite(board.ports[1].bdf, 0x20, 4, 0x11f0_1000);
    board.pci.configWrite(board.ports[1].bdf, 4, 2, 6);
    board.pci.configWrite(sid, 0x10, 4, bar);
    board.pci.configWrite(sid, 0x14, 4, 0);
    board.legacyContext(A, 5, 0n, board.table(3n));
    // A page of registers, before they decode; another one of the MSI-X table.
    board.map(0, 0x9000n, bar, 3n);
    board.map(0, 0xa000n, bar + 0x4000, 3n);
    board.start(false);
    const pattern = 0x9000n + BigInt(ENGINE.PATTERN);
    expect(board.dmaWrite(A, pattern, 5n)).toBe(false);
    board.pci.configWrite(sid, 4, 2, 6);
    expect([board.dmaWrite(A, pattern, 5n), board.dmaWrite(A, 0xa000n, 5n)]).toEqual([true, false]);
    expect(board.space.readWord(bar + ENGINE.PATTERN, 4)).toBe(5n);
    board.pci.configWrite(sid, 4, 2, 4);
    expect(board.dmaWrite(A, pattern, 6n)).toBe(false);
    board.pci.configWrite(sid, 4, 2, 6);
    // A function level reset takes back what is mapped, and it is mapped anew.
    board.pci.configWrite(sid, 0x68, 2, 0x8000);
    expect(board.dmaWrite(A, pattern, 7n)).toBe(true);
    expect(board.probe(A)).toBe("table 0");
    board.close();
    expect(board.live()).toEqual({});
  });

  it("drops discarded RAM from the mirror and the parent, and takes it back when it is populated", () => {
    const board = new Board(SHADOWED);
    const extra = board.observed.allocateMemory("dimm", 0x40_0000);
    const region = MemoryRegion.discardableRam("dimm", extra, 0x1000);
    board.system.add(0x4000_0000, region);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    // A page, and a leaf of 2 MiB of which two pages go.
    board.map(0, 0x9000n, 0x4000_0000, 3n);
    const large = IOVA & ~0x1f_ffffn;
    board.store(board.base(0) + 0x2000 + 8 * Number((IOVA >> 21n) & 0x1ffn), BigInt(0x4020_0000) | 0x83n);
    board.start(false);
    // A mapping for each granule: more than is done at once.
    const reached = () => (board.goOn(), [0x9000n, large, large + 0x1000n, large + 0x2000n, large + 0x1f_f000n].map((iova) => board.dmaWrite(A, iova, 5n)));
    expect(reached()).toEqual([true, true, true, true, true]);
    region.discard(0, 0x1000);
    region.discard(0x20_1000, 0x2000);
    expect(reached()).toEqual([false, true, false, false, true]);
    region.populate(0x20_2000, 0x1000);
    expect(reached()).toEqual([false, true, false, true, true]);
    // The guest invalidates while it is away, then all comes back; a leaf that it has cleared does not.
    board.run(iotlbDomain(5));
    expect(reached()).toEqual([false, true, false, true, true]);
    region.populate(0x20_1000, 0x1000);
    expect(reached()).toEqual([false, true, true, true, true]);
    board.map(0, 0x9000n, board.target(1), 3n);
    board.run(iotlbDomain(5));
    region.populate(0, 0x1000);
    expect(board.dmaWrite(A, 0x9000n, 6n)).toBe(true);
    expect([board.load(board.target(1)), board.space.readWord(0x4000_0000, 8)]).toEqual([6n, 5n]);
    // A host that does not map it: nothing of it is there, on no table.
    region.discard(0x20_0000, 0x2000);
    board.observer.failOn({ operation: "IOAS_MAP", nth: 4, errno: "ENOMEM" });
    expect(() => region.populate(0x20_0000, 0x2000)).toThrow("ENOMEM");
    expect(reached()).toEqual([true, false, false, true, true]);
    region.populate(0x20_0000, 0x2000);
    expect(reached()).toEqual([true, true, true, true, true]);
    board.stop();
    expect(board.dmaWrite(A, 0x4000_0000n, 5n)).toBe(true);
    region.discard(0, 0x1000);
    expect(board.dmaWrite(A, 0x4000_0000n, 5n)).toBe(false);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("keeps a bound on tables that lead in circles", () => {
    const board = new Board(SHADOWED);
    board.plug(A);
    board.table(3n);
    // Every entry of the first table leads to itself.
    for (let i = 0; i < 512; i++) {
      board.store(board.base(0) + 8 * i, BigInt(board.base(0)) | 3n);
    }
    board.legacyContext(A, 5, 0n, 0);
    board.start(false);
    // The guest is not told that translation is on before it is; the function stays where it is.
    expect([board.read(R.GSTS) & 0xc000_0000, board.probe(A)]).toEqual([0x4000_0000, "bypass"]);
    expect(board.goOn()).toBeGreaterThan(100);
    expect([board.read(R.GSTS) & 0x4000_0000, board.read(R.GSTS) >>> 31, board.probe(A)]).toEqual([0x4000_0000, 1, "abort"]);
    expect(board.acceleration.describeFunctions()[0].reason).toMatch(/maps more than 1048576 ranges/);
    expect(board.log.lines.some((line) => /more entries than are mirrored|maps more than/.test(line.text))).toBe(true);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("mirrors scalable mode's second stage in the same way", () => {
    const board = new Board({ ...SHADOWED, scalableMode: true, pasidBits: 20 });
    board.plug(A);
    board.context(A);
    const table = board.table(3n);
    board.entry(A, 0, [1n | (2n << 6n) | (2n << 2n) | BigInt(board.base(table)), 5n, 0n]);
    board.start(true);
    expect(board.probe(A)).toBe("table 0");
    board.map(0, 0x9000n, board.target(0), 3n);
    board.run(iotlbPages(5, 0x9000n));
    expect(board.dmaWrite(A, 0x9000n, 3n)).toBe(true);
    board.entry(A, 0, [1n | (4n << 6n), 5n, 0n]);
    board.run(pasidCache(5, 0));
    expect(board.probe(A)).toBe("bypass");
  });

  it("sends no mistake of the host past the guest: the function is blocked, and the queue tells", () => {
    const board = legacy();
    board.map(0, 0x9000n, board.target(0), 3n);
    board.observer.failOn({ operation: "IOAS_MAP", nth: 1, errno: "ENOMEM" });
    board.run(iotlbPages(5, 0x9000n), wait(4));
    expect([board.read(R.FSTS) & 0x10, board.load(STATUS) & 0xffffn]).toEqual([0x10, 0n]);
    expect(board.probe(A)).toBe("abort");
    // Repeated when the guest goes on: the mirror is made anew.
    board.vtd.write(R.FSTS, 4, 0x10n);
    expect([board.read(R.FSTS) & 0x10, board.load(STATUS) & 0xffffn]).toEqual([0, 4n]);
  });
});

describe("a guest that changes its mode", () => {
  it.each([
    ["a host without the erratum", []],
    ["a host with it", ["772415"]],
  ] as const)("from scalable to legacy and back gets the right tables, on %s", (_name, errata) => {
    const board = new Board(FIRST_STAGE, hostDescription({ errata: [...errata] }));
    board.plug(A);
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.start(true);
    expect(board.probe(A)).toBe("table 0");
    // kexec: translation off, the new kernel's tables, on again.
    board.stop();
    expect(board.probe(A)).toBe("bypass");
    board.legacyContext(A, 9, 0n, board.table(3n));
    board.setRoot(false);
    board.command(0x8000_0000);
    expect(board.probe(A)).toBe("table 1");
    board.stop();
    board.context(A);
    board.setRoot(true);
    board.command(0x8000_0000);
    expect(board.probe(A)).toBe("table 0");
    board.close();
    expect(board.live()).toEqual({});
  });

  it.each([
    ["x-require-nesting=on", { ...FIRST_STAGE, requireNesting: true }],
    ["no caching mode", { ...FIRST_STAGE, cachingMode: false }],
  ] as const)("to legacy is blocked with %s, and told of", (name, properties) => {
    const board = new Board(properties);
    board.plug(A);
    board.plug(B);
    board.legacyContext(A, 9, 0n, board.table(3n));
    board.legacyContext(B, 9, 2n);
    board.start(false);
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "bypass"]);
    expect(board.log.lines.some((line) => line.text.includes(name === "no caching mode" ? "needs caching-mode=on" : name))).toBe(true);
  });
});

describe("without caching mode", () => {
  it("an entry that becomes present is bound with the next work of the queue", () => {
    const board = new Board({ ...FIRST_STAGE, cachingMode: false });
    board.plug(A);
    board.start();
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    expect(board.probe(A)).toBe("abort");
    board.run(wait(1));
    expect(board.probe(A)).toBe("table 0");
  });

  it("PASIDs are found with the next invalidation that covers them, and the user is told", () => {
    const board = new Board({ ...FIRST_STAGE, cachingMode: false });
    board.plug(A);
    board.context(A);
    board.entry(A, 0, board.passThrough(1));
    board.start();
    board.entry(A, 9, board.firstStage(board.table(), 5));
    board.run(wait(1));
    expect(board.probe(A, 9)).toBe("abort");
    board.run(pasidCache(5, 9));
    expect(board.probe(A, 9)).toBe("table 0");
    expect(board.log.warnings().join()).toContain("caching-mode=on would work");
  });

  it("and when a driver of the guest switches bus mastering on", () => {
    const board = new Board({ ...FIRST_STAGE, cachingMode: false });
    const fn = board.plug(A);
    board.start();
    board.context(A);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    expect(board.probe(A)).toBe("abort");
    fn.configWrite(4, 2, 6);
    expect(board.probe(A)).toBe("table 0");
  });
});
