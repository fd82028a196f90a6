import { describe, expect, test } from "vitest";
import { PhysicalMemory } from "../../../src/host/simulated/index.js";
import { PageTable, VMSA_FORMAT, type PageTableShape } from "../../../src/host/simulated/kernel/page-table.js";
import { HostError } from "../../../src/iommufd/index.js";
import { highWord, lowWord } from "../../../src/support/index.js";
import { ACCESS_READ, ACCESS_WRITE, PageWalker, WALK_OK, WALK_TRANSLATION_FAULT, type StageTables } from "../../../src/translation/index.js";

const shape = (inputBits: number, startLevel: number): PageTableShape => ({ inputBits, startLevel, format: VMSA_FORMAT, largestPageLevel: 1 });

const MIB = 0x10_0000;
const GIB = 0x4000_0000;
/** Access flag, inner shareable, write-back, readable and writable. */
const RW = { low: 0x7fc, high: 0 };

function memory(): PhysicalMemory {
  return new PhysicalMemory([{ numaNode: 0, base: GIB, size: 16 * GIB }]);
}

function tablesOf(table: PageTable): StageTables {
  return {
    granuleBits: 12,
    inputBits: table.inputBits,
    startLevel: table.startLevel,
    baseHigh: highWord(table.root),
    baseLow: lowWord(table.root),
    outputBits: 48,
    accessFlagFaultsDisabled: false,
    hierarchicalDisabled: false,
    writeImpliesNoExecute: false,
  };
}

describe("the kernel's translation tables", () => {
  test("map random ranges as the walker reads them, with blocks where both sides are aligned", () => {
    const host = memory();
    const table = new PageTable(host, shape(44, 0));
    const walker = new PageWalker(host.words);
    let state = 1;
    const next = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 0x1_0000_0000) * below);
    };
    const runs: Array<{ iova: number; hpa: number; length: number }> = [];
    let at = 0;
    for (let i = 0; i < 60; i++) {
      const align = [4096, 2 * MIB, GIB][next(3)];
      at = Math.ceil((at + next(5) * align) / align) * align;
      const length = (1 + next(3)) * align + (next(2) === 0 ? 0 : next(600) * 4096);
      const hpa = next(1000) * align + (align !== GIB && next(4) === 0 ? 4096 : 0);
      runs.push({ iova: at, hpa, length });
      table.map(at, hpa, length, RW, true);
      at += length;
    }
    const tables = tablesOf(table);
    for (const { iova, hpa, length } of runs) {
      for (const offset of [0, 4096 * next(length / 4096), length - 8]) {
        expect(walker.walkStage2(tables, highWord(iova + offset), lowWord(iova + offset), ACCESS_READ | ACCESS_WRITE)).toBe(WALK_OK);
        expect((walker.outHigh >>> 0) * 2 ** 32 + (walker.outLow >>> 0)).toBe(hpa + offset);
        const block = 2 ** walker.outPageBits;
        const start = Math.floor((iova + offset) / block) * block;
        expect(start >= iova && start + block <= iova + length && (hpa - iova) % block === 0, "the block lies within the mapping").toBe(true);
        for (const larger of [2 * MIB, GIB].filter((size) => size > block)) {
          const base = Math.floor((iova + offset) / larger) * larger;
          expect(base >= iova && base + larger <= iova + length && (hpa - iova) % larger === 0, "no larger block would do").toBe(false);
        }
      }
    }
    for (const { iova, length } of runs.splice(0, 30)) {
      table.unmap(iova, length);
      expect(walker.walkStage2(tables, highWord(iova), lowWord(iova), ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
      expect(walker.walkStage2(tables, highWord(iova + length - 8), lowWord(iova + length - 8), ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    }
    for (const { iova } of runs) {
      expect(walker.walkStage2(tables, highWord(iova), lowWord(iova), ACCESS_READ)).toBe(WALK_OK);
    }
    table.freeRetired();
    for (const { iova, length } of runs) {
      table.unmap(iova, length);
    }
    table.freeRetired();
    expect(table.tableBytes, "nothing but the first table is left").toBe(2 ** table.rootBits);
    table.release();
    expect(host.livePages).toBe(0);
  });

  test("cost what their geometry costs", () => {
    const host = memory();
    const table = new PageTable(host, shape(44, 0));
    // 44 bits from level 0: 32 descriptors of 8 bytes.
    expect(table.tableBytes).toBe(256);
    table.map(0, 0, 32 * GIB, RW, true);
    expect(table.tableBytes, "32 blocks of 1 GiB in one table").toBe(256 + 4096);
    table.map(64 * GIB, 2 * MIB, GIB, RW, true);
    expect(table.tableBytes, "2 MiB blocks in one more").toBe(256 + 2 * 4096);
    const before = table.tableBytes;
    table.map(100 * GIB, 4096, GIB, RW, false);
    // A level-2 table and 512 level-3 tables for 262,144 pages: just over 8 bytes a page.
    expect((table.tableBytes - before) / (GIB / 4096)).toBeCloseTo(8.016, 2);
    table.release();
  });

  test("of 40 and 42 bits begin at level 1 with concatenated tables", () => {
    const host = memory();
    for (const bits of [40, 42]) {
      const table = new PageTable(host, shape(bits, 1));
      expect(table.rootBits).toBe(bits - 30 + 3);
      expect(table.root % 2 ** table.rootBits).toBe(0);
      const iova = 2 ** bits - GIB;
      table.map(iova, GIB, GIB, RW, true);
      const walker = new PageWalker(host.words);
      expect(walker.walkStage2(tablesOf(table), highWord(iova + 5), lowWord(iova + 5), ACCESS_READ)).toBe(WALK_OK);
      expect(walker.outLow).toBe(GIB + 5);
      table.release();
    }
    expect(host.livePages).toBe(0);
  });

  test("refuse to map over a mapping, and leave everything as it was", () => {
    const host = memory();
    const table = new PageTable(host, shape(44, 0));
    table.map(10 * MIB, 0, 4096, RW, true);
    const bytes = table.tableBytes;
    expect(() => table.map(8 * MIB, 0x800_0000, 4 * MIB, RW, false)).toThrow(HostError);
    const walker = new PageWalker(host.words);
    const tables = tablesOf(table);
    expect(walker.walkStage2(tables, 0, 8 * MIB, ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    expect(walker.walkStage2(tables, 0, 10 * MIB, ACCESS_READ)).toBe(WALK_OK);
    expect(walker.outLow).toBe(0);
    expect(table.tableBytes).toBe(bytes);
    table.release();
    expect(host.livePages).toBe(0);
  });

  test("that find no memory leave nothing behind", () => {
    const host = memory();
    let left = 6;
    const scarce = {
      words: host.words,
      allocate: (name: string, bytes: number) => host.allocate(name, bytes),
      free: host.free.bind(host),
      allocatePage: (bits: number) => {
        if (left-- === 0) {
          throw new HostError("table memory", "ENOMEM", "none left");
        }
        return host.allocatePage(bits);
      },
      freePage: (hpa: number, bits: number) => host.freePage(hpa, bits),
    };
    const table = new PageTable(scarce, shape(44, 0));
    table.map(0, 0, 4096, RW, true);
    const bytes = table.tableBytes;
    expect(() => table.map(GIB, 0, 64 * MIB, RW, false)).toThrow(/ENOMEM/);
    expect(table.tableBytes).toBe(bytes);
    table.release();
    expect(host.livePages).toBe(0);
  });
});
