import { loadWords, PHYSICAL_BITS, type WordMemory } from "../../memory/index.js";
import { ACCESS_READ, type PageWalker, WALK_OK } from "../../translation/index.js";
import type { LookupFeatures } from "./features.js";
import type { SteView } from "./ste-view.js";
import { aligned } from "./stream-table.js";

/** Results of `ContextTable.fetch`. */
export const CONTEXT_FOUND = 0;
/** The level 1 descriptor leads nowhere: C_BAD_SUBSTREAMID, with `reason`. */
export const CONTEXT_BAD_SUBSTREAM = -1;
/** A structure could not be fetched: F_CD_FETCH with the address in fetchHigh and fetchLow. */
export const CONTEXT_FETCH_ABORT = -2;
/** Stage 2 faults on a structure's address: `walkFault`, and the walker's fault* fields. */
export const CONTEXT_STAGE2_FAULT = -3;

/** The CD tables that STEs lead to, linear or two-level (Arm IHI 0070, 5.2 S1Fmt, 5.3). Nothing is cached here. */
export class ContextTable {
  /** Physical address of the structure fetched last. */
  fetchHigh = 0;
  fetchLow = 0;
  /** WALK_* of a stage-2 fault. */
  walkFault = WALK_OK;
  /** Why there is no such substream, in words. */
  reason = "";

  constructor(
    private readonly memory: WordMemory,
    private readonly features: LookupFeatures,
    private readonly walker: PageWalker,
  ) {}

  /**
   * Reads a CD, through stage 2 where there is one (5.4.1).
   *
   * @param ste of a stream whose stage 1 translates
   * @param index the CD's, below 2^cdBits
   * @param out sixteen words
   * @returns CONTEXT_*
   */
  fetch(ste: SteView, index: number, out: Int32Array): number {
    const split = ste.cdSplit;
    if (split === 0) {
      // A linear table is aligned to its size: its RES0 bits are taken as zero.
      return this.load(ste, aligned(ste.contextPointer, ste.cdBits + 6) + index * 64, out, 16);
    }
    const levelOne = aligned(ste.contextPointer, Math.max(6, ste.cdBits - split + 3)) + (index >>> split) * 8;
    const code = this.load(ste, levelOne, out, 2);
    if (code !== CONTEXT_FOUND) {
      return code;
    }
    const pointer = (out[1] & 0xff_ffff) * 0x1_0000_0000 + ((out[0] & ~0xfff) >>> 0);
    const bits = ste.stage2 === undefined ? this.features.outputBits : this.features.inputBits;
    if ((out[0] & 1) === 0) {
      this.reason = "L1CD.V is 0";
      return CONTEXT_BAD_SUBSTREAM;
    }
    if (pointer >= 2 ** bits) {
      this.reason = `L1CD.L2Ptr is beyond ${bits} bits`;
      return CONTEXT_BAD_SUBSTREAM;
    }
    return this.load(ste, aligned(pointer, split + 6) + (index & ((1 << split) - 1)) * 64, out, 16);
  }

  private load(ste: SteView, address: number, out: Int32Array, count: number): number {
    let physical = address;
    let bits = this.features.outputBits;
    if (ste.stage2 !== undefined) {
      // An implicit data read, for the purposes of stage 2.
      this.walkFault = this.walker.walkStage2(ste.stage2, Math.floor(address / 0x1_0000_0000), address | 0, ACCESS_READ);
      if (this.walkFault !== WALK_OK) {
        return CONTEXT_STAGE2_FAULT;
      }
      physical = this.walker.outHigh * 0x1_0000_0000 + (this.walker.outLow >>> 0);
      // Held against S2PS by the walk.
      bits = PHYSICAL_BITS;
    }
    this.fetchHigh = Math.floor(physical / 0x1_0000_0000);
    this.fetchLow = physical | 0;
    return loadWords(this.memory, physical, bits, out, count) ? CONTEXT_FOUND : CONTEXT_FETCH_ABORT;
  }
}
