import { describe, expect, it } from "vitest";
import { GuestMemory, PageTable, Random, firstStageFormat, secondStageFormat, type PageTableFormat } from "../../src/guest/index.js";
import { ACCESS_READ, ACCESS_WRITE, WALK_OK, WALK_PERMISSION_FAULT, WALK_TRANSLATION_FAULT, type X86Tables } from "../../src/translation/index.js";
import { highWord, lowWord } from "../../src/support/index.js";
import { X86Oracle } from "../translation/x86-oracle.js";
import { FakeVtd, VTD_RAM_BYTES } from "./fake-vtd.js";

const quiet = { page: async (): Promise<void> => {}, walk: async (): Promise<void> => {} };
const ALL = [2 ** 12, 2 ** 21, 2 ** 30];

interface Shape {
  readonly what: string;
  readonly format: PageTableFormat;
  readonly levels: 3 | 4 | 5;
  readonly kind: "first" | "second";
}

const shapes: readonly Shape[] = [
  { what: "first stage, 4 levels", format: firstStageFormat(4, true, 46), levels: 4, kind: "first" },
  { what: "first stage, 4 levels, no 1 GiB pages", format: firstStageFormat(4, false, 46), levels: 4, kind: "first" },
  { what: "first stage, 5 levels", format: firstStageFormat(5, true, 52), levels: 5, kind: "first" },
  { what: "second stage, 3 levels", format: secondStageFormat(3, 39, ALL, 46), levels: 3, kind: "second" },
  { what: "second stage, 4 levels, snooped", format: secondStageFormat(4, 48, ALL.slice(0, 2), 46, true), levels: 4, kind: "second" },
];

// A walk that shares no code with the guest's tables (test/translation/x86-oracle.ts) has to find what was mapped.
describe.each(shapes.map((shape) => [shape.what, shape] as const))("tables of the %s", (_what, { format, levels, kind }) => {
  const tables = (table: PageTable): X86Tables => ({
    format: kind,
    levels,
    baseHigh: highWord(table.rootAddress),
    baseLow: lowWord(table.rootAddress),
    inputBits: format.inputBits,
    outputBits: format.outputBits,
    pages2m: true,
    pages1g: format.pageSizes.length === 3,
    snoopControl: true,
  });

  it("lead where they were told, and nowhere after the unmap", async () => {
    const fake = new FakeVtd(0n, 0n);
    const memory = new GuestMemory(fake, [{ base: 0, size: VTD_RAM_BYTES }], []);
    let flags = 0;
    const oracle = new X86Oracle({
      load: (address) => (address < BigInt(VTD_RAM_BYTES) ? fake.ram64(Number(address)) : undefined),
      store: () => {
        flags++;
        return true;
      },
    });
    const table = await PageTable.create(memory, format);
    const random = new Random(levels * 10 + format.pageSizes.length);
    const mapped: Array<{ iova: bigint; physical: number; size: number; write: boolean }> = [];
    const slot = 1n << BigInt(format.inputBits - 7);
    for (let i = 0; i < 40; i++) {
      const large = format.pageSizes[random.below(format.pageSizes.length)];
      const offset = random.below(3) === 0 ? random.below(large / 4096) * 4096 : 0;
      const iova = BigInt(i) * slot + BigInt(random.below(2) * large + offset);
      const physical = (1 + random.below(2 ** 10)) * 2 ** 30 + offset;
      const size = offset === 0 ? large * (1 + random.below(2)) + random.below(4) * 4096 : (1 + random.below(40)) * 4096;
      const write = random.below(2) === 0;
      await table.map(iova, physical, size, { read: true, write });
      mapped.push({ iova, physical, size, write });
    }
    const walk = (iova: bigint, access: number): ReturnType<X86Oracle["walkStage1"]> =>
      kind === "first" ? oracle.walkStage1(tables(table), iova, access) : oracle.walkStage2(tables(table), iova, access);
    for (const { iova, physical, size, write } of mapped) {
      for (const at of [0, size - 1, random.below(size)]) {
        expect(walk(iova + BigInt(at), ACCESS_READ)).toMatchObject({ code: WALK_OK, out: BigInt(physical + at) });
        expect(table.lookup(iova + BigInt(at))).toBe(physical + at);
      }
      expect(walk(iova, ACCESS_WRITE).code).toBe(write ? WALK_OK : WALK_PERMISSION_FAULT);
      expect(walk(iova + BigInt(size), ACCESS_READ).code).toBe(WALK_TRANSLATION_FAULT);
    }
    // Accessed and dirty are there from the start.
    expect(flags).toBe(0);
    for (const { iova, size } of mapped) {
      await table.unmap(iova, size, quiet);
      expect(walk(iova, ACCESS_READ).code).toBe(WALK_TRANSLATION_FAULT);
      expect(table.lookup(iova + BigInt(size - 1))).toBeNull();
    }
    table.release();
    expect(memory.allocated).toBe(0);
  });
});

describe("entries", () => {
  it.each([
    ["first stage, read only", firstStageFormat(4, true, 46), { read: true }, 3, 0x1025n],
    ["first stage, written", firstStageFormat(4, true, 46), { read: true, write: true }, 3, 0x1067n],
    ["first stage, a supervisor's, not executed", firstStageFormat(4, true, 46), { write: true, privileged: true, noExecute: true }, 3, 0x8000_0000_0000_1063n],
    ["first stage, large", firstStageFormat(4, true, 46), { read: true }, 2, 0x10a5n],
    ["second stage", secondStageFormat(4, 48, ALL, 46), { read: true, write: true }, 3, 0x1003n],
    ["second stage, written alone", secondStageFormat(4, 48, ALL, 46), { read: false, write: true }, 2, 0x1082n],
    ["second stage, snooped", secondStageFormat(4, 48, ALL, 46, true), { read: true }, 3, 0x1801n],
  ] as const)("%s", (_what, format, protection, level, expected) => {
    expect(format.leafEntry(0x1000, level, format.attributes(protection)).toString(16)).toBe(expected.toString(16));
  });
});
