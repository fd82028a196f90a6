import type { RamBlock } from "./ram.js";

/** Codes of a word access; none is positive, so that a walk can pass them on. */
export const MEMORY_OK = 0;
/** Nothing answers at that address (the bus's external abort). */
export const MEMORY_ABORT = -1;

/** `compareExchange64` has found another value. */
export const MEMORY_CHANGED = -2;

/** Bits of a physical address, at most, of both architectures. */
export const PHYSICAL_BITS = 52;

/** Times that a word is read which another processor changes all the time. */
const MOST_READINGS = 64;

/**
 * Reads the 64-bit word at `words[index]` into `loadedLow` and `loadedHigh`, while others may be writing it: the low
 * word is the same before and after the high one. Returns MEMORY_OK, or MEMORY_ABORT where the word does not settle.
 */
export function loadSettled(words: Int32Array, index: number, into: { loadedLow: number; loadedHigh: number }): number {
  for (let readings = 0; readings < MOST_READINGS; readings++) {
    const low = words[index];
    into.loadedLow = low;
    into.loadedHigh = words[index + 1];
    if (words[index] === low) {
      return MEMORY_OK;
    }
  }
  return MEMORY_ABORT;
}

/**
 * Exchanges the 64-bit word at `words[index]` (its low word; 8-byte aligned) in one step, where it is `expected`.
 * Returns MEMORY_OK or MEMORY_CHANGED.
 */
export function exchangeWord(words: Int32Array, index: number, expectedHigh: number, expectedLow: number, high: number, low: number): number {
  const cell = new BigInt64Array(words.buffer, words.byteOffset + index * 4, 1);
  const expected = signed64(expectedHigh, expectedLow);
  return Atomics.compareExchange(cell, 0, expected, signed64(high, low)) === expected ? MEMORY_OK : MEMORY_CHANGED;
}

function signed64(high: number, low: number): bigint {
  return (BigInt(high | 0) << 32n) | BigInt(low >>> 0);
}

/** Words at consecutive addresses that all have one high word. */
export interface WordWindow {
  readonly words: Int32Array;
  /** Address of the first word: high word, and low word as a signed 32-bit integer. */
  readonly high: number;
  readonly low: number;
}

/**
 * Physical memory as page-table walks and queue drains see it: naturally aligned 64-bit little-endian
 * words at addresses below 2^52, given as two signed 32-bit words. The part that is one flat array is
 * open to the reader (`flat`, `flatBase`, `flatBytes`); everything else goes through `load64`.
 */
export interface WordMemory {
  /** Words of the flat part; index 0 is the word at `flatBase`. Empty when there is no flat part. */
  readonly flat: Int32Array;
  /** Address of the flat part: a multiple of 4096, given as a number (bytes). */
  readonly flatBase: number;
  /** Bytes of the flat part; at most 4 GiB. */
  readonly flatBytes: number;
  /** Loaded by `load64`: the low word. */
  loadedLow: number;
  /** Loaded by `load64`: the high word. */
  loadedHigh: number;

  /**
   * Other words than the flat part's that a reader may keep and read without asking: they hold the address,
   * and stay where they are for as long as the memory exists. Undefined where there are none such.
   */
  window?(addressHigh: number, addressLow: number): WordWindow | undefined;
  /**
   * Loads the 64-bit word at an 8-byte aligned address into `loadedLow` and `loadedHigh`, both of one value that
   * memory had. Returns MEMORY_OK or MEMORY_ABORT.
   */
  load64(addressHigh: number, addressLow: number): number;
  /** Stores a 64-bit word at an 8-byte aligned address. Returns MEMORY_OK or MEMORY_ABORT. */
  store64(addressHigh: number, addressLow: number, high: number, low: number): number;
  /**
   * Stores a 64-bit word where the present one is `expected`, in one step that no other writer comes between.
   * Returns MEMORY_OK, MEMORY_CHANGED (nothing is stored) or MEMORY_ABORT.
   */
  compareExchange64(addressHigh: number, addressLow: number, expectedHigh: number, expectedLow: number, high: number, low: number): number;
}

/**
 * Loads `count` words, an even number, into `out`; false where nothing answers for one of them.
 *
 * @param address in bytes, a multiple of 8
 * @param bits width of an address: what is at 2^`bits` or above answers nothing
 */
export function loadWords(memory: WordMemory, address: number, bits: number, out: Int32Array, count: number): boolean {
  if (address >= 2 ** bits) {
    return false;
  }
  const high = Math.floor(address / 0x1_0000_0000);
  const low = address | 0;
  for (let word = 0; word < count; word += 2) {
    if (memory.load64(high, low + 4 * word) !== MEMORY_OK) {
      return false;
    }
    out[word] = memory.loadedLow;
    out[word + 1] = memory.loadedHigh;
  }
  return true;
}

interface Placement {
  readonly base: number;
  readonly size: number;
  readonly ram: RamBlock;
  readonly offset: number;
  readonly writable: boolean;
  readonly removable: boolean;
}

/** RAM blocks placed in a physical address space. The largest one placed first is the flat part. */
export class RamWordMemory implements WordMemory {
  flat: Int32Array = new Int32Array(0);
  flatBase = 0;
  flatBytes = 0;
  loadedLow = 0;
  loadedHigh = 0;
  private placements: Placement[] = [];

  /**
   * Places `size` bytes of `ram` from `offset` on at physical address `base` (all multiples of 4096).
   * @param removable it may go while the memory is read: it is no flat part
   */
  place(base: number, ram: RamBlock, offset = 0, size = ram.size - offset, writable = true, removable = false): void {
    this.placements.push({ base, size, ram, offset, writable, removable });
    this.chooseFlat();
  }

  /** Takes away what `place` put at `base`. */
  remove(base: number): void {
    this.placements = this.placements.filter((p) => p.base !== base);
    this.chooseFlat();
  }

  load64(addressHigh: number, addressLow: number): number {
    const address = (addressHigh >>> 0) * 0x1_0000_0000 + (addressLow >>> 0);
    const placement = this.find(address);
    if (placement === undefined) {
      return MEMORY_ABORT;
    }
    const offset = address - placement.base + placement.offset;
    return loadSettled(placement.ram.wordWindow(offset), (offset % 0x1_0000_0000) / 4, this);
  }

  store64(addressHigh: number, addressLow: number, high: number, low: number): number {
    const address = (addressHigh >>> 0) * 0x1_0000_0000 + (addressLow >>> 0);
    const placement = this.find(address);
    if (placement === undefined || !placement.writable) {
      return MEMORY_ABORT;
    }
    const offset = address - placement.base + placement.offset;
    const words = placement.ram.wordWindow(offset);
    const index = (offset % 0x1_0000_0000) / 4;
    words[index] = low;
    words[index + 1] = high;
    return MEMORY_OK;
  }

  compareExchange64(addressHigh: number, addressLow: number, expectedHigh: number, expectedLow: number, high: number, low: number): number {
    const address = (addressHigh >>> 0) * 0x1_0000_0000 + (addressLow >>> 0);
    const placement = this.find(address);
    if (placement === undefined || !placement.writable) {
      return MEMORY_ABORT;
    }
    const offset = address - placement.base + placement.offset;
    return exchangeWord(placement.ram.wordWindow(offset), (offset % 0x1_0000_0000) / 4, expectedHigh, expectedLow, high, low);
  }

  private find(address: number): Placement | undefined {
    for (const placement of this.placements) {
      if (address >= placement.base && address < placement.base + placement.size) {
        return placement;
      }
    }
    return undefined;
  }

  private chooseFlat(): void {
    let best: Placement | undefined;
    for (const placement of this.placements) {
      if (placement.offset === 0 && placement.writable && !placement.removable && (best === undefined || placement.size > best.size)) {
        best = placement;
      }
    }
    this.flat = best === undefined ? new Int32Array(0) : best.ram.wordWindow(0);
    this.flatBase = best?.base ?? 0;
    this.flatBytes = best === undefined ? 0 : Math.min(best.size, this.flat.length * 4);
  }
}
