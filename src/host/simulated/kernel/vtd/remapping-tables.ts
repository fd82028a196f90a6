import { type Field, highWord, lowWord, put } from "../../../../support/index.js";
import {
  CONTEXT_ENTRY_BYTES,
  ROOT_ENTRY_BYTES,
  SM_CONTEXT_ENTRY_BYTES,
  TTM_LEGACY,
  TTM_SCALABLE,
} from "../../../../vtd/spec/index.js";
import type { HostMemory } from "../hardware-port.js";

const TABLE_BITS = 12;
const PRESENT = 1;

/**
 * The kernel's root and context tables of one unit (Intel VT-d 9.1 to 9.4). The root table's entries have a
 * context table for each bus, in scalable mode one for each half of a bus; they are made when a function of
 * theirs is probed, and stay.
 */
export class RemappingTables {
  /** HPA of the root table. */
  readonly root: number;
  /** RTADDR.TTM: TTM_*. */
  readonly mode: number;
  private readonly contextTables = new Map<number, number>();

  constructor(
    private readonly memory: HostMemory,
    scalable: boolean,
  ) {
    this.mode = scalable ? TTM_SCALABLE : TTM_LEGACY;
    this.root = memory.allocatePage(TABLE_BITS);
  }

  /** Makes the context table of a requester id where there is none. */
  prepare(requesterId: number): void {
    const index = this.tableIndex(requesterId);
    if (!this.contextTables.has(index)) {
      const table = this.memory.allocatePage(TABLE_BITS);
      this.contextTables.set(index, table);
      // In scalable mode the two halves of a root entry follow one another, so half bus n is at 8 * n.
      const at = this.root + index * (this.scalable ? ROOT_ENTRY_BYTES / 2 : ROOT_ENTRY_BYTES);
      storeWords(this.memory, at, Int32Array.of(lowWord(table) | PRESENT, highWord(table)));
    }
  }

  /** Stores a context entry (4 words; 8 in scalable mode), the one with the present bit last. */
  write(requesterId: number, words: Int32Array): void {
    storeWords(this.memory, this.entryAddress(requesterId), words);
  }

  /** HPA of a requester id's context entry. `prepare` has made its table. */
  entryAddress(requesterId: number): number {
    const table = this.contextTables.get(this.tableIndex(requesterId))!;
    return table + (this.scalable ? (requesterId & 0x7f) * SM_CONTEXT_ENTRY_BYTES : (requesterId & 0xff) * CONTEXT_ENTRY_BYTES);
  }

  release(): void {
    for (const table of this.contextTables.values()) {
      this.memory.freePage(table, TABLE_BITS);
    }
    this.memory.freePage(this.root, TABLE_BITS);
  }

  private get scalable(): boolean {
    return this.mode === TTM_SCALABLE;
  }

  private tableIndex(requesterId: number): number {
    return this.scalable ? requesterId >>> 7 : requesterId >>> 8;
  }
}

/** Stores 32-bit words at an HPA; the first two, which say whether an entry is present, at last. */
export function storeWords(memory: HostMemory, address: number, words: Int32Array): void {
  for (let i = words.length - 2; i >= 0; i -= 2) {
    memory.words.store64(highWord(address), lowWord(address) + 4 * i, words[i + 1], words[i]);
  }
}

export type FieldValue = readonly [field: Field, value: number | boolean];

/** A structure of `count` words with fields set; what is not given is zero. */
export function compose(count: number, fields: readonly FieldValue[]): Int32Array {
  const words = new Int32Array(count);
  for (const [field, value] of fields) {
    put(words, field, Number(value));
  }
  return words;
}
