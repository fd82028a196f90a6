import { beforeEach, describe, expect, it } from "vitest";
import type { InspectionSource } from "../../../src/inspect/state/index.js";
import { featuresOf, StreamTranslator } from "../../../src/smmuv3/lookup/index.js";
import { buildCd, buildL1Cd, buildL1Std, buildSte } from "../../../src/smmuv3/spec/index.js";
import { highWord, lowWord } from "../../../src/support/index.js";
import { ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE, wideWords } from "../../../src/translation/index.js";
import { Random } from "../../fuzz/random.js";
import { Bench, CDTAB, cdFields, FULL_IDR, RAM_BASE, S1_RO, S1_RW, S2_RO, S2_RW, stage2Fields, STRTAB } from "../../smmuv3/lookup/bench.js";
import { ask, places, sourceOf } from "./units.js";

const SID = 6;
const IOVA = 0x1234_5678n;
const PAGE = 0x4800_0000;
const HOLE = 0x9000_0000;
let b: Bench;
let root: number;
let root2: number;

const registers = (more: Readonly<Record<string, number | bigint>> = {}) => ({
  ...Object.fromEntries(FULL_IDR.map((value, index) => [`IDR${index}`, value >>> 0])),
  CR0: 1,
  CR2: 2,
  STRTAB_BASE: STRTAB,
  STRTAB_BASE_CFG: 8,
  ...more,
});
const source = (more: Readonly<Record<string, number | bigint>> = {}): InspectionSource => sourceOf({ architecture: "smmuv3", registers: registers(more), memory: b.memory, streamId: SID });
const column = (row: number, name: string, of = 4): string => `${row}.${of} ${name}`;
const across = (row: number): string[] => [0, 1, 2, 3].map((level) => `${row}.${level} stage 2 level ${level}`);

beforeEach(() => {
  b = new Bench();
  root = b.page();
  root2 = b.page();
  b.cd(CDTAB, cdFields(root));
  b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, EATS: 1 });
});

/** Stage 2 maps CDs, tables and the page onto themselves, by 4-KiB pages of four levels. */
function behindStage2(): void {
  for (let at = root; at < root + 0x1_0000; at += 0x1000) {
    b.map(root2, at, at, S2_RW);
  }
  [CDTAB, CDTAB + 0x1000, PAGE].forEach((at) => b.map(root2, at, at, S2_RW));
}

describe("the walk of an SMMUv3", () => {
  it("of one stage: STE, CD, four levels; each fetch with its address, words, fields and what it decides", () => {
    b.map(root, IOVA & ~0xfffn, PAGE, S1_RW);
    const report = ask(source(), IOVA);
    expect(places(report)).toEqual(["0.0 STE", "1.0 CD", "2.0 stage 1 level 0", "3.0 stage 1 level 1", "4.0 stage 1 level 2", "5.0 stage 1 level 3"]);
    expect(report.end).toEqual({ outcome: "translated", output: "0x48000678", outputSpace: "guest-physical", ipa: null, pageBits: 12, permissions: "rwx", event: null, reason: "The tables translate the address" });
    const [ste, cd, , , , leaf] = report.fetches;
    expect(ste).toMatchObject({ number: 1, address: `0x${(STRTAB + SID * 64).toString(16)}`, ipa: null, space: "guest-physical", stage: "structure", level: null, section: "Arm IHI 0070, 5.2", decides: "Stage 1 with one CD at 0x40200000" });
    expect([ste.words.length, ste.words[0]]).toEqual([8, "0x4020000b"]);
    expect(cd.decides).toBe(`ASID 1; TTB0 at 0x${root.toString(16)}, level 0 first; TTB1 is off`);
    expect(leaf).toMatchObject({ level: 3, stage: 1, words: ["0x20000048000c43"], decides: "A page of 4K at 0x48000000: stage 1 ends here", section: "Arm DDI 0487, D8.3.1" });
    expect(leaf.fields.find(({ name }) => name === "nG")).toEqual({ name: "nG", high: 11, low: 11, value: "0x1", meaning: "of its ASID" });
  });

  it("has 36 fetches with two-level stream and CD tables behind four levels of stage 2", () => {
    // By hand (IHI 0070, 3.3.2, 3.3.3, 5.1 to 5.4): the stream table is of physical addresses, 2 fetches: L1STD, STE.
    // L1CD and CD are at IPAs, each 4 levels of stage 2 and itself: 2 * 5. Stage 1 has 4 levels, each at an IPA: 4 * 5.
    // The output is an IPA: 4. 2 + 10 + 20 + 4 = 36.
    b.writeWords(STRTAB, buildL1Std({ SPAN: 7, L2PTR: STRTAB + 0x1000 }));
    b.writeWords(STRTAB + 0x1000 + SID * 64, buildSte({ V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, S1CDMAX: 8, S1FMT: 1, S1DSS: 2, ...stage2Fields(root2) }));
    b.writeWords(CDTAB, buildL1Cd({ V: 1, L2PTR: CDTAB + 0x1000 }));
    b.writeWords(CDTAB + 0x1000 + 5 * 64, buildCd(cdFields(root)));
    b.map(root, IOVA & ~0xfffn, PAGE, S1_RW);
    behindStage2();
    const report = ask(source({ STRTAB_BASE_CFG: (1 << 16) | (6 << 6) | 8 }), IOVA, { pasid: 5 });
    expect(places(report)).toEqual([
      column(0, "L1 stream table descriptor"),
      column(1, "STE"),
      ...[["L1 CD descriptor", 2], ["CD", 3], ["stage 1 level 0", 4], ["stage 1 level 1", 5], ["stage 1 level 2", 6], ["stage 1 level 3", 7]].flatMap(([name, row]) => [...across(row as number), column(row as number, name as string)]),
      ...across(8),
    ]);
    expect(report.fetches).toHaveLength(36);
    expect(report.fetches.map(({ number }) => number)).toEqual(Array.from({ length: 36 }, (_none, index) => index + 1));
    expect(report.end).toMatchObject({ outcome: "translated", output: "0x48000678", ipa: "0x48000678", pageBits: 12 });
    // What is behind stage 2 has both addresses; what is not has one.
    expect(report.fetches.map(({ ipa }) => ipa !== null)).toEqual(report.fetches.map(({ stage, name }) => stage === 1 || name === "CD" || name === "L1 CD descriptor"));
    expect(report.fetches[6]).toMatchObject({ name: "L1 CD descriptor", ipa: "0x40200000", decides: "64 CDs at 0x40201000: the CD follows" });
  });

  it("of stage 2 alone: one row", () => {
    b.ste(SID, { V: 1, CONFIG: 6, ...stage2Fields(root2) });
    b.map(root2, IOVA & ~0xfffn, PAGE, S2_RW);
    const report = ask(source(), IOVA, { access: "write" });
    expect(places(report)).toEqual(["0.4 STE", ...across(1)]);
    expect(report.end).toMatchObject({ outcome: "translated", output: "0x48000678", ipa: "0x12345678", permissions: "rwx" });
    // A block of 2 MiB ends a level earlier.
    b.map(root2, 0x4000_0000, 0x4020_0000, S2_RW, 2);
    const block = ask(source(), 0x4001_2345);
    expect(places(block)).toEqual(["0.3 STE", ...across(1).slice(0, 3)]);
    expect([block.end.output, block.end.pageBits, block.fetches[3].decides]).toEqual(["0x40212345", 21, "A page of 2M at 0x40200000: stage 2 ends here"]);
  });

  it.each([
    ["16K", 14, { TG0: 2, T0SZ: 16 }],
    ["64K", 16, { TG0: 1, T0SZ: 22 }],
  ] as const)("of a %s granule", (_name, granule, fields) => {
    // Tables by hand: 16K has levels 0 (one bit) to 3, 64K with 42 bits levels 2 and 3.
    const levels = granule === 14 ? [0, 1, 2, 3] : [2, 3];
    const bits = granule - 3;
    const tables = levels.map((_level, index) => 0x4200_0000 + index * 0x1_0000);
    levels.forEach((level, index) => {
      const slot = (IOVA >> BigInt(granule + bits * (3 - level))) & ((1n << BigInt(bits)) - 1n);
      b.write64(tables[index] + Number(slot) * 8, level === 3 ? BigInt(PAGE) | S1_RW : BigInt(tables[index + 1]) | 3n);
    });
    b.cd(CDTAB, cdFields(tables[0], fields));
    const report = ask(source(), IOVA);
    expect(places(report).slice(2)).toEqual(levels.map((level, index) => `${2 + index}.0 stage 1 level ${level}`));
    const offset = IOVA & ((1n << BigInt(granule)) - 1n);
    expect([report.end.output, report.end.pageBits]).toEqual([`0x${(BigInt(PAGE) | offset).toString(16)}`, granule]);
    expect(report.fetches.at(-1)!.fields.find(({ name }) => name === "OutputAddress")).toMatchObject({ low: granule, value: "0x48000000" });
  });

  it("ends with each event, its words and fields, and says at the last fetch why", () => {
    const ends = (of: Parameters<typeof ask>[2] = {}, more = {}, iova: bigint | number = IOVA) => {
      const { end, fetches } = ask(source(more), iova, of);
      return [end.outcome, end.event?.name ?? null, fetches.at(-1)?.name ?? null, end.reason];
    };
    expect(ends()).toEqual(["aborted", "F_TRANSLATION", "stage 1 level 0", "stage 1, level 0: nothing is mapped: the transaction aborts"]);
    expect(ask(source(), IOVA).end.event).toMatchObject({ number: 0x10, section: "Arm IHI 0070, 7.3.13", words: ["0x600000010", "0x20800000000", "0x12345678", "0x0"] });
    b.map(root, IOVA & ~0xfffn, PAGE, S1_RO);
    expect(ends({ access: "write" })).toEqual(["aborted", "F_PERMISSION", "stage 1 level 3", "stage 1, level 3: the access is not permitted: the transaction aborts"]);
    b.map(root, IOVA & ~0xfffn, PAGE, S1_RW & ~0x400n);
    expect(ends()).toEqual(["aborted", "F_ACCESS", "stage 1 level 3", "stage 1, level 3: the access flag is clear: the transaction aborts"]);
    expect(ends({}, {}, 0xff00_0000_0000_0000n)).toEqual(["aborted", "F_TRANSLATION", "CD", "stage 1: no table covers the address: the transaction aborts"]);
    b.write64(root, BigInt(HOLE) | 3n);
    expect(ends()).toEqual(["aborted", "F_WALK_EABT", "stage 1 level 1", "stage 1, level 1: the descriptor could not be fetched: the transaction aborts"]);
    b.cd(CDTAB, cdFields(root, { A: 0, R: 0 }));
    b.write64(root, 0n);
    expect(ends()).toEqual(["read-as-zero", null, "stage 1 level 0", "stage 1, level 0: nothing is mapped: a read gives zero, a write is ignored, without an event"]);
    b.cd(CDTAB, { ...cdFields(root), V: 0 });
    expect(ends()).toEqual(["aborted", "C_BAD_CD", "CD", "CD.V is 0: the transaction aborts"]);
    expect(ends({ pasid: 3 })).toEqual(["aborted", "C_BAD_SUBSTREAMID", "STE", "the stream has no such substream: the transaction aborts"]);
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: HOLE });
    expect(ends()).toEqual(["aborted", "F_CD_FETCH", "CD", "the CD could not be fetched: the transaction aborts"]);
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3, S1DSS: 0 });
    expect(ends()).toEqual(["aborted", "F_STREAM_DISABLED", "STE", "STE.S1DSS does not allow the substream: the transaction aborts"]);
    b.ste(SID, { V: 1, CONFIG: 5, S1CONTEXTPTR: CDTAB, S1CDMAX: 3, S1DSS: 1 });
    expect(ends()).toEqual(["bypassed", null, "STE", "No stage translates: the address goes on as it came"]);
    b.ste(SID, {});
    expect(ends()).toEqual(["aborted", "C_BAD_STE", "STE", "STE.V is 0: the transaction aborts"]);
    b.ste(SID, { V: 1, CONFIG: 0 });
    expect(ends()).toEqual(["aborted", null, "STE", "the STE lets no transaction through: the transaction aborts, without an event"]);
    b.ste(SID, { V: 1, CONFIG: 4 });
    expect(ends()).toEqual(["bypassed", null, "STE", "No stage translates: the address goes on as it came"]);
    expect(ends({ kind: "ats-request" })).toEqual(["aborted", "F_BAD_ATS_TREQ", "STE", "ATS is off for the stream: the translation request is answered Unsupported Request"]);
    expect(ends({}, { STRTAB_BASE_CFG: 2 })).toEqual(["aborted", "C_BAD_STREAMID", null, "StreamID is out of the stream table's range: the transaction aborts"]);
    expect(ends({}, { STRTAB_BASE: HOLE })).toEqual(["aborted", "F_STE_FETCH", "STE", "the STE could not be fetched: the transaction aborts"]);
    expect(ends({}, { CR0: 0 })).toEqual(["bypassed", null, null, "SMMUEN is 0 and GBPA.ABORT is 0: the address goes on as it came"]);
    expect(ends({}, { CR0: 0, GBPA: 1 << 20 })).toEqual(["aborted", null, null, "SMMUEN is 0 and GBPA.ABORT is 1: the transaction aborts"]);
  });

  it("ends where stage 2 refuses: of a CD, of a stage-1 table, of the output", () => {
    b.ste(SID, { V: 1, CONFIG: 7, S1CONTEXTPTR: CDTAB, ...stage2Fields(root2) });
    const of = (access: "read" | "write" = "read") => {
      const { end, fetches } = ask(source(), IOVA, { access });
      return [end.event?.name, end.event?.fields.find(({ name }) => name === "CLASS")?.meaning, fetches.at(-1)!.name, end.ipa, end.reason];
    };
    expect(of()).toEqual(["F_TRANSLATION", "fetching a CD", "stage 2 level 0", null, "stage 2, level 0: nothing is mapped: the transaction aborts"]);
    b.map(root2, CDTAB, CDTAB, S2_RW);
    expect(of()).toEqual(["F_TRANSLATION", "fetching a translation table", "stage 2 level 2", null, "stage 2, level 2: nothing is mapped on the way to a stage-1 table: the transaction aborts"]);
    behindStage2();
    b.map(root, IOVA & ~0xfffn, PAGE, S1_RW);
    b.map(root2, PAGE, PAGE, S2_RO);
    expect(of("write")).toEqual(["F_PERMISSION", "the input address", "stage 2 level 3", "0x48000678", "stage 2, level 3: the access is not permitted: the transaction aborts"]);
    expect(ask(source(), IOVA).end).toMatchObject({ outcome: "translated", permissions: "r-x" });
  });

  it("of a passed-through function on a host that is not seen into: the guest's tables, then the machine's IOAS", () => {
    b.map(root, IOVA & ~0xfffn, PAGE, S1_RW);
    const shape = { architecture: "smmuv3" as const, registers: registers(), memory: b.memory, streamId: SID, passed: true };
    const blind = ask(sourceOf(shape), IOVA);
    expect([blind.side, blind.end.output, blind.end.outputSpace, blind.end.ipa]).toEqual(["guest", "0x48000678", "guest-physical", "0x48000678"]);
    expect(blind.end.reason).toBe("The tables translate the address; stage 2: mapped by the machine's IOAS");
    expect(blind.unknown).toEqual([
      "stage 2 of 0000:01:00.0: IOAS 3 maps the machine's memory; a Linux host does not show its tables",
      "the entry of 0000:01:00.0 in the host's tables, and which fields of the guest's the kernel took",
    ]);
    const mapped = ask(sourceOf({ ...shape, ram: (address) => address + 0x1_0000_0000 }), IOVA);
    expect([mapped.end.output, mapped.end.outputSpace]).toEqual(["0x148000678", "host-physical"]);
  });

  it("is what the model answers, whatever is in memory, and writes nothing", () => {
    const seen = new Set<string>();
    const most = process.env.VIOMMU_FUZZ === "nightly" ? 60 : 2;
    for (let seed = 1; seed <= most; seed++) {
      b = new Bench();
      root = b.page();
      root2 = b.page();
      const random = new Random(seed);
      const features = featuresOf(FULL_IDR);
      const roots = [root, root2];
      for (let i = 0; i < 32; i++) {
        b.map(roots[0], i * 0x1000, random.pick([RAM_BASE + i * 0x1000, CDTAB, roots[1]]), random.pick([S1_RW, S1_RO]));
        b.map(roots[1], random.pick([i * 0x1000, CDTAB + i * 0x1000, roots[0] + i * 0x1000]), random.pick([CDTAB, roots[0] + i * 0x1000]), random.pick([S2_RW, S2_RW, S2_RO]));
      }
      const spoil = (words: Int32Array): Int32Array => {
        for (let i = random.below(3); i > 1; i--) {
          words[random.below(words.length)] ^= 1 << random.below(32);
        }
        return words;
      };
      for (let step = 0; step < 200; step++) {
        b.writeWords(STRTAB + SID * 64, spoil(buildSte({ V: 1, CONFIG: 4 + random.below(4), S1CONTEXTPTR: CDTAB, S1CDMAX: random.pick([0, 0, 3, 8]), S1FMT: random.below(3), S1DSS: random.below(3), EATS: random.below(3), ...stage2Fields(roots[1]) })));
        b.writeWords(CDTAB + random.below(8) * 64, spoil(buildCd(cdFields(roots[0], { A: random.below(2), R: random.below(2) }))));
        if (random.below(4) === 0) {
          b.write64(roots[random.below(2)] + random.below(512) * 8, (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32)));
        }
        const access = random.pick(["read", "write"] as const);
        const kind = random.pick(["untranslated", "untranslated", "ats-request", "ats-translated"] as const);
        const pasid = random.pick([null, null, 0, 1, 5, 300]);
        const privileged = random.below(2) === 1;
        const iova = random.pick([BigInt(random.below(32)) << 12n, BigInt(CDTAB), BigInt(roots[0]), 1n << 60n]) | 8n;
        const CR0 = random.pick([1, 1, 1, 1 | (1 << 4), 0]);
        const { end, fetches, cut } = ask(source({ CR0 }), iova, { access, kind, pasid, privileged });
        const t = new StreamTranslator(b.memory, features, { tlbEntries: 64 });
        t.enabled = (CR0 & 1) !== 0;
        t.atsCheck = (CR0 & 16) !== 0;
        t.recordInvalidSid = true;
        t.table.base = STRTAB;
        t.table.log2Size = 8;
        const kinds = { untranslated: 0, "ats-request": 1, "ats-translated": 2 };
        const code = t.translate(SID, pasid ?? -1, highWord(iova), lowWord(iova), (access === "read" ? ACCESS_READ : ACCESS_WRITE) | (privileged ? ACCESS_PRIVILEGED : 0), kinds[kind]);
        const denied = code === 0 && kind === "ats-request" && t.outPermissions === 0;
        const outcome = denied ? "aborted" : code === 0 ? "translated" : code === 1 ? "bypassed" : code === -2 ? "read-as-zero" : "aborted";
        const output = outcome === "translated" || outcome === "bypassed" ? `0x${((BigInt(t.outHigh >>> 0) << 32n) | BigInt(t.outLow >>> 0)).toString(16)}` : null;
        expect([seed, step, end.outcome, end.output, end.event?.words ?? null]).toEqual([seed, step, outcome, output, t.hasEvent ? wideWords(t.event).map((word) => `0x${word.toString(16)}`) : null]);
        expect(cut || fetches.length > 40).toBe(false);
        seen.add(`${end.outcome} ${end.event?.name ?? ""}`);
      }
    }
    expect([...seen]).toEqual(expect.arrayContaining(["translated ", "bypassed ", "aborted F_TRANSLATION", "aborted C_BAD_SUBSTREAMID", "aborted F_STREAM_DISABLED"]));
  });
});
