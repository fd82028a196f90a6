/** Walks while another processor changes the entries that they read, and that they mark. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { RamBlock, RamWordMemory } from "../../src/memory/index.js";
import { highWord, lowWord, toBigInt } from "../../src/support/index.js";
import { ACCESS_READ, ACCESS_WRITE, PageWalker, WALK_OK, WALK_TRANSLATION_FAULT, WALK_UPDATE_FAULT, type X86Tables } from "../../src/translation/index.js";

const BASE = 0x4000_0000;
const SECOND = BASE + 0x8000;
const first: X86Tables = { format: "first", levels: 4, baseHigh: 0, baseLow: BASE, inputBits: 48, outputBits: 39, pages2m: true, pages1g: true };
const second: X86Tables = { ...first, format: "second", baseLow: SECOND, accessedDirty: true };

/** RAM in which something happens between a walk's reading of an entry and its update. */
class Raced extends RamWordMemory {
  /** Called before an exchange reaches memory. */
  meanwhile: (address: number) => void = () => undefined;
  exchanges = 0;

  constructor() {
    super();
    this.place(BASE, new RamBlock("ram", 1 << 20, BASE));
  }

  override compareExchange64(addressHigh: number, addressLow: number, expectedHigh: number, expectedLow: number, high: number, low: number): number {
    this.exchanges++;
    this.meanwhile((addressHigh >>> 0) * 2 ** 32 + (addressLow >>> 0));
    return super.compareExchange64(addressHigh, addressLow, expectedHigh, expectedLow, high, low);
  }

  put(address: number, entry: number): void {
    this.store64(highWord(address), lowWord(address), highWord(entry), lowWord(entry));
  }

  get(address: number): number {
    this.load64(highWord(address), lowWord(address));
    return Number(BigInt.asUintN(64, toBigInt(this.loadedHigh, this.loadedLow)));
  }

  /** Four levels to `leaf` for input 0x1000, every table entry with `bits`. Returns the leaf's address. */
  chain(base: number, bits: number, leaf: number): number {
    for (let level = 0; level < 3; level++) {
      this.put(base + level * 0x1000, base + (level + 1) * 0x1000 + bits);
    }
    this.put(base + 0x3008, leaf);
    return base + 0x3008;
  }
}

const PAGE = BASE + 0x9_0000;
const OTHER = BASE + 0xa_0000;

describe("an entry that is changed before its accessed bit is set", () => {
  const walks = {
    "stage 1": (walker: PageWalker, access: number) => walker.walkStage1(first, 0, 0x1000, access),
    "stage 2": (walker: PageWalker, access: number) => walker.walkStage2(second, 0, 0x1000, access),
  };
  // P, R/W, U/S, or R, W; A is bit 5 and D bit 6, or bits 8 and 9.
  test.each([
    ["stage 1", BASE, 7],
    ["stage 2", SECOND, 3],
  ] as const)("%s: unmapped stays unmapped, and the access faults", (stage, base, bits) => {
    const memory = new Raced();
    const leaf = memory.chain(base, bits | 0x120, PAGE + bits);
    memory.meanwhile = (address) => address === leaf && memory.put(leaf, 0);
    expect(walks[stage](new PageWalker(memory), ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    expect(memory.get(leaf)).toBe(0);
  });

  test.each([
    ["stage 1", BASE, 7, 0x60],
    ["stage 2", SECOND, 3, 0x300],
  ] as const)("%s: mapped elsewhere, the access goes there and marks that", (stage, base, bits, marks) => {
    const memory = new Raced();
    const leaf = memory.chain(base, bits | 0x120, PAGE + bits);
    let changes = 0;
    memory.meanwhile = (address) => address === leaf && changes++ === 0 && memory.put(leaf, OTHER + bits);
    const walker = new PageWalker(memory);
    expect(walks[stage](walker, ACCESS_WRITE)).toBe(WALK_OK);
    expect([walker.outHigh, walker.outLow]).toEqual([0, OTHER]);
    expect(memory.get(leaf)).toBe(OTHER + bits + marks);
  });

  test("a table that is cut off meanwhile is not followed", () => {
    const memory = new Raced();
    memory.chain(BASE, 7, PAGE + 0x67);
    memory.meanwhile = (address) => address === BASE && memory.put(BASE, 0);
    expect(new PageWalker(memory).walkStage1(first, 0, 0x1000, ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    expect(memory.get(BASE)).toBe(0);
  });

  test("a nested walk begins again too, whichever stage's entry it was", () => {
    for (const raced of [BASE, SECOND]) {
      const memory = new Raced();
      const leaf = memory.chain(BASE, 0x127, 0x1000 + 7);
      // Stage 2 maps the tables and the page's IPA 0x1000 one to one, by 1-GiB leaves.
      memory.put(SECOND, SECOND + 0x1000 + 0x103);
      memory.put(SECOND + 0x1000, 0x4000_0000 + 0x83);
      memory.put(SECOND + 0x1008, 0x4000_0000 + 0x383);
      const target = raced === BASE ? leaf : SECOND + 0x1000;
      memory.meanwhile = (address) => address === target && memory.put(target, 0);
      const walker = new PageWalker(memory);
      expect(walker.walkNested(first, second, 0, 0x1000, ACCESS_READ), raced.toString(16)).toBe(WALK_TRANSLATION_FAULT);
      expect(memory.get(target)).toBe(0);
    }
  });

  test("one that changes all the time ends the access after a bounded number of walks", () => {
    const memory = new Raced();
    const leaf = memory.chain(BASE, 0x127, PAGE + 7);
    let other = false;
    memory.meanwhile = (address) => {
      if (address === leaf) {
        other = !other;
        memory.put(leaf, (other ? OTHER : PAGE) + 7);
      }
    };
    expect(new PageWalker(memory).walkStage1(first, 0, 0x1000, ACCESS_WRITE)).toBe(WALK_UPDATE_FAULT);
    expect(memory.exchanges).toBe(17);
    // The next access has sixteen again.
    memory.meanwhile = () => undefined;
    expect(new PageWalker(memory).walkStage1(first, 0, 0x1000, ACCESS_WRITE)).toBe(WALK_OK);
  });
});

describe("an entry that is changed between the reading of its two words", () => {
  afterEach(() => vi.restoreAllMocks());

  /** The page before and after: in other 4-GiB parts, so that a mixture of the two is neither. */
  const BEFORE = [0x12, 0x3456_7000] as const;
  const AFTER = [0x21, 0x0765_4000] as const;

  test("is read again by the memory's load64", () => {
    const block = new RamBlock("ram", 1 << 20, BASE);
    const real = block.wordWindow(0);
    real.set([BEFORE[1], BEFORE[0]], 2);
    let changed = false;
    vi.spyOn(block, "wordWindow").mockReturnValue(
      new Proxy(real, {
        get: (words, key) => {
          const value: unknown = Reflect.get(words, key);
          if (key === "2" && !changed) {
            changed = true;
            words.set([AFTER[1], AFTER[0]], 2);
          }
          return value;
        },
      }),
    );
    const memory = new RamWordMemory();
    memory.place(BASE, block, 0, 1 << 20, false);
    expect(memory.load64(0, BASE + 8)).toBe(0);
    expect([memory.loadedHigh, memory.loadedLow]).toEqual([...AFTER]);
  });

  // The walkers' fast path reads by a DataView; four levels of a stage are eight readings.
  test.each([
    ["stage 1", (walker: PageWalker) => walker.walkStage1(first, 0, 0x1000, ACCESS_READ)],
    ["stage 2", (walker: PageWalker) => walker.walkStage2(second, 0, 0x1000, ACCESS_READ)],
    ["nested, stage 1", (walker: PageWalker) => walker.walkNested(first, second, 0, 0x1000, ACCESS_READ)],
    ["nested, stage 2", (walker: PageWalker) => walker.walkNested(first, second, 0, 0x1000, ACCESS_READ)],
  ])("%s: the leaf is one or the other, never a mixture", (what, walk) => {
    const memory = new Raced();
    const nested = what.startsWith("nested");
    const inStage1 = what.endsWith("1");
    let leaf: number;
    if (nested) {
      // Stage 2: a page table for the first 2 MiB, 1-GiB leaves elsewhere, one to one.
      memory.chain(BASE, 0x167, 0x1000 + 0x167);
      memory.chain(SECOND, 0x303, 0x1_0000_0000 + 0x303);
      memory.put(SECOND + 0x1008, 0x4000_0000 + 0x383);
      leaf = (inStage1 ? BASE : SECOND) + 0x3008;
    } else {
      leaf = memory.chain(inStage1 ? BASE : SECOND, inStage1 ? 0x167 : 0x303, 0);
    }
    const bits = inStage1 ? 0x167 : 0x303;
    const [before, after] = nested && inStage1 ? [0x1_0000_1000, 0x4001_0000] : [0x12_3456_7000, 0x21_0765_4000];
    memory.put(leaf, before + bits);
    const walker = new PageWalker(memory);
    const original = DataView.prototype.getInt32;
    let races = 0;
    vi.spyOn(DataView.prototype, "getInt32").mockImplementation(function (this: DataView, at: number, little?: boolean) {
      const value = original.call(this, at, little);
      if (BASE + at === leaf && races++ === 0) {
        memory.put(leaf, after + bits);
      }
      return value;
    });
    expect(walk(walker)).toBe(WALK_OK);
    expect(races).toBeGreaterThan(0);
    expect((walker.outHigh >>> 0) * 2 ** 32 + (walker.outLow >>> 0)).toBe(after);
  });
});
