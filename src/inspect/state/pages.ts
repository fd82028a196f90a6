/** Pages of memory as a whole. */
import { MEMORY_ABORT, MEMORY_OK, type WordMemory } from "../../memory/index.js";

export const PAGE_BYTES = 4096;
export const PAGE_WORDS = PAGE_BYTES / 4;

/** @param page an address divided by 4096 @returns false: something of it does not answer */
export function readPage(memory: WordMemory, page: number, out: Int32Array): boolean {
  const address = page * PAGE_BYTES;
  const inFlat = address - memory.flatBase;
  if (inFlat >= 0 && inFlat + PAGE_BYTES <= memory.flatBytes) {
    out.set(memory.flat.subarray(inFlat / 4, inFlat / 4 + PAGE_WORDS));
    return true;
  }
  const high = Math.floor(address / 0x1_0000_0000);
  const low = address | 0;
  const window = memory.window?.(high, low);
  const at = window === undefined ? 0 : ((low >>> 0) - (window.low >>> 0)) / 4;
  if (window !== undefined && at >= 0 && at + PAGE_WORDS <= window.words.length) {
    out.set(window.words.subarray(at, at + PAGE_WORDS));
    return true;
  }
  for (let word = 0; word < PAGE_WORDS; word += 2) {
    if (memory.load64(high, low + 4 * word) !== MEMORY_OK) {
      return false;
    }
    out[word] = memory.loadedLow;
    out[word + 1] = memory.loadedHigh;
  }
  return true;
}

/** Words of a page, not to be changed; null: nothing answers there. */
export type PageReader = (side: "guest" | "host", page: number) => Int32Array | null;

/** Memory of which pages are read whole, each once. */
export class PagedMemory implements WordMemory {
  readonly flat = new Int32Array(0);
  readonly flatBase = 0;
  readonly flatBytes = 0;
  loadedLow = 0;
  loadedHigh = 0;
  private last = -1;
  private words: Int32Array | null = null;

  /** @param page asked once for each run of loads of one page */
  constructor(private readonly page: (page: number) => Int32Array | null) {}

  load64(addressHigh: number, addressLow: number): number {
    const page = (addressHigh >>> 0) * 0x10_0000 + (addressLow >>> 12);
    if (page !== this.last) {
      this.words = this.page(page);
      this.last = page;
    }
    if (this.words === null) {
      return MEMORY_ABORT;
    }
    const word = (addressLow & (PAGE_BYTES - 8)) >>> 2;
    this.loadedLow = this.words[word];
    this.loadedHigh = this.words[word + 1];
    return MEMORY_OK;
  }

  store64(): number {
    return MEMORY_ABORT;
  }

  compareExchange64(): number {
    return MEMORY_ABORT;
  }
}
