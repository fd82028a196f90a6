import type { WordMemory } from "../../memory/index.js";
import { MOST_PASID_BITS, PASID_ENTRY_WORDS, PASID_TABLE_ENTRIES } from "../spec/index.js";
import type { ContextView } from "./context-entry.js";
import type { VtdFeatures } from "./features.js";
import { PASID_NOT_PRESENT, PasidView } from "./pasid-entry.js";
import { StructureReader, type RootPointer } from "./structures.js";

/**
 * A guest's remapping structures for who follows them rather than translates: nothing is cached, and entries are
 * read until two readings agree, since the guest may write them meanwhile; after a few tries the last one counts,
 * as the guest's invalidation follows. The work is bounded by the scope asked for.
 */
export class GuestTables {
  /** PASID entries and directory entries read so far: the work done. */
  entriesRead = 0;
  private readonly reader: StructureReader;
  private readonly previous = new Int32Array(PASID_ENTRY_WORDS);
  private readonly view = new PasidView();

  /** @param coherent for `classifyPasidEntry` */
  constructor(
    memory: WordMemory,
    readonly features: VtdFeatures,
    coherent = false,
  ) {
    this.reader = new StructureReader(memory, features, coherent);
  }

  /**
   * Reads a function's context entry; the mode is legacy or scalable.
   *
   * @returns 0 or a fault reason, as in `out.reason`
   */
  readContext(pointer: RootPointer, requesterId: number, out: ContextView): number {
    let reason = this.reader.readContext(pointer, requesterId, out);
    for (let tries = 0; tries < TRIES; tries++) {
      this.previous.set(this.reader.lastWords);
      reason = this.reader.readContext(pointer, requesterId, out);
      if (this.agrees()) {
        break;
      }
    }
    return reason;
  }

  /**
   * How many PASIDs a function can have: below the context's directory limit and the unit's PASID width.
   */
  pasidCount(context: ContextView): number {
    return Math.min(context.pasidLimit, 2 ** Math.min(MOST_PASID_BITS, this.features.pasidBits));
  }

  /**
   * Reads the entry of one PASID of a scalable-mode context that is in order.
   *
   * @returns PASID_*, as in `out.kind`; PASID_NOT_PRESENT for one beyond `pasidCount`
   */
  readPasid(context: ContextView, pasid: number, out: PasidView): number {
    if (pasid >= this.pasidCount(context)) {
      out.kind = PASID_NOT_PRESENT;
      return out.kind;
    }
    this.entriesRead++;
    const table = this.reader.readDirectory(context, pasid >>> 6, out);
    return table < 0 ? out.kind : this.readEntry(table, pasid, out);
  }

  /** The words of the entry that was read last: sixteen of a PASID entry, four or eight of a context entry. */
  get entryWords(): Int32Array {
    return this.reader.lastWords;
  }

  /**
   * Reads the directory entry of 64 PASIDs.
   *
   * @param block PASID bits 19:6
   * @returns their PASID table's base in bytes, for `readPasidOf`; -1 where there is none
   */
  readTable(context: ContextView, block: number): number {
    this.entriesRead++;
    return this.reader.readDirectory(context, block, this.view);
  }

  /**
   * Reads the entry of one PASID of a table that `readTable` has found, as the last of them.
   *
   * @returns PASID_*, as in `out.kind`
   */
  readPasidOf(table: number, pasid: number, out: PasidView): number {
    this.entriesRead++;
    return this.readEntry(table, pasid, out);
  }

  private readEntry(table: number, pasid: number, out: PasidView): number {
    const reader = this.reader;
    const index = pasid % PASID_TABLE_ENTRIES;
    let loaded = reader.loadEntry(table, index);
    for (let tries = 0; loaded && (reader.lastWords[0] & 1) !== 0 && tries < TRIES; tries++) {
      this.previous.set(reader.lastWords);
      loaded = reader.loadEntry(table, index);
      if (this.agrees()) {
        break;
      }
    }
    return reader.judgeEntry(loaded, out);
  }

  /** Whether the last two readings are the same. */
  private agrees(): boolean {
    const words = this.reader.lastWords;
    const previous = this.previous;
    let differences = 0;
    for (let i = 0; i < PASID_ENTRY_WORDS; i++) {
      differences |= words[i] ^ previous[i];
    }
    return differences === 0;
  }
}

/** Readings after the first, at most. */
const TRIES = 3;
