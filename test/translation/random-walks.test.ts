import { describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory, type WordWindow } from "../../src/memory/index.js";
import { PageWalker, stage1StartLevel, WALK_OK, type StageTables } from "../../src/translation/index.js";
import { highWord, lowWord, toBigInt } from "../../src/support/index.js";
import { Oracle, type OracleResult } from "./oracle.js";
import { Random } from "./random.js";

const SEEDS = process.env.VIOMMU_FUZZ === "nightly" ? 240 : 8;

/**
 * Memory in which every word is a likely descriptor, so that a walk from anywhere goes some way: most are
 * tables or pages that point into memory, some blocks, some broken in every way that the formats allow.
 */
const FLAT_BYTES = 1 << 19;
const PLACES = [
  { base: 0x4000_0000, size: FLAT_BYTES },
  { base: 0x1_2340_0000, size: 1 << 17 },
];

/** The second place as a window that the memory offers besides its flat part. */
class WindowedMemory extends RamWordMemory {
  constructor(private readonly words: Int32Array) {
    super();
  }

  window(high: number, low: number): WordWindow | undefined {
    const offset = high * 0x1_0000_0000 + (low >>> 0) - PLACES[1].base;
    return offset >= 0 && offset < PLACES[1].size
      ? { words: this.words, high: highWord(PLACES[1].base), low: lowWord(PLACES[1].base) }
      : undefined;
  }
}

function makeMemory(random: Random, brokenOneIn: number, flatBase: number): { memory: RamWordMemory; load: (a: bigint) => bigint | undefined } {
  const places = [{ base: flatBase, size: PLACES[0].size }, PLACES[1]];
  const rams = places.map(({ base, size }) => new RamBlock("ram", size, base));
  const memory = random.chance(2) ? new WindowedMemory(rams[1].wordWindow(0)) : new RamWordMemory();
  for (const [n, { base }] of places.entries()) {
    const ram = rams[n];
    memory.place(base, ram);
    const words = ram.wordWindow(0);
    for (let i = 0; i < words.length; i += 2) {
      const place = random.chance(n === 0 ? 8 : 2) ? places[1] : places[0];
      const target = place.base + random.below(place.size / 65536) * 65536 + random.below(16) * 4096;
      const odd = random.chance(brokenOneIn);
      const kind = odd ? random.below(4) : random.chance(12) ? 1 : 3;
      const af = random.chance(Math.min(30, brokenOneIn)) ? 0 : 0x400;
      let low = (lowWord(target) & ~0xfff) | kind | af | (random.word() & 0x8fc);
      // Read and write for all, mostly, so that walks do not end at the first permission.
      if (!random.chance(brokenOneIn)) {
        low = (low & ~0xc0) | 0x40;
      }
      let high = highWord(target) | (random.chance(brokenOneIn) ? random.word() & 0x7870_0000 : 0);
      if (random.chance(brokenOneIn)) {
        high ^= 1 << random.below(16);
      }
      if (random.chance(brokenOneIn * 2)) {
        high = random.word();
        low = random.word();
      }
      words[i] = low;
      words[i + 1] = high;
    }
  }
  const load = (address: bigint): bigint | undefined => {
    const code = memory.load64(highWord(address), lowWord(address));
    return code === 0 ? toBigInt(memory.loadedHigh, memory.loadedLow) : undefined;
  };
  return { memory, load };
}

function randomTables(random: Random, stage: 1 | 2, flatBase: number, granules: ReadonlyArray<12 | 14 | 16>): StageTables {
  const granuleBits = random.pick(granules);
  let inputBits = random.chance(2) ? 48 : 25 + random.below(24);
  let startLevel = stage1StartLevel(granuleBits, inputBits);
  if (stage === 2 && random.chance(2) && startLevel < 3) {
    // Up to 16 concatenated tables of the next level.
    const most = granuleBits + (granuleBits - 3) * (3 - startLevel) + 4;
    inputBits = Math.min(inputBits, most);
    startLevel = startLevel + 1;
  }
  const place = stage === 2 && random.chance(2) ? PLACES[1] : { base: flatBase, size: FLAT_BYTES };
  const base = place.base + random.below(place.size / 65536) * 65536 + random.below(64) * 1024 + (random.chance(50) ? 2 ** 47 : 0);
  return {
    granuleBits,
    inputBits,
    startLevel,
    baseHigh: highWord(base),
    baseLow: lowWord(base),
    outputBits: random.pick([32, 36, 40, 42, 44, 48, 48, 48, 52]),
    accessFlagFaultsDisabled: random.chance(4),
    hierarchicalDisabled: random.chance(4),
    writeImpliesNoExecute: random.chance(4),
    privilegedAccessNever: random.chance(4),
    executeNeverPerPrivilege: random.chance(2),
    protectedTableWalk: random.chance(8),
  };
}

function result(walker: PageWalker, code: number): OracleResult {
  if (code === WALK_OK) {
    return {
      code,
      out: toBigInt(walker.outHigh, walker.outLow),
      pageBits: walker.outPageBits,
      permissions: walker.outPermissions,
      level: walker.outLevel,
      global: walker.outGlobal === 1,
    };
  }
  return {
    code,
    faultStage: walker.faultStage,
    faultLevel: walker.faultLevel,
    faultOnTableWalk: walker.faultOnTableWalk === 1,
    faultIpa: toBigInt(walker.faultHigh, walker.faultLow),
    ...(code === -5 ? { fetch: toBigInt(walker.fetchHigh, walker.fetchLow) } : {}),
  };
}

function expected(oracle: OracleResult & { device?: boolean }): OracleResult {
  const rest = { ...oracle };
  delete rest.device;
  return rest;
}

/** Runs walks over one random memory and returns how many ended with each code. */
function compare(seed: number, walks: number, granules: ReadonlyArray<12 | 14 | 16>, counts: Map<string, number>): void {
  const random = new Random(seed);
  const flatBase = random.pick([0x4000_0000, 0, 0xfffc_0000, 0xfffe_0000, 0x40_0000_0000, 0x7fff_0000]);
  const { memory, load } = makeMemory(random, random.pick([10, 40, 400, 4000]), flatBase);
  const walker = new PageWalker(memory);
  const oracle = new Oracle(load);
  for (let i = 0; i < walks; i++) {
    const stage1 = randomTables(random, 1, flatBase, granules);
    const stage2 = randomTables(random, 2, flatBase, granules);
    for (let j = 0; j < 4; j++) {
      const high = random.chance(3) ? random.word() : random.word() & 0xffff;
      const low = random.word();
      const access = random.below(16);
      const context = `seed ${seed} walk ${i}.${j}`;
      const address = toBigInt(high, low);
      const kind = random.below(3);
      let got: OracleResult;
      let want: OracleResult;
      if (kind === 0) {
        got = result(walker, walker.walkStage1(stage1, high, low, access));
        want = expected(oracle.walkStage1(stage1, address, access));
      } else if (kind === 1) {
        // Mostly within the input range.
        const ipa = BigInt.asUintN(random.chance(4) ? 48 : stage2.inputBits, address);
        got = result(walker, walker.walkStage2(stage2, highWord(ipa), lowWord(ipa), access));
        want = expected(oracle.walkStage2(stage2, ipa, access));
      } else {
        got = result(walker, walker.walkNested(stage1, stage2, high, low, access));
        want = expected(oracle.walkNested(stage1, stage2, address, access));
      }
      const key = `${kind}:${got.code}:${got.faultStage ?? ""}${got.faultOnTableWalk === true ? "T" : ""}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
      expect(got, context).toStrictEqual(want);
    }
  }
}

describe("random walks against the oracle", () => {
  for (const granules of [[12], [14], [16], [12, 14, 16]] as const) {
    it(`agree for granules of 2^${granules.join(", 2^")} bytes`, () => {
      const counts = new Map<string, number>();
      for (let seed = 1; seed <= SEEDS; seed++) {
        compare(seed * 100 + granules.length * 20 + granules[0], 250, granules, counts);
      }
      if (process.env.SHOW_COUNTS !== undefined) {
        console.log(Object.fromEntries([...counts].sort()));
      }
      // Every way for a walk to end is there: 0 to -4 of each stage, and of stage 2 on a table fetch.
      const seen = (key: string): number => counts.get(key) ?? 0;
      for (const key of ["0:0:", "1:0:", "2:0:", "0:-1:1", "1:-1:2", "2:-1:2T", "0:-2:1", "1:-2:2", "0:-3:1", "1:-3:2", "2:-3:1", "0:-4:1", "1:-4:2", "0:-5:1", "1:-5:2"]) {
        expect(seen(key), key).toBeGreaterThan(5);
      }
    });
  }
});

describe("the fast way", () => {
  it("reads stage-1 tables from the flat part and stage-2 tables from a window, and asks the memory for none", () => {
    const ram = new RamBlock("ram", FLAT_BYTES, 0);
    const tables = new RamBlock("tables", PLACES[1].size, 0);
    const memory = new WindowedMemory(tables.wordWindow(0));
    memory.place(0x4000_0000, ram);
    memory.place(PLACES[1].base, tables);
    const put = (address: number, descriptor: number): number =>
      memory.store64(highWord(address), lowWord(address), highWord(descriptor), lowWord(descriptor));
    // Stage 2: IPA 0 to 1 GiB is one block at 0x40000000. Stage 1 at IPA 0: IOVA 0 to 1 GiB the same.
    put(PLACES[1].base, 0x4000_0000 + 0x7fd);
    put(0x4000_0000, 0x1000 + 3);
    put(0x4000_1000, 0x0 + 0xf41);
    let asked = 0;
    const load64 = memory.load64.bind(memory);
    memory.load64 = (high, low) => {
      asked++;
      return load64(high, low);
    };
    const common = {
      granuleBits: 12,
      outputBits: 48,
      accessFlagFaultsDisabled: false,
      hierarchicalDisabled: false,
      writeImpliesNoExecute: false,
    } as const;
    const stage1: StageTables = { ...common, inputBits: 48, startLevel: 0, baseHigh: 0, baseLow: 0 };
    const base2 = PLACES[1].base;
    const stage2: StageTables = { ...common, inputBits: 39, startLevel: 1, baseHigh: highWord(base2), baseLow: lowWord(base2), protectedTableWalk: true };
    const walker = new PageWalker(memory);
    expect(walker.walkNested(stage1, stage2, 0, 0x1234_5678, 1)).toBe(WALK_OK);
    expect(toBigInt(walker.outHigh, walker.outLow)).toBe(0x5234_5678n);
    expect(walker.walkStage2(stage2, 0, 0x5678, 2)).toBe(WALK_OK);
    expect(walker.outLow).toBe(0x4000_5678);
    expect(asked).toBe(0);
    // What is given up is asked for: the loop reads stage 2 through the memory.
    expect(walker.walkNested(stage1, stage2, 0, 0x1234_5678, 4)).toBe(WALK_OK);
    expect(walker.walkNested(stage1, stage2, 0x80, 0, 1)).toBeLessThan(0);
    expect(asked).toBeGreaterThan(0);
  });
});
