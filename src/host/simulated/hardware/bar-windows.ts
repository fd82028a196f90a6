/** Where the host's firmware has put the functions' BARs: host-physical addresses above all memory, by which functions reach one another. */
import type { FunctionDescription } from "../file/index.js";
import type { MemoryRange } from "./physical-memory.js";

const PAGE = 4096;

interface Window {
  readonly fn: string;
  readonly bar: number;
  readonly base: number;
  readonly size: number;
}

export class BarWindows {
  /** In address order. */
  private readonly windows: Window[] = [];
  /** Below it is no window. */
  private readonly first: number;

  /** @param limit where host-physical addresses end: BARs beyond it have none, and nobody reaches them */
  constructor(functions: readonly FunctionDescription[], memory: readonly MemoryRange[], limit: number) {
    let next = Math.max(...memory.map(({ base, size }) => base + size), 2 ** 32);
    for (const fn of functions) {
      for (const { index, size } of fn.bars) {
        const base = Math.ceil(next / Math.max(size, PAGE)) * Math.max(size, PAGE);
        if (base + size <= limit) {
          this.windows.push({ fn: fn.address, bar: index, base, size });
          next = base + Math.max(size, PAGE);
        }
      }
    }
    this.first = this.windows[0]?.base ?? Infinity;
  }

  /** Host-physical address of a function's BAR; null: it has none. */
  addressOf(fn: string, bar: number): number | null {
    return this.windows.find((window) => window.fn === fn && window.bar === bar)?.base ?? null;
  }

  /** The BAR that answers for `length` bytes at an address. */
  find(hpa: number, length: number): { readonly fn: string; readonly bar: number; readonly offset: number } | null {
    if (hpa < this.first) {
      return null;
    }
    const window = this.windows.find(({ base, size }) => hpa >= base && hpa + length <= base + size);
    return window === undefined ? null : { fn: window.fn, bar: window.bar, offset: hpa - window.base };
  }
}
