import { beforeEach, describe, expect, it } from "vitest";
import type { InspectionSource } from "../../../src/inspect/state/index.js";
import { highWord, lowWord } from "../../../src/support/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE, wideWords } from "../../../src/translation/index.js";
import { featuresOf, VtdTranslator } from "../../../src/vtd/lookup/index.js";
import { Random } from "../../fuzz/random.js";
import { Bench, firstStage, FS_RO, FS_RW, FULL_CAP, FULL_ECAP, HOLE, nested, RID, ROOT_TABLE, secondStage, SS_RO, SS_RW } from "../../vtd/lookup/bench.js";
import { ask, places, sourceOf } from "./units.js";

const IOVA = 0x1234_5678n;
const PAGE = 0x1020_0000;
/** GSTS.TES. */
const TES = 0x8000_0000;
const SCALABLE = 1 << 10;
/** MGAW is 48 bits, so that the machine's addresses are: PASIDs, nesting and the rest are offered. */
const CAP = (FULL_CAP & ~(0x3fn << 16n)) | (47n << 16n);
const FEATURES = featuresOf(CAP, FULL_ECAP, 48);
let b: Bench;

const source = (mode: number, GSTS = TES): InspectionSource =>
  sourceOf({ architecture: "vtd", registers: { CAP, ECAP: FULL_ECAP, GSTS, RTADDR: ROOT_TABLE | mode }, memory: b.memory, streamId: RID });
const scalable = (): InspectionSource => source(SCALABLE);
const second = ["PML4E", "PDPE", "PDE", "PTE"].map((name) => `second-stage SS-${name}`);
const first = ["PML4E", "PDPE", "PDE", "PTE"].map((name) => `first-stage ${name}`);
const across = (row: number): string[] => second.map((name, column) => `${row}.${column} ${name}`);
const structures = (column: number): string[] => ["scalable-mode root entry", "scalable-mode context entry", "PASID directory entry", "PASID table entry"].map((name, row) => `${row}.${column} ${name}`);

beforeEach(() => {
  b = new Bench(FEATURES);
});

/** A context entry with a directory of 2^13 PASIDs, PASIDs on; answers the directory. */
function context(): number {
  const directory = b.page();
  b.scalable(RID, BigInt(directory) | 8n | 1n);
  return directory;
}

describe("the walk of a VT-d unit", () => {
  it("of legacy mode: root, context, second stage", () => {
    const root = b.page();
    b.legacy(RID, BigInt(root) | 1n, 2n | (5n << 8n));
    b.map(root, IOVA & ~0xfffn, PAGE, SS_RW, SS_RW);
    const report = ask(source(0), IOVA, { access: "write" });
    expect(places(report)).toEqual(["0.4 root entry", "1.4 context entry", ...across(2)]);
    expect(report.fetches.map(({ level }) => level)).toEqual([null, null, 4, 3, 2, 1]);
    expect(report.end).toEqual({ outcome: "translated", output: "0x10200678", outputSpace: "guest-physical", ipa: "0x12345678", pageBits: 12, permissions: "rwx", event: null, reason: "The tables translate the address" });
    expect(report.fetches[0]).toMatchObject({ address: "0x10000010", section: "Intel VT-d 9.1", decides: expect.stringMatching(/^Context table at 0x[0-9a-f]+: the entry of device 2, function 3 follows$/) as string });
    expect(report.fetches[1].decides).toBe(`Domain 5: second stage of 4 levels at 0x${root.toString(16)}`);
    expect(report.fetches[5]).toMatchObject({ words: ["0x10200003"], section: "Intel VT-d 9.9", decides: "A page of 4K at 0x10200000: stage 2 ends here" });
    // A page of 2 MiB ends a level earlier.
    b.map(root, 0x4000_0000, 0x1020_0000, SS_RW, SS_RW, 4, 21);
    const large = ask(source(0), 0x4001_2345);
    expect([large.fetches.length, large.end.output, large.end.pageBits]).toEqual([5, "0x10212345", 21]);
  });

  it("of scalable mode: root, context, directory, PASID entry, first stage", () => {
    const directory = context();
    const root = b.page();
    b.pasid(directory, 65, ...firstStage(root, 7n));
    b.map(root, IOVA & ~0xfffn, PAGE, FS_RW, FS_RW);
    const report = ask(scalable(), IOVA, { pasid: 65 });
    expect(places(report)).toEqual([...structures(0), ...first.map((name, index) => `${4 + index}.0 ${name}`)]);
    expect(report.end).toMatchObject({ outcome: "translated", output: "0x10200678", ipa: null, permissions: "rwx" });
    expect(report.fetches[2].address).toBe(`0x${(directory + 8).toString(16)}`);
    expect(report.fetches[3]).toMatchObject({ decides: `Domain 7: first stage of 4 levels at 0x${root.toString(16)}`, section: "Intel VT-d 9.6" });
    expect(report.fetches[3].words).toHaveLength(8);
  });

  it("of nested tables: each first-stage entry through the second stage", () => {
    const directory = context();
    const [one, two] = [b.page(), b.page()];
    b.pasid(directory, 5, ...nested(one, two));
    b.map(one, IOVA & ~0xfffn, PAGE, FS_RW, FS_RW);
    for (let at = one; at < one + 0x1_0000; at += 0x1000) {
      b.map(two, at, at, SS_RW, SS_RW);
    }
    b.map(two, PAGE, PAGE + 0x1000, SS_RW, SS_RW);
    const report = ask(scalable(), IOVA, { pasid: 5 });
    // 9.1 to 9.6: four structures; four levels, each behind four of the second stage; four for the output: 4 + 4 * 5 + 4.
    expect(report.fetches).toHaveLength(28);
    expect(places(report)).toEqual([...structures(4), ...first.flatMap((name, index) => [...across(4 + index), `${4 + index}.4 ${name}`]), ...across(8)]);
    expect(report.end).toMatchObject({ outcome: "translated", output: "0x10201678", ipa: "0x10200678", pageBits: 12 });
    // The second stage lets pages be read: a write is told so, of the output.
    b.map(two, PAGE, PAGE + 0x1000, SS_RO, SS_RW);
    const denied = ask(scalable(), IOVA, { pasid: 5, access: "write" });
    expect([denied.fetches.length, denied.end.event?.name, denied.end.ipa]).toEqual([28, "SM_WRITE", "0x10200678"]);
  });

  it("keeps accessed and dirty flags to itself", () => {
    const directory = context();
    const root = b.page();
    b.pasid(directory, 0, ...firstStage(root, 7n));
    // Neither accessed nor dirty: a DMA would set both.
    const leaf = b.map(root, IOVA & ~0xfffn, PAGE, 7n, 7n);
    const report = ask(scalable(), IOVA, { access: "write" });
    expect([report.end.outcome, report.fetches.at(-1)!.words, b.read64(leaf)]).toEqual(["translated", ["0x10200007"], 0x1020_0007n]);
  });

  it("ends with each fault, its record, and says at the last fetch why", () => {
    const ends = (from: InspectionSource, of: Parameters<typeof ask>[2] = {}, iova: bigint = IOVA) => {
      const { end, fetches } = ask(from, iova, of);
      return [end.outcome, end.event?.name ?? null, fetches.at(-1)?.name ?? null, end.reason];
    };
    expect(ends(source(0))).toEqual(["aborted", "ROOT_NOT_PRESENT", "root entry", "the root entry is not present: the request is blocked"]);
    expect(ends(scalable())).toEqual(["aborted", "SM_ROOT_NOT_PRESENT", "scalable-mode root entry", "the root entry's half is not present: the request is blocked"]);
    expect(ends(source(0, 0))).toEqual(["bypassed", null, null, "TES is 0: the address goes on as it came"]);
    expect(ends(source(3 << 10))).toEqual(["aborted", "SM_ABORT_DMA", null, "RTADDR.TTM aborts all DMA: the request is blocked"]);
    expect(ends(source(0), { pasid: 1 })).toEqual(["aborted", "SM_TTM_WITH_PASID", null, "a request with PASID in legacy mode: the request is blocked"]);
    const directory = context();
    expect(ends(scalable())).toEqual(["aborted", "SM_DIRECTORY_NOT_PRESENT", "PASID directory entry", "the PASID directory entry is not present: the request is blocked"]);
    const root = b.page();
    b.pasid(directory, 0, ...firstStage(root));
    expect(ends(scalable(), { pasid: 3 })).toEqual(["aborted", "SM_PASID_NOT_PRESENT", "PASID table entry", "the PASID table entry is not present: the request is blocked"]);
    expect(ends(scalable(), { pasid: 0xfffff })).toEqual(["aborted", "SM_PASID_LIMIT", "scalable-mode context entry", "the PASID is beyond the directory: the request is blocked"]);
    expect(ends(scalable())).toEqual(["aborted", "SM_FS_NOT_PRESENT", "first-stage PML4E", "first stage: a first-stage entry is not present: the request is blocked"]);
    expect(ends(scalable(), {}, 0x8000_0000_0000_0000n)).toEqual(["aborted", "SM_NOT_CANONICAL", "PASID table entry", "the address is not canonical: the request is blocked"]);
    b.map(root, IOVA & ~0xfffn, PAGE, FS_RO, FS_RW);
    expect(ends(scalable(), { access: "write" })).toEqual(["aborted", "SM_WRITE", "first-stage PTE", "first stage: writes are not permitted: the request is blocked"]);
    b.write64(root, BigInt(HOLE) | FS_RW);
    expect(ends(scalable())).toEqual(["aborted", "SM_FS_ACCESS", "first-stage PDPE", "first stage: a first-stage entry could not be read: the request is blocked"]);
    b.pasid(directory, 0, ...secondStage(b.page()));
    expect(ends(scalable())).toEqual(["aborted", "SM_SS_NOT_PERMITTED", "second-stage SS-PML4E", "second stage: a second-stage entry permits neither reads nor writes: the request is blocked"]);
    b.pasid(directory, 0, 1n | (4n << 6n), 1n);
    expect(ends(scalable())).toEqual(["bypassed", null, "PASID table entry", "Pass-through: the address goes on as it came"]);
    expect(ends(scalable(), { access: "write" }, 0xfee0_0000n)).toEqual(["bypassed", null, null, "An interrupt request: it is not subject to DMA remapping (3.15)"]);
    expect(ends(scalable(), { kind: "ats-request" })).toEqual(["aborted", "SM_DTE", "scalable-mode context entry", "the context entry refuses device-TLBs: the translation request is answered Unsupported Request"]);
    const { event } = ask(scalable(), IOVA, { pasid: 3, access: "write" }).end;
    // FI, then SID, FR 0x59, PP, PASID 3, type write (11.4.7.6).
    expect(event).toMatchObject({ number: 0x59, words: ["0x12345000", "0x8000035980000113"], section: "Intel VT-d 11.4.7.6" });
  });

  it("tells a Translation Request by the walk that counts", () => {
    const directory = b.page();
    b.scalable(RID, BigInt(directory) | 8n | 4n | 1n);
    const root = b.page();
    b.pasid(directory, 0, ...firstStage(root));
    b.map(root, IOVA & ~0xfffn, PAGE, FS_RO, FS_RW);
    // A write is asked for and not granted: the tables are walked again for a read.
    const report = ask(scalable(), IOVA, { kind: "ats-request", access: "write" });
    expect(places(report)).toEqual([...structures(0), ...first.map((name, index) => `${4 + index}.0 ${name}`)]);
    expect(report.end).toMatchObject({ outcome: "translated", output: "0x10200678", permissions: "r--" });
  });

  it("is what the model answers, whatever is in memory, and writes nothing", () => {
    const seen = new Set<string>();
    const most = process.env.VIOMMU_FUZZ === "nightly" ? 60 : 2;
    for (let seed = 1; seed <= most; seed++) {
      const random = new Random(seed);
      b = new Bench(FEATURES);
      const directory = b.page();
      const tables = Array.from({ length: 8 }, () => b.page());
      const spoilt = (value: bigint): bigint => (random.below(12) === 0 ? value ^ (1n << BigInt(random.below(64))) : value);
      for (let step = 0; step < 200; step++) {
        for (let n = 0; n < 4; n++) {
          b.write64(random.pick(tables) + random.below(4) * 8, spoilt(BigInt(random.pick([...tables, PAGE])) | random.pick([7n, 7n, 0x67n, 3n, 1n])));
          // The second stage of the tables' own pages.
          b.write64(random.pick(tables) + ((random.pick(tables) >>> 12) & 511) * 8, BigInt(random.pick([...tables, PAGE])) | random.pick([7n, 3n, 1n]));
        }
        const legacy = random.below(4) === 0;
        if (legacy) {
          b.write(ROOT_TABLE + (RID >> 8) * 16, 0n, 0n);
          b.legacy(RID, spoilt(BigInt(random.pick(tables)) | 1n | (BigInt(random.below(3)) << 2n)), spoilt(BigInt(random.pick([1, 2, 2])) | (3n << 8n)));
        } else {
          b.write(ROOT_TABLE + (RID >> 8) * 16, 0n, 0n);
          b.scalable(RID, spoilt(BigInt(directory) | 1n | 8n | random.pick([0n, 4n])), random.pick([0n, 0n, 1n]));
          const entry = random.pick([firstStage(random.pick(tables)), secondStage(random.pick(tables), random.pick([1n, 2n])), nested(random.pick(tables), random.pick(tables)), [1n | (4n << 6n), 1n]]);
          b.write(directory, 0n);
          b.pasid(directory, random.below(2), ...entry.map(spoilt));
        }
        const access = random.pick(["read", "write", "execute"] as const);
        const kind = random.pick(["untranslated", "untranslated", "ats-request", "ats-translated"] as const);
        const pasid = random.pick([null, null, 0, 1, 0xfffff]);
        const privileged = random.below(4) === 0;
        const iova = random.pick([BigInt(random.below(4)) << 12n, BigInt(random.below(4)) << 39n, BigInt(random.pick(tables)), 0xfee0_0000n, 1n << 60n]) | 8n;
        const { end, fetches } = ask(source(legacy ? 0 : SCALABLE), iova, { access, kind, pasid, privileged });
        // The model writes flags: in memory of its own.
        const before = Int32Array.from(b.memory.flat.subarray(0, 0x12_0000 / 4));
        const t = new VtdTranslator(b.memory, FEATURES, { coherentWalks: true, tlbEntries: 64 });
        t.enabled = true;
        t.rootTable = ROOT_TABLE;
        t.mode = legacy ? 0 : 1;
        const bits = { read: ACCESS_READ, write: ACCESS_WRITE, execute: ACCESS_READ | ACCESS_EXECUTE }[access] | (privileged ? ACCESS_PRIVILEGED : 0);
        const code = t.translate(RID, pasid ?? -1, highWord(iova), lowWord(iova), bits, { untranslated: 0, "ats-request": 1, "ats-translated": 2 }[kind]);
        b.memory.flat.set(before);
        const denied = code === 0 && kind === "ats-request" && t.outPermissions === 0;
        const outcome = denied || code < 0 ? "aborted" : code === 0 ? "translated" : "bypassed";
        const output = outcome === "aborted" ? null : `0x${(code === 2 ? iova : (BigInt(t.outHigh >>> 0) << 32n) | BigInt(t.outLow >>> 0)).toString(16)}`;
        expect([seed, step, end.outcome, end.output, end.event?.words ?? null]).toEqual([seed, step, outcome, output, t.hasFault ? wideWords(t.record).map((word) => `0x${word.toString(16)}`) : null]);
        expect(fetches.length).toBeLessThan(40);
        seen.add(`${end.outcome} ${end.event?.name ?? ""}`);
      }
    }
    expect([...seen]).toEqual(expect.arrayContaining(["translated ", "bypassed ", "aborted SM_PRIVILEGE", "aborted SM_PASID_NOT_PRESENT", "aborted SM_SS_NOT_PERMITTED", "aborted WRITE"]));
  });
});
