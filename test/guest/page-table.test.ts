import { describe, expect, it } from "vitest";
import { GuestMemory, PageTable, Random, vmsaFormat } from "../../src/guest/index.js";
import { ACCESS_READ, ACCESS_WRITE, WALK_OK, WALK_PERMISSION_FAULT, WALK_TRANSLATION_FAULT, type StageTables } from "../../src/translation/index.js";
import { highWord, lowWord } from "../../src/support/index.js";
import { Oracle } from "../translation/oracle.js";
import { FakeMachine, RAM_BASE, RAM_BYTES } from "./fake-machine.js";

const quiet = { page: async (): Promise<void> => {}, walk: async (): Promise<void> => {} };

function make(): { fake: FakeMachine; memory: GuestMemory; oracle: Oracle } {
  const fake = new FakeMachine({ idr0: 0, idr1: 0, idr3: 0, idr5: 0 });
  const memory = new GuestMemory(fake, [{ base: RAM_BASE, size: RAM_BYTES }], []);
  const inside = (address: bigint): boolean => address >= BigInt(RAM_BASE) && address < BigInt(RAM_BASE + RAM_BYTES);
  return { fake, memory, oracle: new Oracle((address) => (inside(address) ? fake.ram64(Number(address)) : undefined)) };
}

function tables(table: PageTable): StageTables {
  return {
    granuleBits: table.granule as 12 | 14 | 16,
    inputBits: table.inputBits,
    startLevel: table.startLevel,
    baseHigh: highWord(table.rootAddress),
    baseLow: lowWord(table.rootAddress),
    outputBits: table.outputBits,
    accessFlagFaultsDisabled: false,
    hierarchicalDisabled: false,
    writeImpliesNoExecute: false,
  };
}

// A walk that shares no code with the guest's tables (test/translation/oracle.ts) has to find what was mapped.
describe.each([
  [1, 12, 48, 44],
  [1, 14, 48, 48],
  [1, 16, 48, 48],
  [2, 12, 44, 44],
  [2, 12, 42, 42],
  [2, 14, 48, 48],
  [2, 16, 48, 48],
] as const)("stage %d tables, granule 2^%d, %d bits in, %d bits out", (stage, granule, inputBits, outputBits) => {
  it("lead where they were told, and nowhere after the unmap", async () => {
    const { memory, oracle } = make();
    const table = await PageTable.create(memory, vmsaFormat(stage, granule, inputBits, outputBits));
    const random = new Random(granule * 10 + stage);
    const unit = 2 ** granule;
    const block = table.pageSizes[1];
    const mapped: Array<{ iova: bigint; physical: number; size: number; write: boolean }> = [];
    for (let i = 0; i < 40; i++) {
      // One 2^36 slot each; sometimes a block's alignment, so that blocks are used.
      const aligned = random.below(3) === 0;
      const offset = aligned ? 0 : random.below(block / unit) * unit;
      const iova = BigInt(i) * 2n ** 36n + BigInt(random.below(8) * block + offset);
      const physical = (1 + random.below(2 ** 10)) * 2 ** 30 + offset;
      const size = aligned ? block * (1 + random.below(2)) + random.below(4) * unit : (1 + random.below(40)) * unit;
      const write = random.below(2) === 0;
      await table.map(iova, physical, size, { read: true, write });
      mapped.push({ iova, physical, size, write });
    }
    const walk = (iova: bigint, access: number): ReturnType<Oracle["walkStage1"]> =>
      stage === 1 ? oracle.walkStage1(tables(table), iova, access) : oracle.walkStage2(tables(table), iova, access);
    for (const { iova, physical, size, write } of mapped) {
      for (const at of [0, size - 1, random.below(size)]) {
        expect(walk(iova + BigInt(at), ACCESS_READ)).toMatchObject({ code: WALK_OK, out: BigInt(physical + at) });
        expect(table.lookup(iova + BigInt(at))).toBe(physical + at);
      }
      expect(walk(iova, ACCESS_WRITE).code).toBe(write ? WALK_OK : WALK_PERMISSION_FAULT);
      expect(walk(iova + BigInt(size), ACCESS_READ).code).toBe(WALK_TRANSLATION_FAULT);
    }
    const before = memory.allocated;
    for (const { iova, size } of mapped) {
      await table.unmap(iova, size, quiet);
      expect(walk(iova, ACCESS_READ).code).toBe(WALK_TRANSLATION_FAULT);
      expect(walk(iova + BigInt(size - 1), ACCESS_READ).code).toBe(WALK_TRANSLATION_FAULT);
      expect(table.lookup(iova)).toBeNull();
    }
    expect(memory.allocated).toBeLessThanOrEqual(before);
    table.release();
    expect(memory.allocated).toBe(0);
  });
});

describe("a page table", () => {
  it("refuses to map twice and to unmap what is not mapped", async () => {
    const { memory } = make();
    const table = await PageTable.create(memory, vmsaFormat(1, 12, 48, 44));
    await table.map(0x1000n, RAM_BASE, 0x2000, { read: true });
    await expect(table.map(0x2000n, RAM_BASE, 0x1000, { read: true })).rejects.toThrow("0x2000 is mapped already");
    await expect(table.unmap(0x4000n, 0x1000, quiet)).rejects.toThrow("0x4000 is not mapped");
    await expect(table.map(0x800n, RAM_BASE, 0x1000, { read: true })).rejects.toThrow("not aligned");
  });
});

describe("the guest's RAM", () => {
  it("keeps off the kernel and what firmware occupies, and joins what is given back", () => {
    const { fake } = make();
    const memory = new GuestMemory(fake, [{ base: RAM_BASE, size: RAM_BYTES }], [{ base: RAM_BASE + 0x300_0000, size: 0x1234 }]);
    const first = memory.allocate(1);
    expect(first).toBe(RAM_BASE + RAM_BYTES / 4);
    const taken = [first];
    for (let i = 0; i < 4; i++) {
      taken.push(memory.allocate(0x80_0000));
    }
    expect(taken.every((address) => address + 0x80_0000 <= RAM_BASE + 0x300_0000 || address >= RAM_BASE + 0x300_2000 || address === first)).toBe(true);
    taken.forEach((address) => memory.release(address));
    expect(memory.allocate(0x400_0000)).toBe(RAM_BASE + 0x400_0000);
    expect(() => memory.allocate(0x400_0000)).toThrow("no 67108864 bytes");
    expect(() => memory.release(0x123)).toThrow("not allocated");
  });
});
