import type { WordMemory } from "../../memory/index.js";
import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  PageWalker,
  PERM_EXECUTE,
  PERM_PRIVILEGED_SHIFT,
  PERM_READ,
  PERM_WRITE,
  selectStage1Range,
  Translator,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_TRANSLATION_FAULT,
  type StageTables,
} from "../../translation/index.js";
import {
  EVENT,
  EVENT_WORDS,
  fillBadSubstream,
  fillEvent,
  fillFetchEvent,
  fillStreamDisabled,
  fillTranslationForbidden,
  STE_CONFIG_ABORT,
  STE_EATS_ABORT,
  STE_EATS_S1CHK,
  STE_WORDS,
} from "../spec/index.js";
import { ABORTED, ATS_ABORTED, ATS_UNSUPPORTED, BYPASSED, KIND_ATS_REQUEST, KIND_ATS_TRANSLATED, KIND_TRANSACTION, READ_AS_ZERO, TRANSLATED } from "./answers.js";
import { completedPermissions, overridden } from "./attributes.js";
import { CD_ILLEGAL, CdView, decodeCd } from "./cd-view.js";
import { CachedStream } from "./configuration-cache.js";
import { CONTEXT_BAD_SUBSTREAM, CONTEXT_FOUND, CONTEXT_STAGE2_FAULT, ContextTable } from "./context-table.js";
import { FaultRecords } from "./fault-records.js";
import type { LookupFeatures } from "./features.js";
import { SplitStage } from "./split-stage.js";
import { decodeSte, STE_ILLEGAL, type SteView } from "./ste-view.js";
import { SELECT_BAD_SUBSTREAM, SELECT_BYPASS, SELECT_DISABLED, selectCd } from "./substreams.js";
import { STREAM_FOUND, STREAM_OUT_OF_RANGE, StreamTable } from "./stream-table.js";
import { UnitCaches, type UnitCachesOptions } from "./unit-caches.js";

export interface StreamTranslatorOptions extends UnitCachesOptions {
  /** Walks in place of one of its own, over the same memory. */
  readonly walker?: PageWalker;
}

/**
 * What an SMMUv3 does with one transaction (Arm IHI 0070, 3.3.3 and chapter 15): finds the STE, the CD and
 * the translation, or the event to record. It knows no registers, queues or devices: the owner sets the
 * fields below from its registers, forwards commands to the invalidate* methods and `tlbi`, and writes
 * `event` where `hasEvent` says so. The vSMMU's software path gives it guest-physical memory, the
 * simulated hardware host-physical memory.
 */
export class StreamTranslator extends UnitCaches {
  /** CR0.SMMUEN, CR0.ATSCHK, CR2.RECINVSID, CR2.REC_CFG_ATS (if IDR0.ATSRECERR). */
  enabled = false;
  atsCheck = false;
  recordInvalidSid = false;
  recordAtsErrors = false;
  /** GBPA.ABORT: with SMMUEN = 0 transactions abort, else they bypass. */
  globalAbort = false;
  /** The stream table's place and shape. */
  readonly table: StreamTable;

  /** The address of exactly the input address, after TRANSLATED and BYPASSED. */
  outHigh = 0;
  outLow = 0;
  /** log2 bytes of the aligned region around the input address for which the answer holds. */
  outPageBits = 0;
  /** ACCESS_READ, _WRITE, _EXECUTE granted at the transaction's privilege; of a Translation Request those it asked for. */
  outPermissions = 0;
  /** The record to write to the event queue, where `hasEvent`; valid until the next call. */
  readonly event = new Int32Array(EVENT_WORDS);
  hasEvent = false;
  /** Why a configuration was illegal or missing, in words, for the log; else empty. */
  reason = "";

  private readonly walker: PageWalker;
  private readonly translator: Translator;
  private readonly words = new Int32Array(STE_WORDS);
  private readonly contextTable: ContextTable;
  private readonly faults: FaultRecords;
  private readonly splitStage: SplitStage;

  /** The transaction at hand. */
  private sid = 0;
  private ssid = -1;
  private high = 0;
  private low = 0;
  private kind = KIND_TRANSACTION;
  private incoming = 0;
  /** After the STE's overrides. */
  private access = 0;
  private skipsStage1 = false;
  /** Where `findCd` ended without a CD. */
  private answer = ABORTED;

  constructor(
    memory: WordMemory,
    features: LookupFeatures,
    options: StreamTranslatorOptions = {},
  ) {
    super(features, options);
    this.table = new StreamTable(memory, features);
    this.walker = options.walker ?? new PageWalker(memory);
    this.translator = new Translator(this.walker, this.tlb);
    this.contextTable = new ContextTable(memory, features, this.walker);
    this.faults = new FaultRecords(this.event, this.walker);
    this.splitStage = new SplitStage(memory);
  }

  /**
   * Translates one transaction.
   *
   * @param sid StreamID, unsigned 32 bits
   * @param ssid SubstreamID, or -1 without one
   * @param high,low the input address: 64 bits as two signed words
   * @param access ACCESS_*: ACCESS_EXECUTE with ACCESS_READ is an instruction fetch
   * @param kind KIND_*
   * @returns TRANSLATED, BYPASSED, or a negative answer; see `hasEvent` in every case
   */
  translate(sid: number, ssid: number, high: number, low: number, access: number, kind = KIND_TRANSACTION): number {
    this.hasEvent = false;
    this.reason = "";
    this.sid = sid;
    // 3.9.1.3: without IDR3.PASIDTT a Translated transaction has SSV = 0.
    this.ssid = kind === KIND_ATS_TRANSLATED ? -1 : ssid;
    this.high = high;
    this.low = low;
    this.kind = kind;
    // 13.7: ATS traffic without a PASID is data, unprivileged.
    this.incoming = kind !== KIND_TRANSACTION && this.ssid < 0 ? access & (ACCESS_READ | ACCESS_WRITE) : access;
    // Step 1: SMMUEN. 6.3.9.6, 3.9.1.2, 3.9.1.3.
    if (!this.enabled) {
      return this.translateDisabled();
    }
    if (kind === KIND_ATS_TRANSLATED && !this.atsCheck) {
      return this.bypass();
    }
    // Step 2: the STE.
    const stream = this.cache.find(sid) ?? this.fetchStream(sid);
    if (stream === undefined) {
      return this.answer;
    }
    const ste = stream.ste;
    if (ste.kind <= STE_CONFIG_ABORT) {
      return this.refuseStream(ste);
    }
    // Step 3: ATS. 3.9.1.2, 3.9.1.3, STE.EATS.
    if (kind !== KIND_TRANSACTION) {
      const eats = ste.eats === STE_EATS_S1CHK && !this.atsCheck ? STE_EATS_ABORT : ste.eats;
      if (eats === STE_EATS_ABORT) {
        return this.refuseAts();
      }
      if (kind === KIND_ATS_TRANSLATED) {
        if (eats !== STE_EATS_S1CHK) {
          return this.bypass();
        }
        // 13.6.3: the address of a split-stage stream's Translated transaction is an IPA.
        this.access = overridden(this.incoming, ste);
        return this.translateStage2(ste);
      }
    }
    // Step 4: the CD, where stage 1 translates.
    const cd = this.findCd(stream, ste);
    if (cd === undefined && !this.skipsStage1) {
      return this.answer;
    }
    // Step 5: the STE's overrides. 13.4; INSTCFG is for reads only (13.1.2).
    this.access = overridden(this.incoming, ste);
    return cd === undefined ? this.translateStage2(ste) : this.translateStage1(ste, cd);
  }

  /** Translations so far that took a walk of the tables, since the TLB had no answer. */
  get walks(): number {
    return this.translator.walks;
  }

  private translateDisabled(): number {
    if (this.kind !== KIND_TRANSACTION) {
      return this.refuseAts();
    }
    // 6.3.14 GBPA.ABORT; 3.4: an address beyond the OAS aborts without an event.
    return this.globalAbort || this.beyond(this.features.outputBits) ? ABORTED : this.bypass();
  }

  /** Fetches and holds an STE; leaves `answer` where there is none. */
  private fetchStream(sid: number): CachedStream | undefined {
    const code = this.table.fetch(sid, this.words);
    if (code === STREAM_FOUND) {
      const stream = new CachedStream();
      decodeSte(this.words, this.features, stream.ste);
      this.cache.hold(sid, stream);
      return stream;
    }
    if (code === STREAM_OUT_OF_RANGE) {
      this.reason = "StreamID is out of the stream table's range";
      fillEvent(this.event, EVENT.C_BAD_STREAMID, sid, this.ssid);
      // 7.3.3, 3.9.1.2, 3.9.1.3: RECINVSID does not matter for Translated transactions.
      this.answer = this.configurationError(this.recordInvalidSid || this.kind === KIND_ATS_TRANSLATED);
    } else {
      this.reason = "the STE could not be fetched";
      fillFetchEvent(this.event, EVENT.F_STE_FETCH, sid, this.ssid, this.table.fetchHigh, this.table.fetchLow);
      this.answer = this.configurationError(true);
    }
    return undefined;
  }

  /** STE illegal, or Config = 0b0xx: an abort without an event (5.2 STE.Config). */
  private refuseStream(ste: SteView): number {
    if (ste.kind === STE_ILLEGAL) {
      this.reason = ste.reason;
      fillEvent(this.event, EVENT.C_BAD_STE, this.sid, this.ssid);
      return this.configurationError(true);
    }
    return this.kind === KIND_ATS_REQUEST ? ATS_UNSUPPORTED : ABORTED;
  }

  /** ATS is off for the stream, or the SMMU: 3.9.1.2 and 3.9.1.3. An SMMU without ATS has no such events. */
  private refuseAts(): number {
    this.hasEvent = this.features.ats;
    if (this.kind === KIND_ATS_REQUEST) {
      this.faults.atsRequest(this.sid, this.ssid, this.high, this.low, this.incoming);
      return ATS_UNSUPPORTED;
    }
    fillTranslationForbidden(this.event, this.sid, this.high, this.low, (this.incoming & ACCESS_WRITE) === 0);
    return ABORTED;
  }

  /** The record is filled: whether it is written depends on who asks (3.9.1.2, 3.9.1.3). */
  private configurationError(recordable: boolean): number {
    this.hasEvent = recordable && (this.kind === KIND_TRANSACTION || (this.recordAtsErrors && this.features.atsErrors));
    return this.kind === KIND_ATS_REQUEST ? ATS_ABORTED : ABORTED;
  }

  /**
   * The CD of the transaction. Undefined either where stage 1 does not translate it (`skipsStage1`), or
   * where it ends (`answer`).
   */
  private findCd(stream: CachedStream, ste: SteView): CdView | undefined {
    const ssid = this.ssid;
    const index = selectCd(ste, ssid);
    this.skipsStage1 = index === SELECT_BYPASS;
    if (index < 0) {
      if (index === SELECT_BAD_SUBSTREAM) {
        return this.badSubstream(ssid, "the stream has no such substream");
      }
      return index === SELECT_DISABLED ? this.streamDisabled() : undefined;
    }
    const cd = stream.cd(index) ?? this.fetchCd(stream, ste, index);
    if (cd !== undefined && cd.code === CD_ILLEGAL) {
      fillEvent(this.event, EVENT.C_BAD_CD, this.sid, ssid);
      return this.withoutCd(cd.reason);
    }
    return cd;
  }

  private badSubstream(ssid: number, reason: string): undefined {
    fillBadSubstream(this.event, this.sid, ssid);
    return this.withoutCd(reason);
  }

  private streamDisabled(): undefined {
    fillStreamDisabled(this.event, this.sid);
    return this.withoutCd("STE.S1DSS does not allow the substream");
  }

  /** Ends a transaction with a record that is filled, and its reason in words. */
  private withoutCd(reason: string): undefined {
    this.reason = reason;
    this.answer = this.configurationError(true);
    return undefined;
  }

  /** Fetches and holds a CD; leaves `answer` where there is none. */
  private fetchCd(stream: CachedStream, ste: SteView, index: number): CdView | undefined {
    const { contextTable, words } = this;
    switch (contextTable.fetch(ste, index, words)) {
      case CONTEXT_FOUND: {
        const cd = new CdView();
        decodeCd(words, this.features, cd);
        this.cache.holdCd(stream, index, cd);
        return cd;
      }
      case CONTEXT_BAD_SUBSTREAM:
        return this.badSubstream(index, contextTable.reason);
      case CONTEXT_STAGE2_FAULT:
        this.access = overridden(this.incoming, ste);
        this.answer = this.fault(contextTable.walkFault, ste, undefined, true);
        return undefined;
      default:
        fillFetchEvent(this.event, EVENT.F_CD_FETCH, this.sid, this.ssid, contextTable.fetchHigh, contextTable.fetchLow);
        return this.withoutCd("the CD could not be fetched");
    }
  }

  /** Stage 1, and stage 2 where enabled. */
  private translateStage1(ste: SteView, cd: CdView): number {
    const high = this.high;
    const low = this.low;
    const range = selectStage1Range(high, low, cd.t0sz, cd.t1sz, cd.tbi0, cd.tbi1);
    const tables = range < 0 ? undefined : range === 0 ? cd.lower : cd.upper;
    // E0PD: 5.4 CD.E0PD0.
    if (tables === undefined || ((range === 0 ? cd.e0pd0 : cd.e0pd1) && (this.access & ACCESS_PRIVILEGED) === 0)) {
      this.walker.faultStage = 1;
      this.walker.faultOnTableWalk = 0;
      return this.fault(WALK_TRANSLATION_FAULT, ste, cd, false);
    }
    return this.finish(ste, cd, cd.asid, tables);
  }

  /** No stage 1: by configuration, or by S1DSS. */
  private translateStage2(ste: SteView): number {
    // 3.4, 5.2 S1DSS: a bypassed stage 1 checks the input against the IAS; it always terminates with an abort.
    if (this.beyond(this.features.inputBits)) {
      if (this.kind === KIND_ATS_REQUEST) {
        return this.deny();
      }
      this.faults.inputSize(this.sid, this.ssid, this.high, this.low, this.access);
      this.hasEvent = true;
      return ABORTED;
    }
    return ste.stage2 === undefined ? this.bypass() : this.finish(ste, undefined, 0, undefined);
  }

  private finish(ste: SteView, cd: CdView | undefined, asid: number, stage1: StageTables | undefined): number {
    const { translator, access } = this;
    // A Translation Request is told what is permitted; it does not fault for want of permission (3.9.1.2).
    const code = translator.translate(
      ste.vmid,
      asid,
      stage1,
      ste.stage2,
      this.high,
      this.low,
      this.kind === KIND_ATS_REQUEST ? 0 : access,
    );
    if (code !== WALK_OK) {
      return this.fault(code, ste, cd, false);
    }
    this.outHigh = translator.outHigh;
    this.outLow = translator.outLow;
    this.outPageBits = translator.outPageBits;
    const permissions =
      (access & ACCESS_PRIVILEGED) !== 0 ? translator.outPermissions >>> PERM_PRIVILEGED_SHIFT : translator.outPermissions;
    this.outPermissions = permissions & (PERM_READ | PERM_WRITE | PERM_EXECUTE);
    return this.kind === KIND_ATS_REQUEST ? this.answerRequest(ste, stage1) : TRANSLATED;
  }

  /** A Translation Completion. */
  private answerRequest(ste: SteView, stage1: StageTables | undefined): number {
    this.outPermissions = completedPermissions(this.outPermissions, this.incoming, ste);
    if (ste.eats !== STE_EATS_S1CHK) {
      return TRANSLATED;
    }
    // 13.6.3: a split-stage stream is told stage 1's output, the IPA; 13.6.5: the input where stage 1 is skipped.
    if (stage1 === undefined) {
      this.outHigh = this.high;
      this.outLow = this.low;
      return TRANSLATED;
    }
    const walker = this.splitStage.walk(stage1, ste.stage2!, this.high, this.low);
    if (walker === null) {
      // The tables changed under a cached translation: the answer is the fault's.
      return this.deny();
    }
    this.outHigh = walker.outHigh;
    this.outLow = walker.outLow;
    this.outPageBits = Math.min(this.outPageBits, walker.outPageBits);
    return TRANSLATED;
  }

  /** Success with R = W = 0 (3.9.1.2): the address means nothing. */
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
    this.outPageBits = this.features.outputBits;
    this.outPermissions = ACCESS_READ | ACCESS_WRITE | (this.kind === KIND_ATS_REQUEST ? 0 : ACCESS_EXECUTE);
    return BYPASSED;
  }

  /**
   * Fills the record of a walk's fault and says how the transaction ends (3.12).
   *
   * @param onCd stage 2 faulted on the address of a CD or L1CD
   */
  private fault(code: number, ste: SteView, cd: CdView | undefined, onCd: boolean): number {
    const asks = this.kind === KIND_ATS_REQUEST;
    if (asks && code !== WALK_EXTERNAL_ABORT) {
      return this.deny();
    }
    this.faults.walk(code, this.sid, this.ssid, this.high, this.low, this.access, onCd);
    if (code === WALK_EXTERNAL_ABORT) {
      this.hasEvent = !asks || (this.recordAtsErrors && this.features.atsErrors);
      return asks ? ATS_ABORTED : ABORTED;
    }
    const stage2 = this.walker.faultStage === 2;
    this.hasEvent = stage2 ? ste.stage2Records : cd!.records;
    return !stage2 && !cd!.aborts ? READ_AS_ZERO : ABORTED;
  }

  /** Whether the input address has bits at or above bit `bits`. */
  private beyond(bits: number): boolean {
    return bits >= 32 ? this.high >>> (bits - 32) !== 0 : this.high !== 0 || this.low >>> bits !== 0;
  }
}
