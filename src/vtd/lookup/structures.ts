import { loadWords, type WordMemory } from "../../memory/index.js";
import { FAULT, TTM_SCALABLE, ROOT_ENTRY_BYTES } from "../spec/index.js";
import { type ContextView, decodeContext, decodeRoot, decodeScalableContext, RootView } from "./context-entry.js";
import type { VtdFeatures } from "./features.js";
import { classifyPasidEntry, decodeDirectory, DirectoryView, PASID_INVALID, PASID_NOT_PRESENT, type PasidView } from "./pasid-entry.js";

/** Where the remapping structures begin: what GCMD.SRTP took over from RTADDR. */
export interface RootPointer {
  /** RTADDR.RTA in bytes. */
  rootTable: number;
  /** RTADDR.TTM: TTM_*. */
  mode: number;
}

/** Reads the remapping structures in memory (Intel VT-d 5.10, 3.4). Nothing is cached here. */
export class StructureReader {
  private readonly words = new Int32Array(16);
  private readonly root = new RootView();
  private readonly directoryView = new DirectoryView();

  /**
   * @param coherent for `classifyPasidEntry`
   */
  constructor(
    private readonly memory: WordMemory,
    readonly features: VtdFeatures,
    private readonly coherent = false,
  ) {}

  /**
   * Reads a requester's root and context entry; the mode is legacy or scalable.
   *
   * @returns 0 or a fault reason, as in `out.reason`
   */
  readContext(pointer: RootPointer, requesterId: number, out: ContextView): number {
    const scalable = pointer.mode === TTM_SCALABLE;
    out.scalable = scalable;
    out.faultsDisabled = false;
    const devfn = requesterId & 0xff;
    // 11.4.5: bits of RTA from the host's width on are not implemented.
    const rootTable = pointer.rootTable % 2 ** Math.min(52, this.features.hostAddressBits);
    if (!this.load(rootTable + (requesterId >>> 8) * ROOT_ENTRY_BYTES, 4)) {
      return (out.reason = scalable ? FAULT.SM_ROOT_ACCESS : FAULT.ROOT_ACCESS);
    }
    const reason = decodeRoot(this.words, this.features, scalable, devfn, this.root);
    if (reason !== 0) {
      return (out.reason = reason);
    }
    if (!scalable) {
      return this.load(this.root.contextTable + devfn * 16, 4)
        ? decodeContext(this.words, this.features, out)
        : (out.reason = FAULT.CONTEXT_ACCESS);
    }
    return this.load(this.root.contextTable + (devfn & 0x7f) * 32, 8)
      ? decodeScalableContext(this.words, this.features, out)
      : (out.reason = FAULT.SM_CONTEXT_ACCESS);
  }

  /**
   * Reads the PASID directory entry and the PASID entry of a scalable-mode context that is in order.
   *
   * @param pasid below the context's limit
   * @returns PASID_*, as in `out.kind`; where it is not positive `out.reason` tells why
   */
  readPasid(context: ContextView, pasid: number, out: PasidView): number {
    const table = this.readDirectory(context, pasid >>> 6, out);
    return table < 0 ? out.kind : this.readEntry(table, pasid & 0x3f, out);
  }

  /**
   * Reads a PASID directory entry.
   *
   * @param index PASID bits 19:6
   * @returns the PASID table's base in bytes; -1 where there is none, as `out` then says
   */
  readDirectory(context: ContextView, index: number, out: PasidView): number {
    const directory = this.directoryView;
    if (!this.load(context.directory + index * 8, 2)) {
      return this.none(out, FAULT.SM_DIRECTORY_ACCESS, false);
    }
    const reason = decodeDirectory(this.words, this.features, directory);
    return reason === 0 ? directory.table : this.none(out, reason, directory.faultsDisabled);
  }

  /**
   * Reads a PASID entry of the table that `readDirectory` found last.
   *
   * @param index PASID bits 5:0
   * @returns PASID_*, as in `out.kind`
   */
  readEntry(table: number, index: number, out: PasidView): number {
    return this.judgeEntry(this.loadEntry(table, index), out);
  }

  /** The first half of `readEntry`: the words alone, into `lastWords`; false where they are not there. */
  loadEntry(table: number, index: number): boolean {
    return this.load(table + index * 64, 16);
  }

  /** The second half: what the words mean that were loaded. */
  judgeEntry(loaded: boolean, out: PasidView): number {
    if (!loaded) {
      this.none(out, FAULT.SM_PASID_ACCESS, false);
      return out.kind;
    }
    classifyPasidEntry(this.words, this.features, out, 0, this.coherent);
    // 9.5: FPD of the directory entry holds for all entries behind it.
    out.faultsDisabled ||= this.directoryView.faultsDisabled;
    return out.kind;
  }

  /** The words that were read last; of a PASID entry all sixteen. */
  get lastWords(): Int32Array {
    return this.words;
  }

  private none(out: PasidView, reason: number, faultsDisabled: boolean): -1 {
    out.kind = reason === FAULT.SM_DIRECTORY_NOT_PRESENT ? PASID_NOT_PRESENT : PASID_INVALID;
    out.reason = reason;
    out.faultsDisabled = faultsDisabled;
    return -1;
  }

  /** Loads words into `words`; false where nothing answers, or the address is beyond the host's width. */
  private load(address: number, count: number): boolean {
    return loadWords(this.memory, address, this.features.hostAddressBits, this.words, count);
  }
}
