import { loadWords, PHYSICAL_BITS } from "../../../../memory/index.js";
import { highWord, lowWord } from "../../../../support/index.js";
import { PASID_ENTRY_BYTES, PASID_ENTRY_WORDS, PASID_TABLE_BITS } from "../../../../vtd/spec/index.js";
import type { HostMemory } from "../hardware-port.js";
import { storeWords } from "./remapping-tables.js";

const TABLE_BITS = 12;
const PRESENT = 1;
/** SM_CONTEXT.PDTS = 0 means 2^7 directory entries, a kilobyte; a directory is a page at least. */
const LEAST_DIRECTORY_BITS = 7;

/**
 * A function's PASID directory and tables (Intel VT-d 9.5, 9.6). The table of PASID 0, which requests without
 * PASID use, is there from the start; those of others come with their first entry and go with the last.
 */
export class PasidTable {
  /** HPA of the directory. */
  readonly directory: number;
  /** SM_CONTEXT.PDTS. */
  readonly sizeField: number;
  private readonly directoryBytesBits: number;
  private readonly tables = new Map<number, { readonly address: number; used: number }>();
  private readonly used = new Set<number>();

  /** @param pasidBits bits of the PASIDs that it has room for; 0: only that of requests without one */
  constructor(
    private readonly memory: HostMemory,
    pasidBits: number,
  ) {
    const entriesBits = Math.max(LEAST_DIRECTORY_BITS, pasidBits - PASID_TABLE_BITS);
    this.sizeField = entriesBits - LEAST_DIRECTORY_BITS;
    this.directoryBytesBits = Math.max(TABLE_BITS, entriesBits + 3);
    this.directory = memory.allocatePage(this.directoryBytesBits);
    this.prepare(0);
  }

  has(pasid: number): boolean {
    return this.used.has(pasid);
  }

  /** Makes the table for a PASID where there is none. Throws what allocatePage throws. */
  prepare(pasid: number): void {
    const index = pasid >>> PASID_TABLE_BITS;
    if (!this.tables.has(index)) {
      const address = this.memory.allocatePage(TABLE_BITS);
      this.tables.set(index, { address, used: 0 });
      storeWords(this.memory, this.directory + 8 * index, Int32Array.of(lowWord(address) | PRESENT, highWord(address)));
    }
  }

  /** Gives back a table that `prepare` has made and nothing has come to be in, after a failure. */
  forget(pasid: number): void {
    const index = pasid >>> PASID_TABLE_BITS;
    const table = this.tables.get(index);
    if (index > 0 && table !== undefined && table.used === 0) {
      storeWords(this.memory, this.directory + 8 * index, new Int32Array(2));
      this.tables.delete(index);
      this.memory.freePage(table.address, TABLE_BITS);
    }
  }

  /** Stores an entry (16 words), or clears it (null); the caller invalidates, and then calls `forget` for a cleared one. */
  write(pasid: number, words: Int32Array | null): void {
    const table = this.tables.get(pasid >>> PASID_TABLE_BITS)!;
    storeWords(this.memory, this.entryAddress(pasid), words ?? new Int32Array(PASID_ENTRY_WORDS));
    if (words !== null && !this.used.has(pasid)) {
      this.used.add(pasid);
      table.used++;
    } else if (words === null && this.used.delete(pasid)) {
      table.used--;
    }
  }

  /** The entry as memory has it. */
  read(pasid: number): Int32Array {
    const words = new Int32Array(PASID_ENTRY_WORDS);
    loadWords(this.memory.words, this.entryAddress(pasid), PHYSICAL_BITS, words, PASID_ENTRY_WORDS);
    return words;
  }

  release(): void {
    for (const { address } of this.tables.values()) {
      this.memory.freePage(address, TABLE_BITS);
    }
    this.memory.freePage(this.directory, this.directoryBytesBits);
  }

  private entryAddress(pasid: number): number {
    const { address } = this.tables.get(pasid >>> PASID_TABLE_BITS)!;
    return address + (pasid & ((1 << PASID_TABLE_BITS) - 1)) * PASID_ENTRY_BYTES;
  }
}
