import { describe, expect, test } from "vitest";
import { buildL1Std, buildSte, type FieldValues, type STE } from "../../../src/smmuv3/spec/index.js";
import { A, B, Board, encodeCommand, EXPLICIT, OP, RAM_BASE } from "./rig.js";

/** Arguments of HWPT_ALLOC with data: the two double words of the entry. */
function nestedWords(board: Board): string[] {
  return board.nested.map(([low, high]) => `${low.toString(16)} ${high.toString(16)}`);
}

function booted(properties = EXPLICIT): Board {
  const board = new Board({ properties: [properties] });
  board.plug(A);
  board.plug(B, 1);
  board.number(0, 9);
  board.number(1, 10);
  board.table();
  board.table();
  board.smmu.enable();
  board.nested.length = 0;
  board.attaches.length = 0;
  return board;
}

const ABORT = buildSte({ V: 1, CONFIG: 0 });
const BYPASS = buildSte({ V: 1, CONFIG: 4 });

describe("CFGI_STE moves a function to what its entry says, in one attach", () => {
  const cases: Array<{ name: string; entry: (board: Board) => Int32Array; reach: string; told?: RegExp }> = [
    { name: "not valid", entry: () => buildSte({ V: 0, CONFIG: 4 }), reach: "abort" },
    { name: "Config 0", entry: () => ABORT, reach: "abort" },
    { name: "reserved Config 0b001", entry: () => buildSte({ V: 1, CONFIG: 1 }), reach: "abort" },
    { name: "bypass", entry: () => BYPASS, reach: "bypass" },
    { name: "stage 1", entry: (board) => board.stage1(1), reach: "table 1" },
    { name: "stage 2, which is not offered", entry: () => buildSte({ V: 1, CONFIG: 6, S2AA64: 1, S2T0SZ: 24, S2SL0: 1, S2PS: 4, S2TTB: RAM_BASE }), reach: "abort", told: /Invalid STE config for sid 0x900: .*S2P/ },
    { name: "both stages", entry: () => buildSte({ V: 1, CONFIG: 7 }), reach: "abort", told: /Invalid STE config for sid 0x900/ },
    { name: "S1STALLD, which IDR0.STALL_MODEL does not offer", entry: (board) => board.stage1(1, { S1STALLD: 1 }), reach: "abort", told: /S1STALLD/ },
    { name: "a descriptor beyond the OAS", entry: (board) => board.stage1(1, { S1CONTEXTPTR: 2 ** 50 }), reach: "abort", told: /S1ContextPtr/ },
  ];
  const from = [
    ["table 0", (board: Board) => board.stage1(0)],
    ["bypass", () => BYPASS],
    ["abort", () => ABORT],
  ] as const;

  for (const [start, first] of from) {
    test.each(cases)(`${start}, then $name`, ({ entry, reach, told }) => {
      const board = booted();
      board.smmu.ste(0x900, first(board));
      board.smmu.configure(0x900);
      expect(board.probe(A)).toBe(start);
      board.attaches.length = 0;
      const lines = board.log.lines.length;
      board.smmu.ste(0x900, entry(board));
      board.smmu.configure(0x900);
      expect(board.probe(A)).toBe(reach);
      expect(board.smmu.commandError).toBe(false);
      expect(board.attaches.length).toBe(start === reach ? 0 : 1);
      expect(board.detaches).toBe(0);
      const text = board.log.lines.slice(lines).map((line) => line.text).join("\n");
      expect(text).toMatch(told ?? /^$/);
      // The nested table of before is gone: abort, bypass, and B's and A's if they translate.
      expect(board.live()["hwpt-nested"]).toBe(reach.startsWith("table") ? 3 : 2);
      expect(board.strayReads()).toEqual([]);
      board.close();
      expect(board.live()).toEqual({});
    });
  }

  test("another function's entry is not touched, though it has changed in memory", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.ste(0xa00, BYPASS);
    board.smmu.configure(0x900);
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "abort"]);
    // A StreamID that nobody has: nothing happens, no error.
    board.smmu.configure(0x1ff8);
    board.smmu.configure(0xfff8);
    expect(board.smmu.commandError).toBe(false);
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "abort"]);
  });

  test("the same entry again invalidates its context descriptors, as CFGI_STE covers them", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.configure(0x900);
    expect(board.probe(A)).toBe("table 0");
    // The guest rewrites the descriptor in place: the hardware may keep the old one until CFGI_STE.
    board.store(board.descriptor(0) - RAM_BASE, board.contextOf(1));
    expect(board.probe(A), "the cached descriptor").toBe("table 0");
    board.attaches.length = 0;
    board.invalidations.length = 0;
    board.smmu.configure(0x900);
    expect(board.attaches).toEqual([]);
    expect(board.invalidations).toEqual([["6 900 0 0"]]);
    expect(board.probe(A)).toBe("table 1");
  });

  test("an entry in a two-level table; no second level, too small a span, unmapped memory", () => {
    const board = new Board();
    board.plug(A);
    board.number(0, 9);
    board.table();
    // Level 1 at the start of the stream table's RAM, split 8: bus 9 is descriptor 9.
    const level1 = 0x40_0000;
    const level2 = 0x41_0000;
    const l1std = (span: number, at: number): void => board.store(level1 + 9 * 8, buildL1Std({ SPAN: span, L2PTR: at }));
    board.store(level2, board.stage1(0));
    l1std(9, RAM_BASE + level2);
    board.smmu.enable(0xc);
    board.smmu.set(0x88, (1 << 16) | (8 << 6) | 16);
    board.smmu.cr0(0xd);
    expect(board.probe(A)).toBe("table 0");
    for (const [span, at] of [
      [0, 0],
      [12, RAM_BASE + level2],
      [9, 0x10_0000],
    ]) {
      l1std(span, at);
      board.smmu.configure(0x900);
      expect(board.probe(A), `span ${span} at 0x${at.toString(16)}`).toBe("abort");
      expect(board.smmu.commandError).toBe(false);
      l1std(9, RAM_BASE + level2);
      board.smmu.configure(0x900);
      expect(board.probe(A)).toBe("table 0");
    }
  });

  test("a linear table that is too small, or not in memory", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.ste(0x100, BYPASS);
    board.smmu.enable(0xc);
    board.smmu.set(0x88, 11);
    board.smmu.cr0(0xd);
    expect(board.probe(A), "StreamID 0x900 of 2^11").toBe("abort");
    board.smmu.enable();
    expect(board.probe(A)).toBe("table 0");
    board.smmu.enable(0xc);
    board.smmu.set64(0x80, 0x2000_0000);
    board.smmu.cr0(0xd);
    expect(board.probe(A), "a table where nothing is").toBe("abort");
  });
});

describe("CFGI_STE_RANGE and CFGI_ALL", () => {
  const changed = (): Board => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.ste(0xa00, BYPASS);
    return board;
  };

  test("CFGI_ALL installs every function's entry", () => {
    const board = changed();
    board.smmu.configureAll();
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "bypass"]);
  });

  test.each([
    { sid: 0x900, range: 7, reach: ["table 0", "abort"] },
    { sid: 0x9ff, range: 7, reach: ["table 0", "abort"] },
    { sid: 0xa03, range: 2, reach: ["abort", "bypass"] },
    { sid: 0xa03, range: 0, reach: ["abort", "abort"] },
    { sid: 0x800, range: 9, reach: ["table 0", "bypass"] },
    { sid: 0xc00, range: 9, reach: ["abort", "abort"] },
    { sid: 0x0, range: 30, reach: ["table 0", "bypass"] },
  ])("StreamID $sid, Range $range", ({ sid, range, reach }) => {
    const board = changed();
    board.smmu.submit(encodeCommand(OP.CFGI_STE_RANGE, { SID: sid, RANGE: range }), encodeCommand(OP.SYNC));
    expect([board.probe(A), board.probe(B)]).toEqual(reach);
  });

  test("upstream's words say what could not be attached: an entry, or what GBPA says", () => {
    const board = changed();
    board.observer.failOn({ operation: "HWPT_ALLOC", nth: 1, errno: "ENOMEM" });
    board.smmu.configureAll();
    expect(board.log.warnings().at(-1)).toMatch(/^Device 0x[0-9a-f]+: Failed to install STE: .*HWPT_ALLOC: ENOMEM.*; it is blocked$/);
    const other = booted();
    other.observer.failOn({ operation: "VFIO_ATTACH_IOMMUFD_PT", nth: 1, errno: "EIO" });
    other.smmu.cr0(0xc);
    expect(other.log.warnings().at(-1)).toMatch(/^Failed to attach GBPA hwpt \d+ for hiodi devid \d+: .*VFIO_ATTACH_IOMMUFD_PT: EIO.*; it (?:is blocked|keeps its)/);
  });

  test("one context descriptor of many without SubstreamIDs is told in upstream's words, and is the one that counts", () => {
    const board = changed();
    board.smmu.ste(0x900, board.stage1(0, { S1CDMAX: 4, S1FMT: 0 }));
    board.smmu.configureAll();
    expect(board.log.lines.map((line) => line.text).join("\n")).toContain(
      "SMMUv3: multiple S1 context descriptors require SubstreamID support. Configure ssidsize > 0 (requires accel=on): arm-smmuv3",
    );
    expect(board.probe(A)).toBe("table 0");
  });

  test("one function's refusal is told, and the others get theirs", () => {
    const board = changed();
    board.smmu.ste(0xa00, board.stage1(1));
    board.observer.failOn({ operation: "HWPT_ALLOC", nth: 1, errno: "ENOMEM" });
    board.smmu.configureAll();
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "table 1"]);
    expect(board.smmu.cerror).toBe(1);
    expect(board.smmu.cons).toBe(board.smmu.produced - 2);
    // The guest acknowledges: the command is repeated and goes well.
    board.smmu.set(0x64, board.smmu.get(0x60));
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "table 1"]);
    expect(board.smmu.cons).toBe(board.smmu.produced);
  });
});

describe("an entry goes to the host with what the kernel takes and the guest was offered", () => {
  // linux/iommufd.h, struct iommu_hwpt_arm_smmuv3: V, Config, S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS.
  const everything: FieldValues<typeof STE> = {
    V: 1,
    CONFIG: 5,
    S1FMT: 1,
    S1CONTEXTPTR: 0x4123_4040,
    S1CDMAX: 8,
    S1DSS: 2,
    S1CIR: 1,
    S1COR: 2,
    S1CSH: 3,
    DRE: 1,
    CONT: 0xf,
    DCP: 1,
    PPAR: 1,
    MEV: 1,
    SW: 0xf,
    S2FWB: 1,
    S1MPAM: 1,
    EATS: 1,
    STRW: 2,
    MEMATTR: 0xf,
    MTCFG: 1,
    ALLOCCFG: 0xf,
    SHCFG: 3,
    NSCFG: 3,
    PRIVCFG: 3,
    INSTCFG: 3,
    S2VMID: 0xffff,
  };
  const pointer = 0x4123_4040n;

  test.each([
    { name: "all features", properties: { ril: true, ats: true, oas: 48, ssidsize: 16 }, low: (8n << 59n) | pointer | (1n << 4n) | 0xbn, high: (1n << 28n) | 0xe6n },
    { name: "without ATS", properties: { ril: true, ats: false, oas: 48, ssidsize: 16 }, low: (8n << 59n) | pointer | (1n << 4n) | 0xbn, high: 0xe6n },
    { name: "without substreams", properties: { ril: true, ats: true, oas: 48, ssidsize: 0 }, low: pointer | 0xbn, high: (1n << 28n) | 0xe4n },
    { name: "with neither, 44 bits", properties: { ril: false, ats: false, oas: 44, ssidsize: 0 }, low: pointer | 0xbn, high: 0xe4n },
  ] as const)("$name", ({ properties, low, high }) => {
    const board = booted(properties);
    board.smmu.ste(0x900, buildSte(everything));
    board.smmu.configure(0x900);
    expect(nestedWords(board)).toEqual([`${low.toString(16)} ${high.toString(16)}`]);
    expect(board.log.warnings()).toEqual([]);
  });

  test("EATS 0b11 is as 0b00 without DPT, and does not reach the kernel, which refuses it", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0, { EATS: 3 }));
    board.smmu.configure(0x900);
    expect(board.probe(A)).toBe("table 0");
    expect(nestedWords(board)).toEqual([`${(BigInt(board.descriptor(0)) | 0xbn).toString(16)} d4`]);
    expect(board.smmu.commandError).toBe(false);
    // Split-stage ATS needs both stages: illegal.
    board.smmu.ste(0x900, board.stage1(0, { EATS: 2 }));
    board.smmu.configure(0x900);
    expect(board.probe(A)).toBe("abort");
  });

  test("a two-level context table where the host has none is illegal", () => {
    const board = new Board({ properties: [{ ...EXPLICIT, ssidsize: 16 }], smmu: { idr0: 0x0d44141b } });
    board.plug(A);
    board.number(0, 9);
    board.table();
    board.smmu.enable();
    board.smmu.ste(0x900, board.stage1(0, { S1CDMAX: 7, S1FMT: 1 }));
    board.smmu.configure(0x900);
    expect(board.probe(A)).toBe("abort");
    board.smmu.ste(0x900, board.stage1(0, { S1CDMAX: 7, S1FMT: 0, S1DSS: 2 }));
    board.smmu.configure(0x900);
    expect(board.probe(A)).toBe("table 0");
  });
});

describe("SMMUEN, GBPA, reset", () => {
  test("SMMUEN 1, 0, 1: entries, GBPA, entries; each function is attached once a change", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.ste(0xa00, BYPASS);
    board.smmu.configureAll();
    for (const [cr0, reach] of [
      [0xc, ["bypass", "bypass"]],
      [0xd, ["table 0", "bypass"]],
      [0x0, ["bypass", "bypass"]],
      [0x1, ["table 0", "bypass"]],
    ] as const) {
      board.attaches.length = 0;
      board.smmu.cr0(cr0);
      expect([board.probe(A), board.probe(B)]).toEqual(reach);
      expect(board.attaches.length).toBe(1);
    }
    expect(board.live()["hwpt-nested"]).toBe(3);
  });

  test("entries that changed while SMMUEN was 0 count when it is set", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.configureAll();
    board.smmu.cr0(0xc);
    board.smmu.ste(0x900, board.stage1(1));
    board.smmu.configure(0x900);
    expect(board.probe(A), "CFGI_STE while disabled").toBe("bypass");
    board.smmu.cr0(0xd);
    expect(board.probe(A)).toBe("table 1");
  });

  test("GBPA acts while SMMUEN is 0 only, and is remembered", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.ste(0xa00, BYPASS);
    board.smmu.configureAll();
    board.attaches.length = 0;
    board.smmu.gbpa(true);
    expect(board.attaches).toEqual([]);
    expect([board.probe(A), board.probe(B)]).toEqual(["table 0", "bypass"]);
    board.smmu.cr0(0);
    expect([board.probe(A), board.probe(B)]).toEqual(["abort", "abort"]);
    board.smmu.gbpa(false);
    expect([board.probe(A), board.probe(B)]).toEqual(["bypass", "bypass"]);
    // Without UPDATE nothing happens (6.3.14).
    board.smmu.set(0x44, 1 << 20);
    expect(board.probe(A)).toBe("bypass");
  });

  test("reset goes to GBPA's reset value, takes the event queue and keeps the vDEVICEs until buses lose their numbers", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.configureAll();
    board.smmu.smmu.reset();
    expect([board.probe(A), board.probe(B)]).toEqual(["bypass", "bypass"]);
    expect(board.live()).toMatchObject({ vdevice: 2, "hwpt-nested": 2 });
    expect(board.live()["veventq"]).toBeUndefined();
    board.reset();
    expect(board.live()["vdevice"]).toBeUndefined();
    board.number(0, 9);
    board.smmu.enable();
    expect([board.probe(A), board.probe(B)], "B has no bus number yet").toEqual(["table 0", "abort"]);
  });

  test("a function never passes through the parent, bypass or no table on its way from one table to another", () => {
    const board = booted();
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.configureAll();
    const seen = new Set<string>();
    board.observer.onCall = () => seen.add(board.probe(A));
    for (let i = 1; i < 6; i++) {
      board.smmu.ste(0x900, board.stage1(i % 2));
      board.smmu.configure(0x900);
    }
    board.observer.onCall = null;
    expect([...seen].sort()).toEqual(["table 0", "table 1"]);
    expect(board.detaches).toBe(0);
  });
});

describe("substreams and ATS in hardware, as the entry says", () => {
  const properties = { ril: true, ats: true, oas: 48, ssidsize: 16 } as const;

  test("each SubstreamID has its descriptor's table; CFGI_CD reaches the one that changed", () => {
    const board = booted(properties);
    const third = board.table();
    // A linear table of two descriptors, in the page of table 2's descriptor.
    const at = board.descriptor(third) - RAM_BASE;
    board.store(at, board.contextOf(0));
    board.store(at + 64, board.contextOf(1));
    board.smmu.ste(0x900, board.stage1(third, { S1CDMAX: 1, S1DSS: 2 }));
    board.smmu.configure(0x900);
    board.hardware(A).enablePasid(true);
    expect(board.probe(A), "SubstreamID 0 without a PASID").toBe("table 0");
    expect(board.probe(A, 1)).toBe("table 1");
    expect(board.probe(A, 2), "beyond S1CDMax").toBe("abort");
    board.store(at + 64, board.contextOf(third));
    expect(board.probe(A, 1), "cached").toBe("table 1");
    board.smmu.submit(encodeCommand(OP.CFGI_CD, { SID: 0x900, SSID: 1, LEAF: 1 }), encodeCommand(OP.SYNC));
    expect([board.probe(A), board.probe(A, 1)]).toEqual(["table 0", "table 2"]);
    expect(board.strayReads()).toEqual([]);
    // S1DSS 0: transactions without a PASID are terminated.
    board.smmu.ste(0x900, board.stage1(third, { S1CDMAX: 1, S1DSS: 0 }));
    board.smmu.configure(0x900);
    expect([board.probe(A), board.probe(A, 1)]).toEqual(["abort", "table 2"]);
  });

  test("the kernel switches ATS on with EATS, off without it, and has it on where stage 1 does not translate", () => {
    const board = booted(properties);
    const enabled = (): boolean => board.hardware(A).atsEnabled;
    board.smmu.ste(0x900, board.stage1(0, { EATS: 1 }));
    board.smmu.configure(0x900);
    expect(enabled()).toBe(true);
    board.smmu.ste(0x900, board.stage1(0));
    board.smmu.configure(0x900);
    expect([enabled(), board.probe(A)]).toEqual([false, "table 0"]);
    // Linux arm_smmu_attach_dev_nested: bypass and abort tables have nothing that the guest would have to invalidate.
    board.smmu.cr0(0xc);
    expect([enabled(), board.probe(A)]).toEqual([true, "bypass"]);
    board.smmu.cr0(0xd);
    expect([enabled(), board.probe(A)]).toEqual([false, "table 0"]);
    board.smmu.ste(0x900, ABORT);
    board.smmu.configure(0x900);
    expect([enabled(), board.probe(A)]).toEqual([true, "abort"]);
  });
});
