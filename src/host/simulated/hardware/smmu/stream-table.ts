import { highWord, lowWord } from "../../../../support/index.js";
import { buildL1Std, buildSte, STE_CONFIG_ABORT, STE_WORDS, STRTAB_FMT_2LEVEL, STRTAB_FMT_LINEAR } from "../../../../smmuv3/spec/index.js";
import type { PhysicalMemory } from "../physical-memory.js";

/** StreamIDs of one second-level table: as Linux has it, SPLIT = 8. */
const SPLIT = 8;
const LEVEL_TWO_BITS = SPLIT + 6;
/** Largest tables: 2^18 STEs in a linear one, 2^21 descriptors in the first level of the other (table memory has at most 16 MiB a piece). */
const MOST_LINEAR_BITS = 18;
const MOST_LEVEL_ONE_BITS = 21;

/**
 * The kernel's stream table in host memory. Entries that nobody has written abort (V = 1, Config = 0); of a
 * two-level table those parts exist in which a StreamID of the host lies, the rest is out of range.
 */
export class HostStreamTable {
  /** What goes into STRTAB_BASE and STRTAB_BASE_CFG. */
  readonly base: number;
  readonly format: number;
  readonly split: number;
  readonly log2Size: number;
  private readonly levelTwo = new Map<number, number>();
  private readonly pieces: Array<{ address: number; bits: number }> = [];

  /**
   * @param sidBits IDR1.SIDSIZE
   * @param streamIds of the functions behind the SMMU
   */
  constructor(
    private readonly memory: PhysicalMemory,
    twoLevel: boolean,
    sidBits: number,
    streamIds: readonly number[],
  ) {
    const aborts = buildSte({ V: true, CONFIG: STE_CONFIG_ABORT });
    if (!twoLevel || sidBits <= SPLIT) {
      this.format = STRTAB_FMT_LINEAR;
      this.split = 0;
      this.log2Size = Math.min(sidBits, MOST_LINEAR_BITS);
      this.base = this.take(this.log2Size + 6);
      for (let sid = 0; sid < 2 ** this.log2Size; sid++) {
        this.store(this.base + sid * 64, aborts);
      }
      return;
    }
    this.format = STRTAB_FMT_2LEVEL;
    this.split = SPLIT;
    this.log2Size = Math.min(sidBits, MOST_LEVEL_ONE_BITS + SPLIT);
    this.base = this.take(Math.max(6, this.log2Size - SPLIT + 3));
    for (const sid of streamIds) {
      const index = sid >>> SPLIT;
      if (sid < this.streams && !this.levelTwo.has(index)) {
        const table = this.take(LEVEL_TWO_BITS);
        for (let i = 0; i < 1 << SPLIT; i++) {
          this.store(table + i * 64, aborts);
        }
        this.levelTwo.set(index, table);
        // Span: 2^(Span - 1) STEs (Arm IHI 0070, 5.1).
        this.store(this.base + index * 8, buildL1Std({ SPAN: SPLIT + 1, L2PTR: table }));
      }
    }
  }

  /** How many StreamIDs the table has room for. */
  get streams(): number {
    return 2 ** this.log2Size;
  }

  /** Whether there is an entry for a StreamID. */
  has(streamId: number): boolean {
    return streamId < this.streams && (this.format === STRTAB_FMT_LINEAR || this.levelTwo.has(streamId >>> SPLIT));
  }

  /** Stores an STE, its first word last, as a driver does (IHI 0070, 3.21.3.1). Throws RangeError where no table holds the StreamID. */
  write(streamId: number, words: Int32Array): void {
    const at = this.addressOf(streamId);
    this.store(at + 8, words.subarray(2, STE_WORDS));
    this.store(at, words.subarray(0, 2));
  }

  /** The sixteen words of an STE as memory has them now. */
  read(streamId: number): Int32Array {
    const bytes = new Uint8Array(STE_WORDS * 4);
    this.memory.read(this.addressOf(streamId), bytes);
    return new Int32Array(bytes.buffer);
  }

  close(): void {
    for (const { address, bits } of this.pieces.splice(0)) {
      this.memory.freePage(address, bits);
    }
  }

  private addressOf(streamId: number): number {
    const table = this.format === STRTAB_FMT_LINEAR ? this.base : this.levelTwo.get(streamId >>> SPLIT);
    if (table === undefined || streamId >= this.streams) {
      throw new RangeError(`StreamID 0x${streamId.toString(16)} has no entry in the host's stream table`);
    }
    return table + (this.format === STRTAB_FMT_LINEAR ? streamId : streamId & ((1 << SPLIT) - 1)) * 64;
  }

  private take(bits: number): number {
    const address = this.memory.allocatePage(bits);
    this.pieces.push({ address, bits });
    return address;
  }

  private store(address: number, words: Int32Array): void {
    const high = highWord(address);
    const low = lowWord(address);
    for (let i = 0; i < words.length; i += 2) {
      this.memory.words.store64(high, low + i * 4, words[i + 1], words[i]);
    }
  }
}
