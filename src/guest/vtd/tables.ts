/**
 * Root, context and PASID tables in the guest's RAM, of both modes (Intel VT-d 5.x, chapter 9), and the order in
 * which their entries are written: the part with P last, or first where an entry goes.
 */
import { get, getAddress, pack } from "../../support/index.js";
import {
  CONTEXT,
  CONTEXT_ENTRY_BYTES,
  CONTEXT_ENTRY_WORDS,
  PASID_DIRECTORY,
  PASID_DIRECTORY_ENTRY_BYTES,
  PASID_DIRECTORY_ENTRY_WORDS,
  PASID_ENTRY_BYTES,
  PASID_ENTRY_WORDS,
  PASID_TABLE_BITS,
  PASID_TABLE_ENTRIES,
  ROOT,
  ROOT_ENTRY_BYTES,
  SM_CONTEXT_ENTRY_BYTES,
  SM_CONTEXT_ENTRY_WORDS,
  SM_ROOT,
} from "../../vtd/spec/index.js";
import type { GuestMemory } from "../memory.js";
import { toQwords } from "../iommu/words.js";

const PAGE = 4096;
const BUSES = 256;

/** Writes an entry: while it is not present, the rest first and the word with P last. */
async function writeEntry(memory: GuestMemory, address: number, entry: Int32Array): Promise<void> {
  const qwords = toQwords(entry);
  for (let i = qwords.length - 1; i >= 0; i--) {
    await memory.write64(address + i * 8, qwords[i]);
  }
}

export class RootTable {
  private readonly contexts = new Map<number, number>();

  private constructor(
    private readonly memory: GuestMemory,
    readonly scalable: boolean,
    readonly base: number,
  ) {}

  static async create(memory: GuestMemory, scalable: boolean): Promise<RootTable> {
    return new RootTable(memory, scalable, await memory.allocateZeroed(BUSES * ROOT_ENTRY_BYTES));
  }

  private get entryWords(): number {
    return this.scalable ? SM_CONTEXT_ENTRY_WORDS : CONTEXT_ENTRY_WORDS;
  }

  /** Makes the context table of a source-id where there is none yet. Returns the entry's guest-physical address. */
  async prepare(sourceId: number): Promise<number> {
    const devfn = sourceId & 0xff;
    // Scalable mode has two tables a bus, of 128 entries of 32 bytes.
    const half = this.scalable ? devfn >> 7 : 0;
    const key = ((sourceId >> 8) << 1) | half;
    let table = this.contexts.get(key);
    if (table === undefined) {
      table = await this.memory.allocateZeroed(PAGE);
      this.contexts.set(key, table);
      const layout = this.scalable ? pack(SM_ROOT, new Int32Array(4), half === 0 ? { LP: 1, LCTP: table } : { UP: 1, UCTP: table }) : pack(ROOT, new Int32Array(4), { P: 1, CTP: table });
      await this.memory.write64(this.base + (sourceId >> 8) * ROOT_ENTRY_BYTES + half * 8, toQwords(layout)[half]);
    }
    return table + (this.scalable ? (devfn & 0x7f) * SM_CONTEXT_ENTRY_BYTES : devfn * CONTEXT_ENTRY_BYTES);
  }

  async read(sourceId: number): Promise<Int32Array> {
    return this.memory.readWords(await this.prepare(sourceId), this.entryWords);
  }

  async write(sourceId: number, entry: Int32Array): Promise<void> {
    await writeEntry(this.memory, await this.prepare(sourceId), entry);
  }

  /** P to 0; the rest stays until the caches have forgotten the entry (Linux: context_clear_present, context_clear_entry). */
  async clearPresent(sourceId: number): Promise<void> {
    const at = await this.prepare(sourceId);
    const entry = await this.memory.readWords(at, this.entryWords);
    entry[CONTEXT.P.word] &= ~CONTEXT.P.inPlace;
    await this.memory.write64(at, toQwords(entry)[0]);
  }

  /**
   * Copies the context entries below another kernel's root table into this one. Returns the domain ids that they
   * use; in scalable mode those are in PASID tables, which stay where they are.
   */
  async copyFrom(base: number): Promise<number[]> {
    const ids = new Set<number>();
    const root = await this.memory.readWords(base, BUSES * 4);
    for (let bus = 0; bus < BUSES; bus++) {
      for (const half of this.scalable ? [0, 1] : [0]) {
        const [layout, field] = half === 0 ? [SM_ROOT.LP, SM_ROOT.LCTP] : [SM_ROOT.UP, SM_ROOT.UCTP];
        if (get(root, layout, bus * 4) === 1) {
          const entries = await this.memory.readWords(getAddress(root, field, bus * 4), PAGE / 4);
          const first = await this.prepare((bus << 8) | (half << 7));
          await this.memory.writeWords(first, entries);
          for (let at = 0; at < entries.length && !this.scalable; at += CONTEXT_ENTRY_WORDS) {
            if (get(entries, CONTEXT.P, at) === 1) {
              ids.add(get(entries, CONTEXT.DID, at));
            }
          }
        }
      }
    }
    return [...ids];
  }

  release(): void {
    this.memory.release(this.base);
    this.contexts.forEach((table) => this.memory.release(table));
  }
}

/** A function's PASID directory with its tables. */
export class PasidTable {
  private readonly tables = new Map<number, number>();

  private constructor(
    private readonly memory: GuestMemory,
    readonly directory: number,
    /** SM_CONTEXT.PDTS: 2^(PDTS + 7) directory entries. */
    readonly sizeField: number,
    /** PASIDs that it has room for. */
    readonly pasids: number,
  ) {}

  /** Room for 2^`bits` PASIDs, a page of directory at least, as Linux's intel_pasid_alloc_table makes it. */
  static async create(memory: GuestMemory, bits: number): Promise<PasidTable> {
    const entries = Math.max(2 ** bits / PASID_TABLE_ENTRIES, PAGE / PASID_DIRECTORY_ENTRY_BYTES);
    const directory = await memory.allocateZeroed(entries * PASID_DIRECTORY_ENTRY_BYTES);
    return new PasidTable(memory, directory, Math.log2(entries) - 7, entries * PASID_TABLE_ENTRIES);
  }

  /** Makes the table of a PASID where there is none yet. Returns the entry's guest-physical address. */
  async prepare(pasid: number): Promise<number> {
    const index = pasid >> PASID_TABLE_BITS;
    let table = this.tables.get(index);
    if (table === undefined) {
      table = await this.memory.allocateZeroed(PAGE);
      this.tables.set(index, table);
      const entry = pack(PASID_DIRECTORY, new Int32Array(PASID_DIRECTORY_ENTRY_WORDS), { P: 1, SMPTBLPTR: table });
      await this.memory.write64(this.directory + index * PASID_DIRECTORY_ENTRY_BYTES, toQwords(entry)[0]);
    }
    return table + (pasid & (PASID_TABLE_ENTRIES - 1)) * PASID_ENTRY_BYTES;
  }

  async read(pasid: number): Promise<Int32Array> {
    return this.memory.readWords(await this.prepare(pasid), PASID_ENTRY_WORDS);
  }

  /** Writes an entry that is not present. */
  async write(pasid: number, entry: Int32Array): Promise<void> {
    await writeEntry(this.memory, await this.prepare(pasid), entry);
  }

  /** Writes an entry over a present one, in one store: hardware may have either (Linux: intel_pasid_replace_*). */
  async replace(pasid: number, entry: Int32Array): Promise<void> {
    await this.memory.writeWords(await this.prepare(pasid), entry);
  }

  /** P to 0; the rest stays until the caches have forgotten the entry. */
  async clearPresent(pasid: number): Promise<void> {
    const at = await this.prepare(pasid);
    const entry = await this.memory.readWords(at, 2);
    await this.memory.write64(at, toQwords(entry)[0] & ~1n);
  }

  release(): void {
    this.memory.release(this.directory);
    this.tables.forEach((table) => this.memory.release(table));
  }
}

/** Whether a context or PASID entry is present; P is bit 0 of all of them. */
export const isPresent = (entry: Int32Array): boolean => (entry[0] & 1) !== 0;

