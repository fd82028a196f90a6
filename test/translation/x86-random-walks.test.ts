import { describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory, type WordWindow } from "../../src/memory/index.js";
import { highWord, lowWord } from "../../src/support/index.js";
import {
  PageWalker,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_RESERVED_FAULT,
  WALK_TRANSLATION_FAULT,
  WALK_UPDATE_FAULT,
  type X86Tables,
} from "../../src/translation/index.js";
import { Random } from "./random.js";
import { X86Oracle, type X86Result } from "./x86-oracle.js";

const SEEDS = process.env.VIOMMU_FUZZ === "nightly" ? 800 : 40;

/** RAM that is mostly flat, RAM elsewhere, and memory that refuses writes; each word a likely entry of either stage. */
const FLAT_BYTES = 1 << 19;
const OTHER = { base: 0x1_2340_0000, size: 1 << 17 };
const ROM = { base: 0x2_0000_0000, size: 1 << 16 };

const unsigned = (high: number, low: number): bigint => (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);

/** Notes what a walk stores; offers the second RAM as a window, or does not. */
class WatchedMemory extends RamWordMemory {
  readonly stores = new Map<bigint, bigint>();
  offered: Int32Array | undefined;

  override store64(addressHigh: number, addressLow: number, high: number, low: number): number {
    const code = super.store64(addressHigh, addressLow, high, low);
    if (code === 0) {
      this.stores.set(unsigned(addressHigh, addressLow), unsigned(high, low));
    }
    return code;
  }

  override compareExchange64(addressHigh: number, addressLow: number, expectedHigh: number, expectedLow: number, high: number, low: number): number {
    const code = super.compareExchange64(addressHigh, addressLow, expectedHigh, expectedLow, high, low);
    if (code === 0) {
      this.stores.set(unsigned(addressHigh, addressLow), unsigned(high, low));
    }
    return code;
  }

  window(high: number, low: number): WordWindow | undefined {
    const offset = high * 0x1_0000_0000 + (low >>> 0) - OTHER.base;
    return this.offered !== undefined && offset >= 0 && offset < OTHER.size
      ? { words: this.offered, high: highWord(OTHER.base), low: lowWord(OTHER.base) }
      : undefined;
  }
}

interface Place {
  readonly base: number;
  readonly size: number;
}

function randomEntry(random: Random, places: readonly Place[], brokenOneIn: number): [high: number, low: number] {
  if (random.chance(brokenOneIn * 2)) {
    return [random.word(), random.word()];
  }
  const place = random.chance(30) ? places[2] : random.chance(6) ? places[1] : places[0];
  const large = random.chance(10);
  const target = large ? place.base : place.base + random.below(place.size / 4096) * 4096;
  // P, R/W, U/S or R, W; accessed, dirty, extended-accessed, and the second stage's: set in half of them.
  let low = lowWord(target) | 7 | (large ? 0x80 : 0) | (random.word() & 0x778);
  let high = highWord(target) | (random.chance(4) ? random.word() & 0x3ff0_0000 : 0);
  if (random.chance(2)) {
    low |= 0x760;
  }
  if (random.chance(brokenOneIn)) {
    low &= ~(1 << random.below(3));
  }
  if (random.chance(brokenOneIn)) {
    low &= ~3 | random.below(4);
  }
  if (random.chance(brokenOneIn)) {
    low ^= 1 << random.below(31);
  }
  if (random.chance(brokenOneIn)) {
    high ^= 1 << random.below(32);
  }
  // Addresses that a narrow second stage does not have.
  if (random.chance(brokenOneIn)) {
    high ^= 1 << (4 + random.below(12));
  }
  return [high, low];
}

function makeMemory(random: Random, flatBase: number, brokenOneIn: number): WatchedMemory {
  const places = [{ base: flatBase, size: FLAT_BYTES }, OTHER, ROM];
  const memory = new WatchedMemory();
  for (const [n, { base, size }] of places.entries()) {
    const ram = new RamBlock("ram", size, base);
    memory.place(base, ram, 0, size, n !== 2);
    const words = ram.wordWindow(0);
    if (n === 1 && random.chance(2)) {
      memory.offered = words;
    }
    for (let i = 0; i < words.length; i += 2) {
      [words[i + 1], words[i]] = randomEntry(random, places, brokenOneIn);
    }
  }
  return memory;
}

function randomTables(random: Random, format: "first" | "second", flatBase: number): X86Tables {
  const levels = format === "second" ? random.pick([3, 4, 4, 5] as const) : random.pick([4, 4, 4, 5] as const);
  const width = levels === 5 ? 57 : levels === 4 ? 48 : 39;
  const place = random.chance(40) ? ROM : format === "second" && random.chance(2) ? OTHER : { base: flatBase, size: FLAT_BYTES };
  const base = place.base + random.below(place.size / 4096) * 4096 + (random.chance(100) ? 2 ** 47 : 0);
  return {
    format,
    levels,
    baseHigh: highWord(base),
    baseLow: lowWord(base) | random.below(4096),
    inputBits: format === "second" && random.chance(3) ? 36 + random.below(width - 35) : width,
    outputBits: random.pick([36, 39, 42, 46, 48, 52]),
    pages2m: !random.chance(5),
    pages1g: !random.chance(5),
    supervisor: random.chance(2),
    writeProtect: random.chance(2),
    executeDisable: random.chance(2),
    extendedAccessed: random.chance(3),
    accessedDirty: random.chance(3),
    snoopControl: random.chance(2),
    transientMapping: random.chance(2),
    unsnoopedWalk: random.chance(30),
  };
}

function resultOf(walker: PageWalker, code: number, first: boolean): X86Result {
  if (code === WALK_OK) {
    expect(walker.outGlobal).toBe(0);
    return {
      code,
      out: unsigned(walker.outHigh, walker.outLow),
      pageBits: walker.outPageBits,
      permissions: [..."rwxrwx"].map((letter, i) => ((walker.outPermissions >> i) & 1 ? letter : "-")).join(""),
      level: walker.outLevel,
      clean: walker.outClean !== 0,
    };
  }
  const fetched = code === WALK_EXTERNAL_ABORT || (code === WALK_UPDATE_FAULT && walker.fetchHigh !== -1);
  const gpa = unsigned(walker.faultHigh, walker.faultLow);
  expect(walker.faultOnTableWalk === 1 && !first).toBe(false);
  return {
    code,
    faultStage: walker.faultStage,
    faultLevel: walker.faultLevel,
    ...(walker.faultStage === 2 ? { faultGpa: gpa } : {}),
    ...(walker.faultOnTableWalk === 1 ? { tableLevel: walker.faultTableLevel } : {}),
    ...(code === WALK_PERMISSION_FAULT ? { faultAccess: walker.faultAccess } : {}),
    ...(fetched ? { fetch: unsigned(walker.fetchHigh, walker.fetchLow) } : {}),
  };
}

/** An address cut to a width, its highest bit copied to those above where it is signed. */
function withinWidth(raw: bigint, bits: number, signed: boolean): bigint {
  const below = (1n << BigInt(bits)) - 1n;
  const negative = signed && ((raw >> BigInt(bits - 1)) & 1n) === 1n;
  return (raw & below) | (negative ? 0xffff_ffff_ffff_ffffn - below : 0n);
}

/** Walks over one random memory; counts by kind of walk, code, stage and whether it was on a table. */
function compare(seed: number, walks: number, counts: Map<string, number>): void {
  const random = new Random(seed);
  const flatBase = random.pick([0x4000_0000, 0, 0xfffc_0000, 0xfffe_0000, 0x10_0000_0000, 0x7fff_0000]);
  const memory = makeMemory(random, flatBase, random.pick([20, 60, 400, 4000]));
  const walker = new PageWalker(memory);
  for (let i = 0; i < walks; i++) {
    const stage1 = randomTables(random, "first", flatBase);
    const stage2 = randomTables(random, "second", flatBase);
    for (let j = 0; j < 6; j++) {
      const kind = random.below(3);
      const wild = random.chance(12);
      const raw = unsigned(random.word(), random.word());
      const address = wild ? raw : withinWidth(raw, kind === 1 ? stage2.inputBits : stage1.inputBits, kind !== 1);
      const access = random.below(16);
      // A second time the bits are set: what the loop did at first the fast path does now.
      for (let again = 0; again < 2; again++) {
        const overlay = new Map<bigint, bigint>();
        const oracle = new X86Oracle({
          load: (at) => overlay.get(at) ?? (memory.load64(highWord(at), lowWord(at)) === 0 ? unsigned(memory.loadedHigh, memory.loadedLow) : undefined),
          store: (at, value) => at >> 16n !== BigInt(ROM.base / 0x1_0000) && (overlay.set(at, value), true),
        });
        const want =
          kind === 0
            ? oracle.walkStage1(stage1, address, access)
            : kind === 1
              ? oracle.walkStage2(stage2, address, access)
              : oracle.walkNested(stage1, stage2, address, access);
        memory.stores.clear();
        walker.fetchHigh = -1;
        const high = highWord(address);
        const low = lowWord(address);
        const code =
          kind === 0
            ? walker.walkStage1(stage1, high, low, access)
            : kind === 1
              ? walker.walkStage2(stage2, high, low, access)
              : walker.walkNested(stage1, stage2, high, low, access);
        const context = `seed ${seed} walk ${i}.${j}.${again}`;
        const got = resultOf(walker, code, kind === 2);
        expect(got, context).toStrictEqual(want);
        expect([...memory.stores].sort(), context).toStrictEqual([...overlay].sort());
        const key = `${kind}:${code}:${code === WALK_OK ? "" : `${got.faultStage}${got.tableLevel === undefined ? "" : "T"}`}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
  }
}

describe("the fast way through VT-d's tables", () => {
  it("asks the memory for nothing: first-stage tables in the flat part, second-stage ones in a window, three and four levels, all sizes", () => {
    const memory = new WatchedMemory();
    memory.place(0x4000_0000, new RamBlock("ram", FLAT_BYTES, 0x4000_0000));
    const tables = new RamBlock("tables", OTHER.size, OTHER.base);
    memory.place(OTHER.base, tables);
    memory.offered = tables.wordWindow(0);
    const put = (address: number, entry: number): number => memory.store64(highWord(address), lowWord(address), highWord(entry), lowWord(entry));
    // Second stage, four levels over three: guest-physical 0 to 1 GiB in one page at 0x40000000, the next by pages of 2 MiB.
    put(OTHER.base, OTHER.base + 0x1000 + 3);
    put(OTHER.base + 0x1000, 0x4000_0000 + 0x83);
    put(OTHER.base + 0x1008, OTHER.base + 0x2000 + 3);
    put(OTHER.base + 0x2000, 0x4000_0000 + 0x83);
    // First stage at guest-physical 0x1000: one page of 1 GiB, one of 2 MiB, one of 4 KiB, all accessed, the last dirty.
    put(0x4000_1000, 0x2000 + 0x27);
    put(0x4000_2000, 0xa7);
    put(0x4000_2008, 0x3000 + 0x27);
    put(0x4000_3000, 0xa7);
    put(0x4000_3008, 0x4000 + 0x27);
    put(0x4000_4000, 0x4000_7000 + 0x67);
    const common = { baseHigh: 0, baseLow: 0x1000, inputBits: 48, outputBits: 46, pages2m: true, pages1g: true } as const;
    const first: X86Tables = { ...common, format: "first", levels: 4 };
    const four: X86Tables = { ...common, format: "second", levels: 4, baseHigh: highWord(OTHER.base), baseLow: lowWord(OTHER.base) };
    const three: X86Tables = { ...four, levels: 3, inputBits: 39, baseLow: lowWord(OTHER.base + 0x1000) };
    const walker = new PageWalker(memory);
    let asked = 0;
    const load64 = memory.load64.bind(memory);
    memory.load64 = (high, low) => {
      asked++;
      return load64(high, low);
    };
    for (const second of [four, three]) {
      expect(walker.walkNested(first, second, 0, 0x1234_5678, 1)).toBe(WALK_OK);
      expect([walker.outLow, walker.outPageBits, walker.outLevel, walker.outClean !== 0]).toEqual([0x5234_5678, 30, 1, true]);
      expect(walker.walkNested(first, second, 0, 0x4001_2345, 1)).toBe(WALK_OK);
      expect([walker.outLow, walker.outPageBits, walker.outLevel]).toEqual([0x4001_2345, 21, 2]);
      expect(walker.walkNested(first, second, 0, 0x4020_0345, 3)).toBe(WALK_OK);
      expect([walker.outLow, walker.outPageBits, walker.outLevel, walker.outClean]).toEqual([0x4000_7345, 12, 3, 0]);
      expect(walker.walkStage2(second, 0, 0x4000_7345, 2)).toBe(WALK_OK);
      expect([walker.outLow, walker.outPageBits]).toEqual([0x4000_7345, 21]);
    }
    const ownTables: X86Tables = { ...first, baseLow: 0x4000_2000 };
    put(0x4000_2000 + 8 * 511, 0x4000_3000 + 0x27);
    put(0x4000_3000 + 8 * 511, 0x4000_0000 + 0xe7);
    expect(walker.walkStage1(ownTables, -1, -0x4000_0000, 2)).toBe(WALK_OK);
    expect([walker.outLow, walker.outPageBits]).toEqual([0x4000_0000, 30]);
    expect(asked).toBe(0);
    // A dirty bit to be set is the loop's.
    expect(walker.walkNested(first, four, 0, 0x1234_5678, 2)).toBe(WALK_OK);
    expect(asked).toBeGreaterThan(0);
  });
});

describe("random walks of VT-d's tables against the oracle", () => {
  it("agree in results, faults and what they write", () => {
    const counts = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      compare(seed * 7919, 60, counts);
    }
    if (process.env.SHOW_COUNTS !== undefined) {
      console.log(Object.fromEntries([...counts].sort()));
    }
    const codes = [WALK_TRANSLATION_FAULT, WALK_PERMISSION_FAULT, WALK_ADDRESS_SIZE_FAULT, WALK_EXTERNAL_ABORT, WALK_RESERVED_FAULT, WALK_UPDATE_FAULT];
    for (const kind of [0, 1, 2]) {
      expect(counts.get(`${kind}:${WALK_OK}:`), `successes of kind ${kind}`).toBeGreaterThan(100);
      for (const code of codes) {
        const stages = kind === 2 ? ["1", "2T"] : [String(kind + 1)];
        for (const stage of stages) {
          expect(counts.get(`${kind}:${code}:${stage}`) ?? 0, `kind ${kind}, code ${code}, stage ${stage}`).toBeGreaterThan(3);
        }
      }
    }
    for (const code of [WALK_TRANSLATION_FAULT, WALK_PERMISSION_FAULT, WALK_ADDRESS_SIZE_FAULT, WALK_RESERVED_FAULT]) {
      expect(counts.get(`2:${code}:2`) ?? 0, `output, code ${code}`).toBeGreaterThan(3);
    }
  });
});
