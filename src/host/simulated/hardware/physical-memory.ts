import { exchangeWord, loadSettled, type MakeMemory, MEMORY_ABORT, MEMORY_OK, processMemory, RamBlock, type WordMemory, type WordWindow } from "../../../memory/index.js";
import { Refusal } from "../../../support/index.js";
import { TableMemory } from "./table-memory.js";

const GIB = 0x4000_0000;
const NO_WORDS = new Int32Array(0);

/** A run of the host's RAM, as the description names it. */
export interface MemoryRange {
  readonly numaNode: number;
  /** Host-physical, bytes. */
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

/** The host's physical memory as table walks see it. Table memory is the second fast way: most loads of a nested walk go there. */
class HostWords implements WordMemory {
  flat: Int32Array = NO_WORDS;
  flatBase = 0;
  flatBytes = 0;
  loadedLow = 0;
  loadedHigh = 0;
  private writableIndex = 0;

  constructor(
    private readonly tables: TableMemory,
    private readonly blocks: readonly RamBlock[],
  ) {}

  load64(addressHigh: number, addressLow: number): number {
    let words: Int32Array | undefined;
    let index: number;
    const tables = this.tables;
    if (addressHigh === tables.high) {
      const offset = (addressLow - tables.low) >>> 0;
      words = tables.segments[offset >>> 24];
      index = (offset & 0xff_ffff) >>> 2;
      if (words !== undefined) {
        return loadSettled(words, index, this);
      }
    }
    const address = (addressHigh >>> 0) * 0x1_0000_0000 + (addressLow >>> 0);
    const offset = address - this.flatBase;
    if (offset >= 0 && offset < this.flatBytes) {
      words = this.flat;
      index = offset / 4;
    } else {
      const block = findBlock(this.blocks, address);
      if (block === undefined) {
        return MEMORY_ABORT;
      }
      words = block.wordWindow(address - block.hostAddress);
      index = ((address - block.hostAddress) % RamBlock.windowBytes) / 4;
    }
    return loadSettled(words, index, this);
  }

  store64(addressHigh: number, addressLow: number, high: number, low: number): number {
    const words = this.writable(addressHigh, addressLow);
    if (words === undefined) {
      return MEMORY_ABORT;
    }
    words[this.writableIndex] = low;
    words[this.writableIndex + 1] = high;
    return MEMORY_OK;
  }

  compareExchange64(addressHigh: number, addressLow: number, expectedHigh: number, expectedLow: number, high: number, low: number): number {
    const words = this.writable(addressHigh, addressLow);
    return words === undefined ? MEMORY_ABORT : exchangeWord(words, this.writableIndex, expectedHigh, expectedLow, high, low);
  }

  /** The words that hold an address, and in `writableIndex` where; undefined: nothing is there. */
  private writable(addressHigh: number, addressLow: number): Int32Array | undefined {
    let words: Int32Array | undefined;
    let index = 0;
    const tables = this.tables;
    if (addressHigh === tables.high) {
      const offset = (addressLow - tables.low) >>> 0;
      words = tables.segments[offset >>> 24];
      index = (offset & 0xff_ffff) >>> 2;
    }
    if (words === undefined) {
      const address = (addressHigh >>> 0) * 0x1_0000_0000 + (addressLow >>> 0);
      const block = findBlock(this.blocks, address);
      if (block === undefined) {
        return undefined;
      }
      words = block.wordWindow(address - block.hostAddress);
      index = ((address - block.hostAddress) % RamBlock.windowBytes) / 4;
    }
    this.writableIndex = index;
    return words;
  }

  /** A segment of table memory: once taken it stays. */
  window(addressHigh: number, addressLow: number): WordWindow | undefined {
    const tables = this.tables;
    const offset = (addressLow - tables.low) >>> 0;
    const words = addressHigh === tables.high ? tables.segments[offset >>> 24] : undefined;
    return words === undefined ? undefined : { words, high: tables.high, low: addressLow & 0xff00_0000 };
  }

  /** The largest block is the flat part, the earliest of several. */
  chooseFlat(): void {
    let best: RamBlock | undefined;
    for (const block of this.blocks) {
      if (best === undefined || block.size > best.size) {
        best = block;
      }
    }
    this.flat = best?.wordWindow(0) ?? NO_WORDS;
    this.flatBase = best?.hostAddress ?? 0;
    this.flatBytes = this.flat.length * 4;
  }
}

/**
 * The host's RAM. A process gets blocks of it, its kernel table memory; what nobody has taken answers no
 * access. A block costs what of it is touched.
 */
export class PhysicalMemory {
  /** Host-physical words: blocks and table memory. */
  readonly words: WordMemory;
  /** The kernel's part. */
  readonly tables: TableMemory;
  private readonly hostWords: HostWords;
  private readonly blocks: RamBlock[] = [];
  /** Free runs in address order. */
  private free_: Array<{ base: number; size: number }>;

  /** @param ranges the host's RAM: disjoint, each at least 64 MiB. Table memory is an eighth, at most 2 GiB, from the end of the first. */
  constructor(
    readonly ranges: readonly MemoryRange[],
    private readonly makeMemory: MakeMemory = () => processMemory,
  ) {
    const [first] = ranges;
    const end = first.base + first.size;
    // The part below the last 4 GiB boundary inside the range would be cut; the kernel's part lies wholly above or below one.
    const tableEnd = Math.floor(end / 0x100_0000) * 0x100_0000;
    const wanted = Math.max(0x100_0000, Math.min(2 * GIB, Math.floor(first.size / 8 / 0x100_0000) * 0x100_0000));
    const boundary = Math.floor((tableEnd - 1) / 0x1_0000_0000) * 0x1_0000_0000;
    const tableBase = Math.max(tableEnd - wanted, boundary);
    this.tables = new TableMemory(tableBase, tableEnd - tableBase);
    this.free_ = ranges.map((range) => ({
      base: range.base,
      size: range === first ? tableBase - range.base : range.size,
    }));
    this.hostWords = new HostWords(this.tables, this.blocks);
    this.words = this.hostWords;
  }

  /** Bytes that blocks can still be made of. */
  get freeBytes(): number {
    return this.free_.reduce((sum, run) => sum + run.size, 0);
  }

  /** Blocks in use. */
  get liveBlocks(): number {
    return this.blocks.length;
  }

  /** Pieces of table memory in use. */
  get livePages(): number {
    return this.tables.livePieces;
  }

  /** Bytes of table memory in use. */
  get livePageBytes(): number {
    return this.tables.liveBytes;
  }

  /**
   * Takes a zeroed block; its hostAddress is its host-physical address and, since the simulated kernel pins
   * one to one, the process's address too. Blocks of 1 GiB and more start at a multiple of 1 GiB, those of
   * 2 MiB and more at one of 2 MiB, smaller ones at one of 64 KiB, so that stage 2 can use blocks.
   *
   * @param bytes a multiple of 4096
   * @throws Refusal where the host has no such run of free memory (QEMU's words)
   */
  allocate(name: string, bytes: number): RamBlock {
    const alignment = bytes >= GIB ? GIB : bytes >= 0x20_0000 ? 0x20_0000 : 0x1_0000;
    for (const run of this.free_) {
      const base = Math.ceil(run.base / alignment) * alignment;
      if (base + bytes <= run.base + run.size) {
        const block = new RamBlock(name, bytes, base, this.makeMemory(name, bytes));
        this.cut(run, base, bytes);
        this.blocks.push(block);
        this.blocks.sort((a, b) => a.hostAddress - b.hostAddress);
        this.hostWords.chooseFlat();
        return block;
      }
    }
    const largest = this.free_.reduce((most, run) => Math.max(most, run.size), 0);
    throw new Refusal(`cannot set up guest memory '${name}': Cannot allocate memory`, {
      rule: "host-memory",
      found: `${bytes} bytes asked for; the host's largest free run of memory has ${largest}`,
      wouldWork: "a smaller -m, or a host file with more memory",
    });
  }

  /** Gives a block back. Throws RangeError for one that is not in use. */
  free(block: RamBlock): void {
    const index = this.blocks.indexOf(block);
    if (index < 0) {
      throw new RangeError(`RAM block ${block.name} is not in use on this host`);
    }
    this.blocks.splice(index, 1);
    block.backing.release();
    this.free_.push({ base: block.hostAddress, size: block.size });
    this.free_.sort((a, b) => a.base - b.base);
    const merged: Array<{ base: number; size: number }> = [];
    for (const run of this.free_) {
      const last = merged[merged.length - 1];
      // Runs of two described ranges stay apart: a range's size is what its node has.
      if (last !== undefined && last.base + last.size === run.base && !this.ranges.some((range) => range.base === run.base)) {
        last.size += run.size;
      } else {
        merged.push({ ...run });
      }
    }
    this.free_ = merged;
    this.hostWords.chooseFlat();
  }

  /** Takes zeroed, naturally aligned table memory of 2^log2Bytes bytes (6 to 24); returns its HPA. Throws HostError ENOMEM. */
  allocatePage(log2Bytes: number): number {
    return this.tables.allocate(log2Bytes);
  }

  /** Gives table memory back, exactly as it was taken. */
  freePage(hpa: number, log2Bytes: number): void {
    this.tables.free(hpa, log2Bytes);
  }

  /** Whether every byte lies in blocks: memory that a process may have mapped. The kernel's table memory is not. */
  isRam(hpa: number, length: number): boolean {
    let at = hpa;
    const end = hpa + length;
    while (at < end) {
      const block = findBlock(this.blocks, at);
      if (block === undefined) {
        return false;
      }
      at = block.hostAddress + block.size;
    }
    return length > 0;
  }

  /** Reads host-physical bytes as a bus does; false where nothing answers, with what was read before left in `out`. */
  read(hpa: number, out: Uint8Array): boolean {
    return this.eachPart(hpa, out.length, (block, offset, done, step) => block.read(offset, out.subarray(done, done + step))) === null
      ? true
      : this.tables.contains(hpa, out.length) && (this.tables.read(hpa, out), true);
  }

  /** Writes host-physical bytes as a bus does; false where nothing answers. */
  write(hpa: number, data: Uint8Array): boolean {
    return this.eachPart(hpa, data.length, (block, offset, done, step) => block.write(offset, data.subarray(done, done + step))) === null
      ? true
      : this.tables.contains(hpa, data.length) && (this.tables.write(hpa, data), true);
  }

  /** Returns null when all was done, else the address where no block is. */
  private eachPart(
    hpa: number,
    length: number,
    use: (block: RamBlock, offset: number, done: number, step: number) => void,
  ): number | null {
    for (let done = 0; done < length; ) {
      const block = findBlock(this.blocks, hpa + done);
      if (block === undefined) {
        return hpa + done;
      }
      const offset = hpa + done - block.hostAddress;
      const step = Math.min(length - done, block.size - offset);
      use(block, offset, done, step);
      done += step;
    }
    return null;
  }

  private cut(run: { base: number; size: number }, base: number, bytes: number): void {
    const rest: Array<{ base: number; size: number }> = [];
    if (base > run.base) {
      rest.push({ base: run.base, size: base - run.base });
    }
    if (base + bytes < run.base + run.size) {
      rest.push({ base: base + bytes, size: run.base + run.size - base - bytes });
    }
    this.free_.splice(this.free_.indexOf(run), 1, ...rest);
  }
}

/** The block that holds an address; blocks are in address order. */
function findBlock(blocks: readonly RamBlock[], address: number): RamBlock | undefined {
  let low = 0;
  let high = blocks.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const block = blocks[middle];
    if (address < block.hostAddress) {
      high = middle - 1;
    } else if (address >= block.hostAddress + block.size) {
      low = middle + 1;
    } else {
      return block;
    }
  }
  return undefined;
}
