import { MEMORY_ABORT, MEMORY_CHANGED, MEMORY_OK, type WordMemory } from "../../../../memory/index.js";
import { highWord, lowWord, toNumber } from "../../../../support/index.js";
import { CD_OK, CdView, CONTEXT_FOUND, ContextTable, decodeCd, decodeSte, type LookupFeatures, STE_ILLEGAL, SteView } from "../../../../smmuv3/lookup/index.js";
import { CD, CD_WORDS, CLASS_IN, EVENT, EVT, get, getAddress, STE } from "../../../../smmuv3/spec/index.js";
import { levelShift, PageWalker, type StageTables } from "../../../../translation/index.js";

/** Dirty bit modifier: bit 51 of a leaf descriptor, in its high word (DDI 0487 D8.3.2, HTTU). */
const DIRTY_BIT_MODIFIER = 1 << 19;
/** AP[2] of stage 1 (set: read-only), S2AP[1] of stage 2 (set: writable). */
const WRITE_BIT = 1 << 7;

/** Walks of one update that begin again because another has changed the descriptor meanwhile. */
const MOST_RESTARTS = 16;

/**
 * The hardware update of the dirty state (Arm IHI 0070 3.13, IDR0.HTTU = 2): a write to a page that is
 * writable but clean makes its descriptor dirty instead of faulting. It is done for the tables that a host's
 * kernel makes: stage 2 (STE.S2HD), and stage 1 without a stage 2 (CD.HD, the lower range).
 */
export class DirtyState {
  private readonly ste = new SteView();
  private readonly cd = new CdView();
  private readonly words = new Int32Array(CD_WORDS);
  private readonly contexts: ContextTable;

  constructor(
    private readonly memory: WordMemory,
    private readonly features: LookupFeatures,
  ) {
    this.contexts = new ContextTable(memory, features, new PageWalker(memory));
  }

  /**
   * Makes the page dirty whose write ended with the permission fault in `event`.
   *
   * @param entry the stream's STE
   * @returns whether a descriptor has been changed, so that the transaction is worth another try
   */
  update(event: Int32Array, entry: Int32Array): boolean {
    if (get(event, EVT.NUMBER) !== EVENT.F_PERMISSION || get(event, EVT.RNW) !== 0 || get(event, EVT.CLASS) !== CLASS_IN) {
      return false;
    }
    if (decodeSte(entry, this.features, this.ste) === STE_ILLEGAL) {
      return false;
    }
    if (get(event, EVT.S2) !== 0) {
      const tables = this.ste.stage2;
      return tables !== undefined && get(entry, STE.S2HD) !== 0 && this.makeDirty(tables, getAddress(event, EVT.IPA), WRITE_BIT);
    }
    if (this.ste.stage2 !== undefined) {
      return false;
    }
    const { words } = this;
    const found = this.contexts.fetch(this.ste, get(event, EVT.SSV) !== 0 ? get(event, EVT.SSID) : 0, words) === CONTEXT_FOUND;
    if (!found || get(words, CD.HD) === 0 || decodeCd(words, this.features, this.cd) !== CD_OK) {
      return false;
    }
    const tables = this.cd.lower;
    const high = event[EVT.INPUT_ADDR.word + 1];
    return tables !== undefined && high >>> 16 === 0 && this.makeDirty(tables, toNumber(high, event[EVT.INPUT_ADDR.word]), 0);
  }

  /**
   * Walks to the leaf of an address and sets its write bit to `dirty`, if it may be modified and is clean: in one step
   * with its being what was read (DDI 0487 D8.5.1).
   */
  private makeDirty(tables: StageTables, address: number, dirty: number): boolean {
    for (let tries = 0; tries < MOST_RESTARTS; tries++) {
      const code = this.tryDirty(tables, address, dirty);
      if (code !== MEMORY_CHANGED) {
        return code === MEMORY_OK;
      }
    }
    return false;
  }

  /** Returns MEMORY_OK where it is done, MEMORY_CHANGED where another has changed the leaf, and anything else for a leaf that may not be. */
  private tryDirty(tables: StageTables, address: number, dirty: number): number {
    const { memory } = this;
    const stride = tables.granuleBits - 3;
    let table = toNumber(tables.baseHigh, tables.baseLow);
    for (let level = tables.startLevel; level <= 3; level++) {
      const shift = levelShift(tables.granuleBits, level);
      const indexBits = level === tables.startLevel ? tables.inputBits - shift : stride;
      const slot = table + (Math.floor(address / 2 ** shift) % 2 ** indexBits) * 8;
      if (memory.load64(highWord(slot), lowWord(slot)) !== MEMORY_OK || (memory.loadedLow & 1) === 0) {
        return MEMORY_ABORT;
      }
      const low = memory.loadedLow;
      const high = memory.loadedHigh;
      if (level < 3 && (low & 2) !== 0) {
        table = toNumber(high & 0xffff, low & -(2 ** tables.granuleBits));
        continue;
      }
      if ((high & DIRTY_BIT_MODIFIER) === 0 || (low & WRITE_BIT) === dirty) {
        return MEMORY_ABORT;
      }
      return memory.compareExchange64(highWord(slot), lowWord(slot), high, low, high, (low & ~WRITE_BIT) | dirty);
    }
    return MEMORY_ABORT;
  }
}
