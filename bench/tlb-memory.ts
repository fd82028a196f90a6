import { Tlb } from "../src/translation/index.js";
import type { Bench } from "./registry.js";

/** What an entry costs: the growth of the process's buffers from a TLB of n entries to one of 2n. */
export const tlbMemoryBench: Bench = {
  name: "tlbMemory",
  title: "memory of a TLB",
  run() {
    const buffers = (entries: number): number => {
      const before = process.memoryUsage().arrayBuffers;
      const tlb = new Tlb(entries);
      const grown = process.memoryUsage().arrayBuffers - before;
      return tlb.entries === entries ? grown : Number.NaN;
    };
    const entries = 1 << 18;
    const small = buffers(entries);
    const large = buffers(entries * 2);
    return Promise.resolve([{ name: "bytesPerTlbEntry", unit: "bytes", value: (large - small) / entries, target: 16 }]);
  },
};
