/** Stream table and context descriptor tables in the guest's RAM, linear and two-level (Arm IHI 0070, 3.3 and 5). */
import {
  CD_BYTES,
  L1CD_BYTES,
  L1STD_BYTES,
  STE_BYTES,
  STE_CONFIG_ABORT,
  STE_S1FMT_64K_L2,
  STE_S1FMT_LINEAR,
  STE_WORDS,
  STRTAB_BASE_CFG,
  STRTAB_FMT_2LEVEL,
  STRTAB_FMT_LINEAR,
  buildL1Cd,
  buildL1Std,
  buildSte,
  deposit,
} from "../../smmuv3/spec/index.js";
import { check } from "../failure.js";
import type { GuestMemory } from "../memory.js";
import { toQwords } from "../iommu/words.js";
import { STREAM_SPLIT, type SmmuFeatures } from "./features.js";

/** Entries of a leaf context table: 64 KiB of them. */
const L2_CDS = 1024;
const LEAF_STES = 1 << STREAM_SPLIT;
const MOST_L1_STREAM_ENTRIES = 1 << 17;

export class StreamTable {
  /** Leaf tables by the index of their Level 1 descriptor. */
  private readonly leaves = new Map<number, number>();

  private constructor(
    private readonly memory: GuestMemory,
    private readonly name: string,
    readonly twoLevel: boolean,
    readonly base: number,
    /** Level 1 descriptors, or entries of the linear table. */
    private readonly entries: number,
  ) {}

  static async create(memory: GuestMemory, name: string, features: SmmuFeatures): Promise<StreamTable> {
    if (features.twoLevelStreamTable) {
      const entries = Math.min(2 ** (features.sidBits - STREAM_SPLIT), MOST_L1_STREAM_ENTRIES);
      return new StreamTable(memory, name, true, await memory.allocateZeroed(entries * L1STD_BYTES), entries);
    }
    const entries = 2 ** features.sidBits;
    const base = memory.allocate(entries * STE_BYTES);
    await writeAborting(memory, base, entries);
    return new StreamTable(memory, name, false, base, entries);
  }

  /** STRTAB_BASE_CFG. */
  get configuration(): number {
    const log2 = Math.log2(this.entries);
    if (!this.twoLevel) {
      return deposit(deposit(0, STRTAB_BASE_CFG.FMT, STRTAB_FMT_LINEAR), STRTAB_BASE_CFG.LOG2SIZE, log2);
    }
    const cfg = deposit(deposit(0, STRTAB_BASE_CFG.FMT, STRTAB_FMT_2LEVEL), STRTAB_BASE_CFG.SPLIT, STREAM_SPLIT);
    return deposit(cfg, STRTAB_BASE_CFG.LOG2SIZE, log2 + STREAM_SPLIT);
  }

  /** Makes the leaf table of a StreamID where there is none yet. Throws GuestFailure for a StreamID beyond the table. */
  async prepare(streamId: number): Promise<void> {
    const limit = this.twoLevel ? this.entries * LEAF_STES : this.entries;
    check(streamId < limit, `${this.name}: StreamID 0x${streamId.toString(16)} is beyond the stream table of ${limit} entries`);
    const index = streamId >>> STREAM_SPLIT;
    if (!this.twoLevel || this.leaves.has(index)) {
      return;
    }
    const leaf = this.memory.allocate(LEAF_STES * STE_BYTES);
    await writeAborting(this.memory, leaf, LEAF_STES);
    this.leaves.set(index, leaf);
    // SPAN n covers 2^(n-1) entries (5.1).
    await this.memory.writeWords(this.base + index * L1STD_BYTES, buildL1Std({ SPAN: STREAM_SPLIT + 1, L2PTR: leaf }));
  }

  /** Guest-physical address of a StreamID's entry; its leaf table has to be there. */
  entryAddress(streamId: number): number {
    if (!this.twoLevel) {
      return this.base + streamId * STE_BYTES;
    }
    const leaf = this.leaves.get(streamId >>> STREAM_SPLIT);
    check(leaf !== undefined, `${this.name}: no leaf table for StreamID 0x${streamId.toString(16)}`);
    return leaf + (streamId & (LEAF_STES - 1)) * STE_BYTES;
  }

  /** Writes an entry outright, for a table that no hardware reads yet. */
  async initialise(streamId: number, words: Int32Array): Promise<void> {
    await this.prepare(streamId);
    await this.memory.writeWords(this.entryAddress(streamId), words);
  }

  release(): void {
    this.memory.release(this.base);
    for (const leaf of this.leaves.values()) {
      this.memory.release(leaf);
    }
  }
}

/** Every entry valid and aborting: what Linux gives streams that no driver has claimed. */
async function writeAborting(memory: GuestMemory, base: number, entries: number): Promise<void> {
  const one = buildSte({ V: 1, CONFIG: STE_CONFIG_ABORT });
  const chunk = Math.min(entries, 1024);
  const words = new Int32Array(chunk * STE_WORDS);
  for (let i = 0; i < chunk; i++) {
    words.set(one, i * STE_WORDS);
  }
  for (let done = 0; done < entries; done += chunk) {
    await memory.writeWords(base + done * STE_BYTES, words);
  }
}

export class ContextTable {
  private readonly leaves = new Map<number, number>();

  private constructor(
    private readonly memory: GuestMemory,
    /** STE.S1FMT. */
    readonly format: number,
    /** STE.S1CDMAX: log2 of the contexts. */
    readonly cdMax: number,
    /** STE.S1ContextPtr. */
    readonly base: number,
  ) {}

  /** A table for 2^`ssidBits` contexts: two levels where the SMMU has them and one leaf does not hold them all. */
  static async create(memory: GuestMemory, features: SmmuFeatures, ssidBits: number): Promise<ContextTable> {
    const contexts = 2 ** ssidBits;
    if (!features.twoLevelContextTable || contexts <= L2_CDS) {
      return new ContextTable(memory, STE_S1FMT_LINEAR, ssidBits, await memory.allocateZeroed(contexts * CD_BYTES));
    }
    const base = await memory.allocateZeroed(Math.ceil(contexts / L2_CDS) * L1CD_BYTES);
    return new ContextTable(memory, STE_S1FMT_64K_L2, ssidBits, base);
  }

  /** Makes the leaf table of a SubstreamID. Returns true where that wrote a Level 1 descriptor, which may be cached as invalid. */
  async prepare(substreamId: number): Promise<boolean> {
    const index = Math.floor(substreamId / L2_CDS);
    if (this.format === STE_S1FMT_LINEAR || this.leaves.has(index)) {
      return false;
    }
    const leaf = await this.memory.allocateZeroed(L2_CDS * CD_BYTES);
    this.leaves.set(index, leaf);
    const [descriptor] = toQwords(buildL1Cd({ V: 1, L2PTR: leaf }));
    await this.memory.write64(this.base + index * L1CD_BYTES, descriptor);
    return true;
  }

  entryAddress(substreamId: number): number {
    if (this.format === STE_S1FMT_LINEAR) {
      return this.base + substreamId * CD_BYTES;
    }
    const leaf = this.leaves.get(Math.floor(substreamId / L2_CDS));
    check(leaf !== undefined, `no leaf context table for SubstreamID ${substreamId}`);
    return leaf + (substreamId % L2_CDS) * CD_BYTES;
  }

  release(): void {
    this.memory.release(this.base);
    for (const leaf of this.leaves.values()) {
      this.memory.release(leaf);
    }
  }
}
