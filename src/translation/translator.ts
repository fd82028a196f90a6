import type { PageWalker } from "./page-walker.js";
import { NO_ASID, type Tlb } from "./tlb.js";
import { PERM_PRIVILEGED_WRITE, PERM_WRITE, WALK_OK, type Tables } from "./types.js";

/** As constants of this module: an import costs two more loads and a check at each use. */
const ok = WALK_OK;
const noAsid: number = NO_ASID;
const notWrites = ~(PERM_WRITE | PERM_PRIVILEGED_WRITE);

/**
 * A TLB in front of a walker: what a translation unit does with one transaction. Faults come from a walk,
 * never from the TLB, so that the walker's fault* fields describe them.
 */
export class Translator {
  /** Translations that took a walk; the others were hits. */
  walks = 0;

  constructor(
    readonly walker: PageWalker,
    readonly tlb: Tlb,
  ) {}

  /** Output address of exactly the input address; after WALK_OK. */
  get outHigh(): number {
    return this.tlb.outHigh;
  }

  get outLow(): number {
    return this.tlb.outLow;
  }

  /** log2 bytes of the page that holds it. */
  get outPageBits(): number {
    return this.tlb.outPageBits;
  }

  /** PERM_* of the cached translation: without the writes where the page is clean and a write has to mark it first (LoopWalker.outClean). */
  get outPermissions(): number {
    return this.tlb.outPermissions;
  }

  /**
   * Translates an address by stage 1, stage 2 or both; without either it is an error of the caller.
   *
   * @param vmid,asid what tags the translation: VMID and ASID, or domain id and PASID; the second counts only where there is a stage 1
   * @param addressHigh,addressLow IOVA (or IPA for stage 2 alone), of which `selectStage1Range` chose `stage1`
   * @returns WALK_*; after a fault the walker's fields tell more
   */
  translate(
    vmid: number,
    asid: number,
    stage1: Tables | undefined,
    stage2: Tables | undefined,
    addressHigh: number,
    addressLow: number,
    access: number,
  ): number {
    const tlb = this.tlb;
    const context = tlb.contextOf(vmid, stage1 === undefined ? noAsid : asid);
    if (tlb.lookup(context, addressHigh, addressLow, access) === ok) {
      return ok;
    }
    return this.walk(context, stage1, stage2, addressHigh, addressLow, access);
  }

  private walk(
    context: number,
    stage1: Tables | undefined,
    stage2: Tables | undefined,
    addressHigh: number,
    addressLow: number,
    access: number,
  ): number {
    const walker = this.walker;
    let code: number;
    this.walks++;
    if (stage1 === undefined) {
      code = walker.walkStage2(stage2!, addressHigh, addressLow, access);
    } else if (stage2 === undefined) {
      code = walker.walkStage1(stage1, addressHigh, addressLow, access);
    } else {
      code = walker.walkNested(stage1, stage2, addressHigh, addressLow, access);
    }
    if (code !== ok) {
      return code;
    }
    this.tlb.insert(
      context,
      addressHigh,
      addressLow,
      walker.outHigh,
      walker.outLow,
      walker.outPageBits,
      walker.outClean === 0 ? walker.outPermissions : walker.outPermissions & notWrites,
      walker.outGlobal === 1,
      walker.outLeafBits,
    );
    return ok;
  }
}
