import {
  buildL1Cd,
  CD_BYTES,
  CD_WORDS,
  STE_S1FMT_64K_L2,
  STE_S1FMT_LINEAR,
} from "../../../../smmuv3/spec/index.js";
import { highWord, lowWord } from "../../../../support/index.js";
import type { HostMemory } from "../hardware-port.js";

const LEAF_CONTEXTS_BITS = 10;
const LEAF_BITS = 16;

/**
 * The kernel's table of Context Descriptors of one function (Arm IHI 0070, 5.4): linear up to 1024
 * descriptors, above that two levels with leaves of 1024, made when they are needed.
 */
export class ContextTable {
  readonly format: number;
  readonly base: number;
  private readonly baseBits: number;
  private readonly leaves = new Map<number, number>();
  private readonly used = new Set<number>();

  /** @param substreamBits log2 of the descriptors: STE.S1CDMAX */
  constructor(
    private readonly memory: HostMemory,
    readonly substreamBits: number,
    twoLevels: boolean,
  ) {
    const linear = !twoLevels || substreamBits <= LEAF_CONTEXTS_BITS;
    this.format = linear ? STE_S1FMT_LINEAR : STE_S1FMT_64K_L2;
    this.baseBits = linear ? substreamBits + 6 : Math.max(6, substreamBits - LEAF_CONTEXTS_BITS + 3);
    this.base = memory.allocatePage(this.baseBits);
  }

  /** SubstreamIDs that have a descriptor. */
  get size(): number {
    return this.used.size;
  }

  /** Whether a SubstreamID other than 0 has a descriptor. */
  get hasSubstreams(): boolean {
    return this.used.size > (this.used.has(0) ? 1 : 0);
  }

  has(ssid: number): boolean {
    return this.used.has(ssid);
  }

  /** Makes the leaf table for a SubstreamID where there is none. Throws what allocatePage throws. */
  prepare(ssid: number): void {
    if (this.format !== STE_S1FMT_LINEAR) {
      const index = ssid >>> LEAF_CONTEXTS_BITS;
      if (!this.leaves.has(index)) {
        const leaf = this.memory.allocatePage(LEAF_BITS);
        this.leaves.set(index, leaf);
        const words = buildL1Cd({ V: 1, L2PTR: leaf });
        const entry = this.base + 8 * index;
        this.memory.words.store64(highWord(entry), lowWord(entry), words[1], words[0]);
      }
    }
  }

  /** Stores a descriptor (16 words), or clears it; the caller invalidates. */
  write(ssid: number, words: Int32Array | null): void {
    const at =
      this.format === STE_S1FMT_LINEAR
        ? this.base + ssid * CD_BYTES
        : this.leaves.get(ssid >>> LEAF_CONTEXTS_BITS)! + (ssid & ((1 << LEAF_CONTEXTS_BITS) - 1)) * CD_BYTES;
    for (let i = 0; i < CD_WORDS; i += 2) {
      const address = at + 4 * i;
      this.memory.words.store64(highWord(address), lowWord(address), words?.[i + 1] ?? 0, words?.[i] ?? 0);
    }
    if (words === null) {
      this.used.delete(ssid);
    } else {
      this.used.add(ssid);
    }
  }

  release(): void {
    for (const leaf of this.leaves.values()) {
      this.memory.freePage(leaf, LEAF_BITS);
    }
    this.memory.freePage(this.base, this.baseBits);
  }
}
