import type { WordMemory } from "../../memory/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE, PageWalker, PERM_PRIVILEGED_SHIFT, Translator, WALK_OK, WALK_PERMISSION_FAULT } from "../../translation/index.js";
import { FAULT, FAULT_RECORD_WORDS, TTM_ABORT_DMA, TTM_LEGACY, TTM_SCALABLE } from "../spec/index.js";
import { BLOCKED, BYPASSED, ATS_UNSUPPORTED, INTERRUPT, KIND_TRANSLATED, KIND_TRANSLATION_REQUEST, KIND_UNTRANSLATED, NO_PASID, TRANSLATED } from "./answers.js";
import { completionOf, isQualified, isRecordedOfTranslationRequest, pasidReasonOf } from "./conditions.js";
import type { ContextView } from "./context-entry.js";
import { FaultRecords } from "./fault-records.js";
import { highBeyond, isBeyond, type VtdFeatures } from "./features.js";
import { PASID_NESTED, PASID_PASS_THROUGH, type PasidView } from "./pasid-entry.js";
import { CachedContext, CachedPasid } from "./structure-caches.js";
import { StructureReader, type RootPointer } from "./structures.js";
import { tagOf, UnitCaches, type UnitCachesOptions } from "./unit-caches.js";
import { legacyReasonOf, scalableReasonOf } from "./walk-reasons.js";

export interface VtdTranslatorOptions extends UnitCachesOptions {
  /**
   * Walks are coherent whatever ECAP.SMPWCS and PWSNP say, as an emulated unit's are: accessed and dirty flags are
   * set. Default false: as hardware, a flag that has to be set by a walk that does not snoop is a fault.
   */
  readonly coherentWalks?: boolean;
  /** Walks in place of one of its own, over the same memory. */
  readonly walker?: PageWalker;
}

/**
 * What a VT-d remapping unit does with one request (Intel VT-d 5.10, 3.4 to 3.9, 4.2, 7.1.3): finds the context
 * entry, the PASID entry and the translation, or the fault to record. It knows no registers, queues or devices:
 * the owner sets the fields below from its registers, forwards invalidations to the invalidate* methods and
 * records `record` where `hasFault` says so. The vIOMMU's software path gives it guest-physical memory, the
 * simulated hardware host-physical memory.
 */
export class VtdTranslator extends UnitCaches implements RootPointer {
  /** GSTS.TES. */
  enabled = false;
  /** What SRTP took over: RTADDR.RTA (bytes) and RTADDR.TTM (TTM_*). */
  rootTable = 0;
  mode = TTM_LEGACY;

  /** The address of exactly the input address, after an answer that is not negative. */
  outHigh = 0;
  outLow = 0;
  /** log2 bytes of the aligned region around the input address for which the answer holds. */
  outPageBits = 0;
  /** ACCESS_READ, _WRITE, _EXECUTE granted at the request's privilege; of a Translation Request those of the completion. */
  outPermissions = 0;
  /** Of a Translation Request: U, the range is accessed by untranslated requests only. */
  outUntranslatedOnly = false;

  /** Which entry decided: its domain id (-1 where none was found), its PASID (-1 in legacy mode), PASID_* (0 in legacy mode). */
  domain = -1;
  entryPasid = NO_PASID;
  entryKind = 0;

  /** Why a request was blocked, or a Translation Request got no permission: a FAULT reason; else 0. */
  reason = 0;
  /** The fault is to be recorded: it is not recoverable, and no entry on its way has FPD where it is qualified. */
  hasFault = false;
  /** The fault record, F set, where `hasFault`; valid until the next call. */
  readonly record = new Int32Array(FAULT_RECORD_WORDS);
  /** The stage whose tables the fault is about; 0 for one of another kind. Of a nested entry 1 is the guest's. */
  faultStage = 0;
  /** Of a nested entry: the second stage's fault was met on the way to the first stage's tables (SFS.1's note, SFS.6 to SFS.8). */
  faultOnTables = false;

  private readonly walker: PageWalker;
  private readonly translator: Translator;
  private readonly reader: StructureReader;
  private readonly faults: FaultRecords;
  private spareContext: CachedContext | undefined;

  /** The request at hand. */
  private requesterId = 0;
  private pasid = NO_PASID;
  private high = 0;
  private low = 0;
  private access = 0;
  private kind = KIND_UNTRANSLATED;
  private faultsDisabled = false;

  constructor(
    memory: WordMemory,
    features: VtdFeatures,
    options: VtdTranslatorOptions = {},
  ) {
    super(features, options);
    this.faults = new FaultRecords(this.record, features);
    this.walker = options.walker ?? new PageWalker(memory);
    this.translator = new Translator(this.walker, this.tlb);
    this.reader = new StructureReader(memory, features, options.coherentWalks === true);
  }

  /** Translations that took a walk of page tables. */
  get walks(): number {
    return this.translator.walks;
  }

  /**
   * Translates one request.
   *
   * @param requesterId source id, 16 bits
   * @param pasid the PASID prefix's, or NO_PASID; a Translated request has none (ECAP.PTRS is clear)
   * @param high,low the input address: 64 bits as two signed words
   * @param access ACCESS_*: ACCESS_EXECUTE with ACCESS_READ is an instruction fetch, 0 a zero-length read. Without a
   *   PASID, execution and privilege are not asked for (9.4).
   * @param kind KIND_*
   * @returns TRANSLATED, BYPASSED, INTERRUPT, or a negative answer; see `hasFault` in every case
   */
  translate(requesterId: number, pasid: number, high: number, low: number, access: number, kind = KIND_UNTRANSLATED): number {
    this.begin(requesterId, kind === KIND_TRANSLATED ? NO_PASID : pasid, high, low, access, kind);
    if (!this.enabled) {
      return this.translateDisabled();
    }
    if (this.pasid < 0 && high === 0 && low >>> 20 === 0xfee && kind === KIND_UNTRANSLATED) {
      return this.interruptRange();
    }
    const mode = this.mode;
    if (mode !== TTM_SCALABLE ? mode !== TTM_LEGACY || this.pasid >= 0 : !this.features.scalableMode) {
      return this.refuseMode();
    }
    const scalable = mode === TTM_SCALABLE;
    const cached = this.findContext(scalable);
    if (cached === undefined) {
      return this.block(this.reason);
    }
    const context = cached.view;
    this.faultsDisabled = context.faultsDisabled;
    if (kind !== KIND_UNTRANSLATED) {
      // LCT.5, SCT.5.
      if (!context.deviceTlb) {
        return this.block(scalable ? FAULT.SM_DTE : FAULT.REQUEST_BLOCKED);
      }
      if (kind === KIND_TRANSLATED) {
        return this.passTranslated(scalable);
      }
      if (this.pasid < 0 && high === 0 && low >>> 20 === 0xfee) {
        return this.completeInterruptRange();
      }
    }
    return scalable ? this.translateScalable(context) : this.translateLegacy(context, cached.inputMask);
  }

  private begin(requesterId: number, pasid: number, high: number, low: number, access: number, kind: number): void {
    this.hasFault = false;
    this.reason = 0;
    this.faultsDisabled = false;
    this.faultStage = 0;
    this.faultOnTables = false;
    this.domain = -1;
    this.entryPasid = NO_PASID;
    this.entryKind = 0;
    this.outUntranslatedOnly = false;
    this.requesterId = requesterId;
    this.pasid = pasid;
    this.high = high;
    this.low = low;
    this.kind = kind;
    let asked = pasid < 0 ? access & (ACCESS_READ | ACCESS_WRITE) : access;
    if ((asked & (ACCESS_READ | ACCESS_WRITE)) === 0 && !this.features.zeroLengthReads) {
      // 3.14: without CAP.ZLR a zero-length read is a read.
      asked |= ACCESS_READ;
    }
    this.access = asked;
  }

  /** 4.2.1: while remapping is disabled requests with an address type are unsupported. */
  private translateDisabled(): number {
    if (this.kind === KIND_UNTRANSLATED) {
      return this.bypass();
    }
    return this.kind === KIND_TRANSLATION_REQUEST ? ATS_UNSUPPORTED : BLOCKED;
  }

  /** An untranslated request without PASID to the interrupt range (3.15). */
  private interruptRange(): number {
    if (this.access === 0) {
      this.bypass();
      this.outPageBits = 12;
      return BYPASSED;
    }
    if ((this.access & ACCESS_WRITE) === 0) {
      return this.block(FAULT.IR_ILLEGAL_REQUEST);
    }
    this.bypass();
    this.outPageBits = 12;
    this.outPermissions = ACCESS_WRITE;
    return INTERRUPT;
  }

  /** A Translation Request for the interrupt range (S.1 and S.2 of table 30): write it untranslated. */
  private completeInterruptRange(): number {
    const write = (this.access & ACCESS_WRITE) !== 0;
    this.deny();
    this.outPermissions = write ? ACCESS_WRITE : 0;
    this.outUntranslatedOnly = write;
    return TRANSLATED;
  }

  /** RTA.1.1 to RTA.4. */
  private refuseMode(): number {
    if (this.mode === TTM_LEGACY) {
      return this.block(FAULT.SM_TTM_WITH_PASID);
    }
    return this.block(this.mode === TTM_ABORT_DMA && this.features.abortDma ? FAULT.SM_ABORT_DMA : FAULT.SM_ROOT_TABLE_ADDRESS);
  }

  /** The requester's context entry; undefined with `reason` where there is none. One of another mode does not count. */
  private findContext(scalable: boolean): CachedContext | undefined {
    const cached = this.contexts.find(this.requesterId);
    return cached !== undefined && cached.view.scalable === scalable ? cached : this.fetchContext();
  }

  /** Fetches and holds a context entry; undefined with `reason` where there is none. */
  private fetchContext(): CachedContext | undefined {
    const entry = this.spareContext ?? new CachedContext();
    this.spareContext = entry;
    const view = entry.view;
    this.reason = this.reader.readContext(this, this.requesterId, view);
    this.faultsDisabled = view.faultsDisabled;
    if (this.reason !== 0) {
      // 6.2.2: what faults is not cached.
      return undefined;
    }
    entry.inputMask = view.stage2 === undefined ? highBeyond(this.features.hostAddressBits) : highBeyond(view.stage2.inputBits);
    this.spareContext = undefined;
    this.contexts.hold(this.requesterId, entry);
    return entry;
  }

  /** Fetches and holds a PASID entry; undefined with `reason` where there is none. */
  private fetchPasid(context: ContextView, pasid: number): CachedPasid | undefined {
    const entry = new CachedPasid(this.requesterId, pasid);
    const view = entry.view;
    const kind = this.reader.readPasid(context, pasid, view);
    if (kind <= 0) {
      this.reason = view.reason;
      this.faultsDisabled ||= view.faultsDisabled;
      return undefined;
    }
    entry.tag = tagOf(pasid, view);
    const tables = view.stage1 ?? view.stage2;
    entry.inputMask = tables === undefined ? 0 : highBeyond(view.stage1 === undefined ? tables.inputBits : tables.inputBits - 1);
    this.pasids.hold(entry);
    return entry;
  }

  private translateLegacy(context: ContextView, inputMask: number): number {
    this.domain = context.domain;
    // LGN.1.1, LGN.1.3; before the IOTLB, which does not tell such addresses from others.
    if ((this.high & inputMask) !== 0) {
      return this.block(FAULT.ADDRESS_BEYOND_MGAW);
    }
    const tables = context.stage2;
    if (tables === undefined) {
      return this.bypass();
    }
    const translator = this.translator;
    if (this.kind === KIND_TRANSLATION_REQUEST) {
      return this.completeRequest(context.domain, undefined, tables, this.access);
    }
    const code = translator.translate(context.domain, 0, undefined, tables, this.high, this.low, this.access);
    return code === WALK_OK ? this.finish(this.access) : this.blockWalk(legacyReasonOf(code, this.walker, tables, this.access), 2);
  }

  private translateScalable(context: ContextView): number {
    let pasid = this.pasid;
    let access = this.access;
    if (pasid < 0) {
      pasid = context.ridPasid;
      if (context.ridPrivileged) {
        access |= ACCESS_PRIVILEGED;
      }
    } else {
      const reason = pasidReasonOf(context, pasid, this.features);
      if (reason !== 0) {
        return this.block(reason);
      }
    }
    const entry = this.pasids.find(this.requesterId, pasid) ?? this.fetchPasid(context, pasid);
    if (entry === undefined) {
      return this.block(this.reason);
    }
    const view = entry.view;
    this.domain = view.domain;
    this.entryPasid = pasid;
    this.entryKind = view.kind;
    this.faultsDisabled ||= view.faultsDisabled;
    if ((access & (ACCESS_EXECUTE | ACCESS_PRIVILEGED)) !== 0) {
      // SPT.5, SPT.6.
      if ((access & ACCESS_EXECUTE) !== 0 && !view.execute) {
        return this.block(FAULT.SM_ERE);
      }
      if ((access & ACCESS_PRIVILEGED) !== 0 && !view.supervisor) {
        return this.block(FAULT.SM_SRE);
      }
    }
    const high = this.high;
    const beyond = high & entry.inputMask;
    if (beyond !== 0 && (view.stage1 === undefined || beyond !== entry.inputMask)) {
      // SGN.1, SGN.5; before the IOTLB.
      return this.block(view.stage1 === undefined ? FAULT.SM_ADDRESS_BEYOND_MGAW : FAULT.SM_NOT_CANONICAL);
    }
    if (view.kind === PASID_PASS_THROUGH) {
      return this.passThrough();
    }
    if (this.kind === KIND_TRANSLATION_REQUEST) {
      return this.completeRequest(view.domain, entry, undefined, access);
    }
    const code = this.translator.translate(view.domain, entry.tag, view.stage1, view.stage2, high, this.low, access);
    return code === WALK_OK ? this.finish(access) : this.blockWalk(scalableReasonOf(code, this.walker, view), this.walker.faultStage);
  }

  /** 3.9; SGN.4.2, SGN.8.1. */
  private passThrough(): number {
    if (isBeyond(this.features.hostAddressBits, this.high, this.low)) {
      return this.block(FAULT.SM_ADDRESS_BEYOND_HAW);
    }
    if (this.high === 0 && this.low >>> 20 === 0xfee) {
      return this.block(FAULT.SM_INTERRUPT_RANGE);
    }
    this.bypass();
    if (this.kind === KIND_TRANSLATION_REQUEST) {
      // As large as the pages that all units have, but not into the interrupt range.
      this.outPageBits = this.high === 0 && this.low >>> 21 === 0xfee0_0000 >>> 21 ? 20 : 21;
      this.outPermissions = ACCESS_READ | (this.wantsWrite() ? ACCESS_WRITE : 0);
      return TRANSLATED;
    }
    return BYPASSED;
  }

  /** 4.2.5: a Translated request bypasses translation; LGN.1.2, LGN.4, SGN.4.1, SGN.8.3. */
  private passTranslated(scalable: boolean): number {
    if (isBeyond(this.features.hostAddressBits, this.high, this.low)) {
      return this.block(scalable ? FAULT.SM_ADDRESS_BEYOND_HAW : FAULT.ADDRESS_BEYOND_MGAW);
    }
    if (this.high === 0 && this.low >>> 20 === 0xfee) {
      return this.block(scalable ? FAULT.SM_INTERRUPT_RANGE : FAULT.INTERRUPT_RANGE);
    }
    return this.bypass();
  }

  /** Takes over a translation of an untranslated request; LGN.4, SGN.8.1. */
  private finish(access: number): number {
    const translator = this.translator;
    const high = translator.outHigh;
    const low = translator.outLow;
    if (high === 0 && low >>> 20 === 0xfee) {
      return this.block(this.mode === TTM_SCALABLE ? FAULT.SM_INTERRUPT_RANGE : FAULT.INTERRUPT_RANGE);
    }
    this.outHigh = high;
    this.outLow = low;
    const pageBits = translator.outPageBits;
    this.outPageBits = pageBits > 20 ? Math.min(pageBits, bitsBesideInterrupts(high, low)) : pageBits;
    const permissions = translator.outPermissions;
    this.outPermissions = ((access & ACCESS_PRIVILEGED) !== 0 ? permissions >>> PERM_PRIVILEGED_SHIFT : permissions) & 7;
    return TRANSLATED;
  }

  /**
   * Answers a Translation Request with what is permitted (4.2.3). Asking for a write marks the page dirty where it
   * is granted (4.2.3.1), so that a write is tried before a read.
   */
  private completeRequest(
    domain: number,
    entry: CachedPasid | undefined,
    legacy: ContextView["stage2"],
    access: number,
  ): number {
    const view: PasidView | undefined = entry?.view;
    const stage1 = view?.stage1;
    const stage2 = view === undefined ? legacy : view.stage2;
    const tag = entry === undefined ? 0 : entry.tag;
    const privilege = access & ACCESS_PRIVILEGED;
    const write = this.wantsWrite();
    let granted = write ? ACCESS_READ | ACCESS_WRITE : ACCESS_READ;
    let code = this.translator.translate(domain, tag, stage1, stage2, this.high, this.low, granted | privilege);
    if (code === WALK_PERMISSION_FAULT && write) {
      granted = ACCESS_READ;
      code = this.translator.translate(domain, tag, stage1, stage2, this.high, this.low, granted | privilege);
      if (code === WALK_PERMISSION_FAULT) {
        granted = ACCESS_WRITE;
        code = this.translator.translate(domain, tag, stage1, stage2, this.high, this.low, granted | privilege);
      }
    }
    if (code !== WALK_OK) {
      const reason =
        view === undefined ? legacyReasonOf(code, this.walker, legacy!, granted) : scalableReasonOf(code, this.walker, view);
      return this.blockWalk(reason, this.walker.faultStage);
    }
    const translator = this.translator;
    this.outHigh = translator.outHigh;
    this.outLow = translator.outLow;
    this.outPageBits = translator.outPageBits;
    this.outPermissions = granted;
    // SGN.8.2, LGN.4: an output range that overlaps the interrupt range, of which a page holds all or a part.
    const base = this.outLow & (-1 << Math.max(20, this.outPageBits));
    if (this.outHigh === 0 && base === (0xfee0_0000 & (-1 << Math.max(20, this.outPageBits)))) {
      return this.block(view === undefined ? FAULT.INTERRUPT_RANGE : FAULT.SM_INTERRUPT_RANGE);
    }
    return TRANSLATED;
  }

  /** Without ECAP.NWFS the no-write flag is ignored (4.2.3). */
  private wantsWrite(): boolean {
    return (this.access & ACCESS_WRITE) !== 0 || !this.features.noWriteFlag;
  }

  /** Success with R = W = 0: the address means nothing. */
  private deny(): number {
    this.outHigh = 0;
    this.outLow = 0;
    this.outPageBits = 12;
    this.outPermissions = 0;
    return TRANSLATED;
  }

  private bypass(): number {
    this.outHigh = this.high;
    this.outLow = this.low;
    this.outPageBits = this.enabled ? bitsBesideInterrupts(this.high, this.low) : this.features.hostAddressBits;
    this.outPermissions = ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE;
    return BYPASSED;
  }

  /** Ends a request with the fault of a walk. A first-stage entry's address beyond the second stage is the entry's fault. */
  private blockWalk(reason: number, stage: number): number {
    const answer = this.block(reason);
    this.faultStage = reason === FAULT.SM_FS_BEYOND_SECOND_STAGE ? 1 : stage;
    this.faultOnTables = stage === 2 && this.entryKind === PASID_NESTED && this.walker.faultOnTableWalk !== 0;
    return answer;
  }

  /** Ends a request with a fault: the answer by the request's kind, and the record where one is due (7.1.1, 7.1.3). */
  private block(reason: number): number {
    this.reason = reason;
    const asks = this.kind === KIND_TRANSLATION_REQUEST;
    this.hasFault = !(this.faultsDisabled && isQualified(reason)) && (!asks || isRecordedOfTranslationRequest(reason));
    if (this.hasFault) {
      this.faults.fill(reason, this.requesterId, this.pasid, this.kind, this.high, this.low, this.access);
    }
    if (!asks) {
      return BLOCKED;
    }
    const completion = completionOf(reason);
    return completion === TRANSLATED ? this.deny() : completion;
  }
}

/** log2 bytes of the largest aligned region around an address outside the interrupt range that is outside as a whole; at most 32. */
function bitsBesideInterrupts(high: number, low: number): number {
  return high !== 0 ? 32 : 31 - Math.clz32(low ^ 0xfee0_0000);
}
