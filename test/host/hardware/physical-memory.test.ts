import { describe, expect, it } from "vitest";
import { MEMORY_ABORT, MEMORY_OK } from "../../../src/memory/index.js";
import { Refusal } from "../../../src/support/index.js";
import { PhysicalMemory } from "../../../src/host/simulated/hardware/index.js";

const GIB = 0x4000_0000;
const words = (address: number): [number, number] => [Math.floor(address / 0x1_0000_0000), address | 0];

describe("physical memory", () => {
  it("of 480 GiB with a guest of 64 GiB costs what is touched", () => {
    // What else goes on in the process may grow it too, but not each time.
    const grown = Array.from({ length: 4 }, () => {
      const before = process.memoryUsage().rss;
      const memory = new PhysicalMemory([
        { numaNode: 0, base: 0x8000_0000, size: 240 * GIB },
        { numaNode: 1, base: 0x1000_8000_0000, size: 240 * GIB },
      ]);
      const block = memory.allocate("pc.ram", 64 * GIB);
      block.write(40 * GIB + 5, Uint8Array.of(1, 2, 3));
      block.write(63 * GIB, Uint8Array.of(4));
      const out = new Uint8Array(3);
      expect(memory.read(block.hostAddress + 40 * GIB + 5, out)).toBe(true);
      expect(out).toEqual(Uint8Array.of(1, 2, 3));
      expect(block.hostAddress % GIB).toBe(0);
      const after = process.memoryUsage().rss;
      memory.free(block);
      return after - before;
    });
    expect(Math.min(...grown)).toBeLessThan(128 * 2 ** 20);
  });

  it("gives blocks apart from each other and table memory, and takes them back whole", () => {
    const memory = new PhysicalMemory([{ numaNode: 0, base: GIB, size: 2 * GIB }]);
    const free = memory.freeBytes;
    const blocks = [300, 1, 17].map((mib) => memory.allocate(`${mib}`, mib * 2 ** 20));
    const page = memory.allocatePage(16);
    for (const block of blocks) {
      expect(block.hostAddress).toBeGreaterThanOrEqual(GIB);
      expect(block.hostAddress + block.size <= page || block.hostAddress >= page + 65536).toBe(true);
      expect(memory.isRam(block.hostAddress, block.size)).toBe(true);
      expect(memory.isRam(block.hostAddress, 0)).toBe(false);
    }
    expect(memory.isRam(page, 4096)).toBe(false);
    expect(memory.liveBlocks).toBe(3);
    expect(() => memory.free({ ...blocks[0] } as (typeof blocks)[0])).toThrow(RangeError);
    for (const block of [blocks[1], blocks[0], blocks[2]]) {
      memory.free(block);
      expect(memory.isRam(block.hostAddress, 4096)).toBe(false);
    }
    memory.freePage(page, 16);
    expect([memory.freeBytes, memory.liveBlocks, memory.livePages, memory.livePageBytes]).toEqual([free, 0, 0, 0]);
    // All of it at once again: the free runs have joined.
    memory.free(memory.allocate("all", free));
  });

  it("refuses what the host does not have, in QEMU's words", () => {
    const memory = new PhysicalMemory([{ numaNode: 0, base: GIB, size: GIB }]);
    expect(() => memory.allocate("pc.ram", 4 * GIB)).toThrow(Refusal);
    expect(() => memory.allocate("pc.ram", 4 * GIB)).toThrow(/^cannot set up guest memory 'pc.ram': Cannot allocate memory\n {2}found: 4294967296 bytes/);
  });

  it("gives table memory aligned to its size, zeroed, and only exactly back", () => {
    const memory = new PhysicalMemory([{ numaNode: 0, base: GIB, size: GIB }]);
    const seen = new Set<number>();
    for (const bits of [6, 12, 13, 14, 16, 24, 12, 6, 9]) {
      const address = memory.allocatePage(bits);
      expect(address % 2 ** bits).toBe(0);
      expect(seen.has(address)).toBe(false);
      seen.add(address);
      const [high, low] = words(address);
      expect(memory.words.store64(high, low, -1, 7)).toBe(MEMORY_OK);
      expect(memory.words.load64(high, low)).toBe(MEMORY_OK);
      expect([memory.words.loadedHigh, memory.words.loadedLow]).toEqual([-1, 7]);
    }
    const [first] = seen;
    expect(() => memory.freePage(first, 7)).toThrow(RangeError);
    memory.freePage(first, 6);
    expect(() => memory.freePage(first, 6)).toThrow(RangeError);
    const again = memory.allocatePage(6);
    expect(again).toBe(first);
    memory.words.load64(...words(again));
    expect([memory.words.loadedHigh, memory.words.loadedLow]).toEqual([0, 0]);
    expect(() => memory.allocatePage(25)).toThrow(RangeError);
    expect(memory.livePages).toBe(9);
  });

  it("runs out of table memory with ENOMEM", () => {
    const memory = new PhysicalMemory([{ numaNode: 0, base: GIB, size: 256 * 2 ** 20 }]);
    expect(memory.allocatePage(24)).toBeGreaterThan(0);
    expect(memory.allocatePage(24)).toBeGreaterThan(0);
    expect(() => memory.allocatePage(24)).toThrow(/ENOMEM/);
  });

  it("shows the largest block as the flat part, and every block and table by load64", () => {
    const memory = new PhysicalMemory([{ numaNode: 0, base: 0x8000_0000, size: 16 * GIB }]);
    const small = memory.allocate("small", 0x20_0000);
    const large = memory.allocate("large", 5 * GIB);
    expect(memory.words.flatBase).toBe(large.hostAddress);
    expect(memory.words.flatBytes).toBe(4 * GIB);
    const page = memory.allocatePage(12);
    for (const address of [small.hostAddress + 0x1f_fff8, large.hostAddress + 8, large.hostAddress + 4 * GIB + 16, page + 0xff8]) {
      const [high, low] = words(address);
      expect(memory.words.store64(high, low, 0x1234, address | 0)).toBe(MEMORY_OK);
      expect(memory.words.load64(high, low)).toBe(MEMORY_OK);
      expect([memory.words.loadedHigh, memory.words.loadedLow]).toEqual([0x1234, address | 0]);
      const bytes = new Uint8Array(8);
      expect(memory.read(address, bytes)).toBe(true);
      expect(new Int32Array(bytes.buffer)).toEqual(Int32Array.of(address | 0, 0x1234));
    }
    for (const address of [0, 0x8000_0000 - 8, large.hostAddress + large.size, 2 ** 51]) {
      expect(memory.words.load64(...words(address))).toBe(MEMORY_ABORT);
      expect(memory.words.store64(...words(address), 0, 0)).toBe(MEMORY_ABORT);
      expect(memory.write(address, new Uint8Array(8))).toBe(false);
    }
    memory.free(large);
    expect(memory.words.flatBase).toBe(small.hostAddress);
    expect(memory.words.load64(...words(large.hostAddress))).toBe(MEMORY_ABORT);
    expect(memory.read(small.hostAddress + small.size - 4, new Uint8Array(8))).toBe(false);
  });
});
