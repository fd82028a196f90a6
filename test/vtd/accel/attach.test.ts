import { describe, expect, it } from "vitest";
import { Edu } from "../../../src/devices/index.js";
import { PciePciBridge, plugFunction } from "../../../src/pci/index.js";
import { Refusal } from "../../../src/support/index.js";
import { A, B, Board, C, FIRST_STAGE, hostDescription, IOVA, piotlbPages, SHADOWED, wait } from "./rig.js";

function refusal(act: () => unknown): Refusal {
  try {
    act();
  } catch (error) {
    if (error instanceof Refusal) {
      return error;
    }
    throw error;
  }
  throw new Error("it was not refused");
}

/** Plugs A, cold or hot; the refusal, after which nothing is left. */
function refused(board: Board, hot: boolean): Refusal {
  if (hot) {
    board.start();
  }
  const found = refusal(() => board.plug(A, 0, hot));
  expect(board.live()).toEqual({});
  return found;
}

const cases: Array<[string, () => Board, string]> = [
  ["legacy guests without caching mode", () => new Board({}), "Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU."],
  ["no shadowing where the user forbids it", () => new Board({ cachingMode: true, requireNesting: true }), "x-require-nesting=on: no shadowing of guest page tables"],
  ["a host that does not nest", () => new Board(FIRST_STAGE, hostDescription({ nesting: false })), "Host IOMMU doesn't support nested translation"],
  ["1-GiB pages that the host does not have", () => new Board(FIRST_STAGE, hostDescription({ firstStage1g: false })), "First stage 1GB large page is unsupported by host IOMMU"],
  ["PASIDs wider than the host's", () => new Board(FIRST_STAGE, hostDescription({ pasidBits: 16 }, {}, { pasidBits: 16 })), "PASID bits size 20 > host IOMMU PASID bits size 16"],
  ["addresses wider than the host's", () => new Board(SHADOWED, hostDescription({ sagaw: [39], scalableMode: false, scalableCoherentWalks: false, firstStage: false, firstStage1g: false, firstStage5Level: false, nesting: false, secondStage: false, supervisor: false, pasidBits: 0 }, {}, { pasidBits: 0, ats: false })), "aw-bits 48 > host aw-bits 39"],
];

describe.each([
  ["cold", false],
  ["hot", true],
] as const)("a %s plug is refused", (_name, hot) => {
  it.each(cases)("%s", (_what, make, words) => {
    const found = refused(make(), hot);
    expect(found.words).toContain(words);
    expect(found.words.startsWith(`vfio ${A}: `)).toBe(true);
    expect(found.found).toBeTruthy();
  });
});

describe("what fits", () => {
  it("is a narrower PASID width, 1-GiB pages left out, a function without PASIDs", () => {
    expect(() => new Board({ ...FIRST_STAGE, pasidBits: 8 }).plug(A)).not.toThrow();
    expect(() => new Board({ ...FIRST_STAGE, fs1gp: false }, hostDescription({ firstStage1g: false })).plug(A)).not.toThrow();
    expect(() => new Board(FIRST_STAGE, hostDescription({ pasidBits: 16 }, { pasidBits: 16 }, { pasidBits: 0 })).plug(A)).not.toThrow();
  });
});

describe("stage-2 tables", () => {
  it("are one for functions of one iommufd and host IOMMU, and others where these differ", () => {
    const board = new Board();
    board.plug(A);
    board.plug(B);
    board.plug(C);
    const [a, b, c] = [A, B, C].map((address) => board.functions.get(address)!.parentHwptId);
    expect(a).toBe(b);
    expect(c).not.toBe(a);
    expect(board.taken().filter((call) => call.startsWith("alloc"))).toHaveLength(2);
    // NEST_PARENT and PASID.
    expect(board.functions.get(A)!.ioasId).toBe(board.functions.get(C)!.ioasId);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are another one where the host says that the one there does not suit a function", () => {
    const board = new Board();
    board.plug(A);
    board.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "EINVAL" });
    board.plug(B);
    expect(board.functions.get(B)!.parentHwptId).not.toBe(board.functions.get(A)!.parentHwptId);
    expect([board.probe(A), board.probe(B)]).toEqual(["bypass", "bypass"]);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are seed 003's three: two iommufds, and one without read-only mappings for the erratum", () => {
    const board = new Board(FIRST_STAGE, hostDescription({}, { errata: ["772415"] }));
    board.plug(A, 0);
    board.plug(B, 1);
    board.plug(C, 0);
    const [a, b, c] = [A, B, C].map((address) => board.functions.get(address)!);
    expect(new Set([a.iommufd, c.iommufd]).size).toBe(1);
    expect(b.iommufd).not.toBe(a.iommufd);
    expect(c.ioasId).not.toBe(a.ioasId);
    const warnings = board.log.warnings().filter((text) => text.includes("772415"));
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain("bios at 0xfffc0000 (0x40000 bytes)");
    const rom = (address: string): boolean => board.hardware(address).readMemory(0, 0xfffc_0000 | 0, new Uint8Array(8), -1, 1, false);
    expect([rom(A), rom(B), rom(C)]).toEqual([true, true, false]);
    board.close();
    expect(board.live()).toEqual({});
  });
});

describe("emulated and passed-through functions side by side", () => {
  it("are translated in software and by the host, each by its own entry", () => {
    const board = new Board();
    board.plug(A);
    const emulated = new Edu({ id: "edu0" });
    plugFunction(emulated, board.ports[1].secondary, 0);
    board.context(A);
    board.context(B);
    board.entry(A, 0, board.firstStage(board.table(), 5));
    board.entry(B, 0, board.firstStage(board.table(), 6));
    board.start();
    expect(board.probe(A)).toBe("table 0");
    const write = (value: number): number =>
      emulated.dma!.write(IOVA, Uint8Array.of(value), { requesterId: emulated.requesterId, pasid: -1, execute: false, privileged: false });
    expect(write(7)).toBe(0);
    expect(board.load(board.target(1)) & 0xffn).toBe(7n);
    board.map(1, IOVA, board.target(1) + 0x1000);
    board.run(piotlbPages(6, 0, IOVA), wait(1));
    expect(write(9)).toBe(0);
    expect(board.load(board.target(1) + 0x1000) & 0xffn).toBe(9n);
    expect(board.probe(A)).toBe("table 0");
  });
});

describe("behind a PCIe-to-PCI bridge", () => {
  const bridged = (properties = FIRST_STAGE): { board: Board; bridge: PciePciBridge } => {
    const board = new Board(properties);
    const bridge = new PciePciBridge({ id: "bridge" });
    plugFunction(bridge, board.ports[0].secondary, 0);
    return { board, bridge };
  };

  it("a passed-through function is refused with fsts=on, alone too", () => {
    const { board, bridge } = bridged();
    const found = refusal(() => plugFunction(board.make(A), bridge.secondary, 8));
    expect(found.words).toContain("Host device downstream to a PCI bridge is unsupported when fsts=on");
    expect(board.live()).toEqual({});
  });

  it.each([
    ["an emulated one first", true],
    ["a passed-through one first", false],
  ] as const)("an emulated and a passed-through function together are refused, %s", (_name, emulatedFirst) => {
    const { board, bridge } = bridged(SHADOWED);
    const emulated = new Edu({ id: "edu0" });
    const passthrough = board.make(A);
    const [first, second] = emulatedFirst ? [emulated, passthrough] : [passthrough, emulated];
    plugFunction(first, bridge.secondary, 8);
    const found = refusal(() => plugFunction(second, bridge.secondary, 16));
    expect(found.words).toContain("an emulated and a passed-through function cannot share a PCI bridge");
    expect(board.acceleration.functionCount).toBe(emulatedFirst ? 0 : 1);
  });

  it("it works alone where tables are mirrored: the bridge's requester id is its", () => {
    const { board, bridge } = bridged(SHADOWED);
    board.pci.configWrite(bridge.bdf, 0x18, 4, 0x0101 | (9 << 8));
    plugFunction(board.make(A), bridge.secondary, 8);
    expect(board.acceleration.describeFunctions()[0].table).toBe("parent");
  });
});

describe("IOVAs that the host takes", () => {
  /** The kernel takes a first stage of four levels, whose lower half has 47 bits. */
  const narrow = hostDescription({ sagaw: [48], firstStage5Level: false });
  const HIGH = 0xffff_ffff_f000n;

  it("are held against aw-bits where the guest's tables are mirrored", () => {
    const found = refusal(() => new Board({ ...SHADOWED, awBits: 48 }, narrow).plug(A, 0, true));
    for (const words of ["Failed to set vIOMMU: aw-bits 48 > host aw-bits 47", "IOAS_IOVA_RANGES", "would work: aw-bits=39"]) {
      expect(found.message).toContain(words);
    }
    expect(() => new Board({ ...SHADOWED, awBits: 39 }, narrow).plug(A)).not.toThrow();
  });

  it.each([
    ["all of them, where a second stage can be had", narrow, true],
    ["but for those beyond, where it takes no read-only mappings", hostDescription({ sagaw: [48], firstStage5Level: false, errata: ["772415"] }), false],
  ] as const)("are mirrored with fsts=on: %s", (_name, description, reached) => {
    const board = new Board({ ...FIRST_STAGE, awBits: 48 }, description);
    board.plug(A);
    board.legacyContext(A, 5, 0n, board.table(3n));
    // The last page of 2^48 through the same tables.
    board.map(0, HIGH, board.target(1), 3n);
    board.start(false);
    expect([board.probe(A), board.dmaWrite(A, HIGH, 5n)]).toEqual(["table 0", reached]);
    expect(board.log.warnings().join().includes("aw-bits=39 would keep the guest below")).toBe(!reached);
    board.close();
    expect(board.live()).toEqual({});
  });

  it("are in the advice for a host that does not nest, where they are fewer than the guest's", () => {
    expect(refusal(() => new Board({ ...FIRST_STAGE, awBits: 48 }, hostDescription({ nesting: false, mgaw: 39 })).plug(A)).message).toContain(
      "fsts=off with caching-mode=on,aw-bits=39",
    );
  });
});
