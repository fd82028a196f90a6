import { beforeEach, describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { highWord, lowWord, unpack } from "../../../src/support/index.js";
import {
  INTERRUPT_BLOCKED,
  INTERRUPT_REMAPPED,
  INTERRUPT_UNCHANGED,
  InterruptRemapper,
} from "../../../src/vtd/lookup/index.js";
import { FRCD } from "../../../src/vtd/spec/index.js";
import { FULL, HOLE } from "./bench.js";

const BASE = 0x1000_0000;
const RID = 0x0113;

let memory: RamWordMemory;
let r: InterruptRemapper;
beforeEach(() => {
  memory = new RamWordMemory();
  memory.place(BASE, new RamBlock("ram", 0x20_0000, 0x7f00_0000_0000));
  r = new InterruptRemapper(memory, FULL);
  r.enabled = true;
  r.table = BASE;
  // 256 entries: S = 7.
  r.log2Entries = 8;
});

/** An entry by its quadwords: 9.9. */
function irte(index: number, low: bigint, high = 0n): void {
  for (const [at, value] of [
    [0, low],
    [8, high],
  ] as const) {
    memory.store64(0, lowWord(BASE + index * 16 + at), highWord(value), lowWord(value));
  }
}

/** P, physical, edge, fixed, vector 0x51, APIC id 5. */
const PLAIN = 1n | (0x51n << 16n) | (5n << 40n);

/** A remappable message's address by 5.1.2.2. */
function address(handle: number, subhandle = false): number {
  return (0xfee0_0010 | ((handle & 0x7fff) << 5) | ((handle >> 15) << 2) | (subhandle ? 8 : 0)) | 0;
}

function fault(): Record<string, unknown> | undefined {
  if (!r.hasFault) {
    return undefined;
  }
  const { F, ...fields } = unpack(FRCD, r.record);
  expect(F).toBe(1);
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => Number(value) !== 0));
}

describe("interrupt remapping", () => {
  it("gives a remappable message its entry's destination and vector", () => {
    irte(9, PLAIN);
    expect(r.remap(RID, address(9), 0x1234_5678)).toBe(INTERRUPT_REMAPPED);
    expect([r.outAddressHigh, r.outAddressLow >>> 0, r.outData]).toEqual([0, 0xfee0_5000, 0x4051]);
    expect([r.index, r.entry.destination, r.entry.vector]).toEqual([9, 5, 0x51]);
    // Logical, redirection hint, level, lowest priority, APIC id 0xff.
    irte(10, 1n | 4n | 8n | 16n | (1n << 5n) | (0xf0n << 8n >> 4n) | (0xfen << 16n) | (0xffn << 40n));
    expect(r.remap(RID, address(10), 0)).toBe(INTERRUPT_REMAPPED);
    expect([r.outAddressLow >>> 0, r.outData]).toEqual([0xfeef_f00c, 0xc1fe]);
  });

  it("takes destinations of 32 bits in extended mode", () => {
    r.extended = true;
    irte(9, 1n | (0x51n << 16n) | (0x1234_5678n << 32n));
    expect(r.remap(RID, address(9), 0)).toBe(INTERRUPT_REMAPPED);
    expect([r.outAddressHigh, r.outAddressLow >>> 0, r.entry.destination]).toEqual([0x1234_5600, 0xfee7_8000, 0x1234_5678]);
  });

  it.each([
    ["a handle", address(0x2b), 0xffff_0005, 0x2b],
    ["a handle of 16 bits", address(0x8003), 0, 0x8003],
    ["a handle and subhandle", address(0x20, true), 0x0b, 0x2b],
    ["a subhandle alone", address(0, true), 0x2b, 0x2b],
  ])("computes the index from %s", (_name, at, data, index) => {
    r.log2Entries = 16;
    irte(index, PLAIN);
    expect(r.remap(RID, at, data | 0)).toBe(INTERRUPT_REMAPPED);
    expect(r.index).toBe(index);
  });

  it("leaves messages alone while disabled, and compatibility ones where they are let through", () => {
    r.enabled = false;
    expect(r.remap(RID, address(9), 5)).toBe(INTERRUPT_UNCHANGED);
    r.enabled = true;
    r.compatibility = true;
    expect(r.remap(RID, 0xfee0_1000 | 0, 0x4031)).toBe(INTERRUPT_UNCHANGED);
    expect([r.outAddressLow >>> 0, r.outData]).toEqual([0xfee0_1000, 0x4031]);
  });

  it.each<[number, string, () => [number, number], boolean, number]>([
    [0x20, "reserved data with a subhandle", () => [address(9, true), 0x1_0000], false, -1],
    [0x21, "an index beyond the table", () => [address(0x100), 0], false, 0x100],
    [0x21, "an index beyond the table by its subhandle", () => [address(0xff, true), 1], false, 0x100],
    [0x21, "an entry beyond the host's width", () => ((r.table = 2 ** 46), [address(9), 0]), false, 9],
    [0x22, "no entry", () => [address(9), 0], true, 9],
    [0x23, "a table that is not there", () => ((r.table = HOLE), [address(9), 0]), false, 9],
    [0x24, "reserved bits 14:12", () => (irte(9, PLAIN | 0x1000n), [address(9), 0]), true, 9],
    [0x24, "a posted entry", () => (irte(9, PLAIN | 0x8000n), [address(9), 0]), true, 9],
    [0x24, "reserved bits 31:24", () => (irte(9, PLAIN | (1n << 24n)), [address(9), 0]), true, 9],
    [0x24, "a destination's reserved bits, without EIME", () => (irte(9, PLAIN | (1n << 32n)), [address(9), 0]), true, 9],
    [0x24, "a destination's upper bits, without EIME", () => (irte(9, PLAIN | (1n << 48n)), [address(9), 0]), true, 9],
    [0x24, "reserved bit 84", () => (irte(9, PLAIN, 1n << 20n), [address(9), 0]), true, 9],
    [0x24, "reserved bit 127", () => (irte(9, PLAIN, 1n << 63n), [address(9), 0]), true, 9],
    [0x24, "SVT 3", () => (irte(9, PLAIN, 3n << 18n), [address(9), 0]), true, 9],
    [0x24, "delivery mode 3", () => (irte(9, PLAIN | (3n << 5n)), [address(9), 0]), true, 9],
    [0x25, "compatibility format disabled", () => [0xfee0_1000 | 0, 0], false, -1],
    [0x25, "compatibility format in extended mode", () => ((r.extended = r.compatibility = true), [0xfee0_1000 | 0, 0]), false, -1],
    [0x26, "another requester", () => (irte(9, PLAIN, BigInt(RID + 1) | (1n << 18n)), [address(9), 0]), true, 9],
  ])("0x%s: %s", (reason, _name, prepare, qualified, index) => {
    const [at, data] = prepare();
    expect(r.remap(RID, at, data)).toBe(INTERRUPT_BLOCKED);
    expect(fault()).toEqual({ SID: RID, FR: reason, ...(index < 0 ? {} : { FI: BigInt(index) << 48n }) });
    if (qualified) {
      // The entry's FPD counts also where it is not present.
      memory.load64(0, BASE + 9 * 16);
      memory.store64(0, BASE + 9 * 16, memory.loadedHigh, memory.loadedLow | 2);
      r.invalidateAll();
      expect(r.remap(RID, at, data)).toBe(INTERRUPT_BLOCKED);
      expect([r.reason, r.hasFault]).toEqual([reason, false]);
    }
  });

  it.each([
    [0n, 0xffff, true],
    [BigInt(RID) | (1n << 18n), RID, true],
    [BigInt(RID) | (1n << 18n), RID ^ 4, false],
    // SQ 1: bit 2 does not count; 2: bits 2:1; 3: bits 2:0.
    [BigInt(RID) | (5n << 16n), RID ^ 4, true],
    [BigInt(RID) | (5n << 16n), RID ^ 2, false],
    [BigInt(RID) | (6n << 16n), RID ^ 6, true],
    [BigInt(RID) | (6n << 16n), RID ^ 1, false],
    [BigInt(RID) | (7n << 16n), RID ^ 7, true],
    [BigInt(RID) | (7n << 16n), RID ^ 8, false],
    // SVT 2: buses 1 to 3.
    [0x0103n | (2n << 18n), 0x0100, true],
    [0x0103n | (2n << 18n), 0x03ff, true],
    [0x0103n | (2n << 18n), 0x0400, false],
    [0x0103n | (2n << 18n), 0x00ff, false],
  ])("validates the source: 0x%s for 0x%s", (high, requester, allowed) => {
    irte(9, PLAIN, high);
    expect(r.remap(requester, address(9), 0)).toBe(allowed ? INTERRUPT_REMAPPED : INTERRUPT_BLOCKED);
    expect(r.reason).toBe(allowed ? 0 : 0x26);
  });
});

describe("the interrupt entry cache", () => {
  const held = (): number[] => {
    const found: number[] = [];
    for (let index = 0; index < 16; index++) {
      if (r.remap(RID, address(index), 0) === INTERRUPT_REMAPPED) {
        found.push(index);
      }
    }
    return found;
  };
  const fill = (): void => {
    for (let index = 0; index < 16; index++) {
      irte(index, PLAIN);
    }
    expect(held().length).toBe(16);
    for (let index = 0; index < 16; index++) {
      irte(index, 0n);
    }
  };

  it.each([
    [5, 0, [5]],
    [5, 1, [4, 5]],
    [6, 2, [4, 5, 6, 7]],
    [0xff, 3, []],
    [0, 4, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]],
    [7, 31, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]],
  ])("drops index %i with mask %i", (index, mask, dropped) => {
    fill();
    expect(held().length).toBe(16);
    r.invalidateEntries(index, mask);
    expect(held()).toEqual([...Array(16).keys()].filter((i) => !dropped.includes(i)));
    expect(r.cachedEntries).toBe(16 - dropped.length);
    r.invalidateAll();
    expect(held()).toEqual([]);
  });

  it("does not hold what faults, and has room for so many only", () => {
    r = new InterruptRemapper(memory, FULL, 4);
    r.enabled = true;
    r.table = BASE;
    r.log2Entries = 8;
    expect(r.remap(RID, address(9), 0)).toBe(INTERRUPT_BLOCKED);
    irte(9, PLAIN);
    expect(r.remap(RID, address(9), 0)).toBe(INTERRUPT_REMAPPED);
    fill();
    expect(r.cachedEntries).toBeLessThanOrEqual(4);
  });
});
