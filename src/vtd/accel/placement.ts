/**
 * Where the functions of a unit and their PASIDs belong, by TES, the root table and the guest's entries, and what
 * happens where the host refuses to put them there: they are blocked, remembered, and tried again.
 */
import { refusalOf } from "../../iommufd/index.js";
import { blockOrKeep, type BlockOutcome, type Budget, changeOrBlock, EMPTY_ENTRY_STEPS, GuestLimit } from "../../nesting/index.js";
import { hex, type Log } from "../../support/index.js";
import type { VtdForBackend } from "../device/index.js";
import * as trace from "./trace.js";
import {
  ContextView,
  GuestTables,
  isQualified,
  PASID_FIRST_STAGE,
  PASID_INVALID,
  PASID_NOT_PRESENT,
  PASID_PASS_THROUGH,
  PASID_SECOND_STAGE,
  pasidReasonOf,
  PasidView,
} from "../lookup/index.js";
import { FAULT, TTM_LEGACY, TTM_SCALABLE } from "../spec/index.js";
import type { FunctionAttachments } from "./attachments.js";
import { EntryFaults, isAbsent, reasonText } from "./entry-faults.js";
import type { PassthroughFunction, PasidBinding } from "./function.js";

export class Placement {
  private readonly tables: GuestTables;
  private readonly context = new ContextView();
  private readonly entry = new PasidView();
  private readonly faults: EntryFaults;
  /** How often `context` was read. */
  private contextsRead = 0;

  /** `name`: of the unit, for messages. */
  constructor(
    private readonly unit: VtdForBackend,
    private readonly name: () => string,
    private readonly attachments: FunctionAttachments,
    /** What may be done at once. */
    private readonly budget: Budget,
    private readonly log: Log,
  ) {
    this.faults = new EntryFaults(unit);
    this.tables = new GuestTables(unit.words, unit.features, true);
  }

  // ---- one function ----

  /**
   * Puts the function where TES, the root table and its entries say, and its PASIDs as far as the budget lasts: the
   * others follow (`work`). False where the guest did not get what it asked for: then the function, or the PASID, is
   * blocked, and tried again.
   */
  settle(fn: PassthroughFunction): boolean {
    fn.blockedPasids.clear();
    fn.refused.clear();
    fn.manyRefused = false;
    const placed = this.settleRequests(fn);
    return this.sweep(fn) && placed;
  }

  /** Requests without PASID alone. */
  private settleRequests(fn: PassthroughFunction): boolean {
    const { unit, context } = this;
    fn.absent = null;
    fn.unsettled = false;
    fn.stale = false;
    fn.faultReason = 0;
    fn.faultsDisabled = false;
    const sourceId = fn.sourceId;
    fn.settledSourceId = sourceId;
    if (trace.traceSwitchAddressSpace.on && sourceId !== null) {
      trace.traceSwitchAddressSpace.emit(sourceId >> 8, (sourceId >> 3) & 0x1f, sourceId & 7, unit.translationEnabled ? 1 : 0);
    }
    if (!unit.translationEnabled) {
      return this.guarded(fn, () => this.attachments.attachParent(fn));
    }
    if (sourceId === null || (unit.tableMode !== TTM_LEGACY && unit.tableMode !== TTM_SCALABLE)) {
      const reason = sourceId === null ? "the guest has given its bus no number" : `RTADDR.TTM is reserved: ${unit.tableMode} (11.4.5)`;
      return this.guarded(fn, () => this.attachments.block(fn, reason));
    }
    const reason = this.readContext(sourceId);
    fn.faultsDisabled = context.faultsDisabled;
    this.faults.traceContext(sourceId, reason, context, this.tables.entryWords);
    if (reason === 0 && context.scalable) {
      return this.settleRid(fn, sourceId);
    }
    return this.guarded(fn, () => {
      if (reason !== 0) {
        fn.absent = isAbsent(reason) ? "context" : null;
        this.attachments.block(fn, reasonText(reason));
        fn.faultReason = reason;
        this.faults.recordUnless(context.faultsDisabled || fn.absent !== null, reason, sourceId, -1);
      } else if (context.stage2 === undefined) {
        this.attachments.attachParent(fn);
        if (trace.tracePtEnableFastPath.on) {
          trace.tracePtEnableFastPath.emit(sourceId, 1);
        }
      } else {
        this.mirror(fn, context.domain, context.stage2);
      }
    });
  }

  private readContext(sourceId: number): number {
    this.budget.left--;
    this.contextsRead++;
    return this.tables.readContext(this.unit.root, sourceId, this.context);
  }

  /** Without caching mode nobody tells of an entry that has become present (6.1): it is looked for. */
  lookAgain(fn: PassthroughFunction): void {
    const { absent, sourceId } = fn;
    if (absent === null || sourceId === null) {
      return;
    }
    const reason = this.readContext(sourceId);
    if (isAbsent(reason) && absent === "context") {
      return;
    }
    if (absent === "context" || reason !== 0 || !this.context.scalable) {
      this.settle(fn);
      return;
    }
    this.budget.left--;
    this.tables.readPasid(this.context, fn.ridPasid, this.entry);
    if (this.entry.kind !== PASID_NOT_PRESENT) {
      this.settleRid(fn, sourceId);
    }
  }

  /** What the host has refused is tried again. `all`: where it was too much to keep in mind, all PASIDs are. */
  retry(fn: PassthroughFunction, all: boolean): void {
    if (fn.unsettled) {
      this.settleRequests(fn);
    }
    if (fn.refused.size > 0) {
      for (const pasid of [...fn.refused]) {
        // Read for each: a fault that is recorded on the way may have its message go to the unit's own registers.
        this.settleOther(fn, pasid, this.presentLimit(fn));
      }
    }
    if (fn.manyRefused && all && !fn.sweep.working) {
      fn.manyRefused = false;
      this.sweep(fn);
    }
  }

  /** One PASID of a function was invalidated. False where it did not get what its entry asks for. */
  settlePasid(fn: PassthroughFunction, pasid: number): boolean {
    const sourceId = fn.sourceId;
    if (sourceId === null) {
      return true;
    }
    if (this.readContext(sourceId) !== 0) {
      return this.settle(fn);
    }
    fn.faultsDisabled = this.context.faultsDisabled;
    if (pasid === fn.ridPasid) {
      return this.settleRid(fn, sourceId);
    }
    return this.settleOther(fn, pasid, this.pasidLimit(fn));
  }

  // ---- all PASIDs, in steps ----

  /**
   * All PASIDs are to be put where their entries say. Requests without PASID come before: the host takes PASIDs only
   * beside a table that was made for them.
   */
  private sweep(fn: PassthroughFunction): boolean {
    const limit = this.presentLimit(fn);
    const own = fn.bindings.has(fn.ridPasid) ? 1 : 0;
    if (limit <= 1 && fn.bindings.size === own) {
      fn.sweep.cancel();
      return true;
    }
    fn.sweep.start(Math.max(limit, fn.bindings.end));
    return this.sweepOn(fn, limit);
  }

  /**
   * Goes on with it as far as the budget lasts, with the context entry as it is at this moment: one that changes
   * meanwhile is followed by an invalidation, which begins anew.
   */
  private sweepOn(fn: PassthroughFunction, limit: number): boolean {
    const { sweep } = fn;
    let done = true;
    let block = -1;
    let table = -1;
    let context = this.contextsRead;
    while (sweep.working && !this.budget.spent) {
      if (context !== this.contextsRead) {
        // A fault was recorded, and its message went to the unit's own registers.
        limit = this.presentLimit(fn);
        context = this.contextsRead;
        block = -1;
      }
      const pasid = sweep.at;
      if (pasid >>> 6 !== block) {
        block = pasid >>> 6;
        table = -1;
        if (pasid < limit) {
          table = this.tables.readTable(this.context, block);
          this.budget.left -= table < 0 ? EMPTY_ENTRY_STEPS : 1;
        }
      }
      if (table < 0 && fn.bindings.near(pasid) === 0) {
        sweep.passTable();
        continue;
      }
      sweep.pass();
      if (pasid !== fn.ridPasid) {
        const kind = table >= 0 && pasid < limit ? this.tables.readPasidOf(table, pasid, this.entry) : PASID_NOT_PRESENT;
        done = this.putOther(fn, pasid, kind) && done;
      }
    }
    return done;
  }

  /** PASIDs of a function that can be bound: what the unit offers and the context has on, and what the device can. */
  private pasidLimit(fn: PassthroughFunction): number {
    const { context } = this;
    const { fsts, pasidBits } = this.unit.properties;
    return !fsts || pasidBits === 0 || !context.pasids ? 1 : Math.min(fn.pasidLimit, this.tables.pasidCount(context));
  }

  /** The same, by TES and the tables as they are at this moment: none while there is no context entry in scalable mode. */
  private presentLimit(fn: PassthroughFunction): number {
    const { unit } = this;
    const sourceId = fn.sourceId;
    if (!unit.translationEnabled || sourceId === null || unit.tableMode !== TTM_SCALABLE || this.readContext(sourceId) !== 0) {
      return 0;
    }
    return this.pasidLimit(fn);
  }

  /** Requests without PASID, in scalable mode. */
  private settleRid(fn: PassthroughFunction, sourceId: number): boolean {
    fn.absent = null;
    this.budget.left--;
    return this.guarded(fn, () => {
      this.tables.readPasid(this.context, fn.ridPasid, this.entry);
      this.place(fn, sourceId, fn.ridPasid, this.entry);
    });
  }

  /** A PASID other than that of requests without one. `limit`: there are entries of those below. */
  private settleOther(fn: PassthroughFunction, pasid: number, limit: number): boolean {
    return this.putOther(fn, pasid, pasid < limit ? this.tables.readPasid(this.context, pasid, this.entry) : PASID_NOT_PRESENT);
  }

  /** Puts it where its entry says, which has been read. */
  private putOther(fn: PassthroughFunction, pasid: number, kind: number): boolean {
    if (kind !== PASID_NOT_PRESENT) {
      this.budget.left--;
      return this.placeOrUnbind(fn, fn.sourceId ?? 0, pasid, this.entry);
    }
    this.budget.left -= EMPTY_ENTRY_STEPS;
    fn.blockedPasids.delete(pasid);
    fn.refused.delete(pasid);
    const binding = fn.bindings.get(pasid);
    return binding === undefined || this.unbindOrKeep(binding);
  }

  /** Translations of a mirrored function from `first` to `last` (bytes, inclusive) were invalidated. */
  synchronize(fn: PassthroughFunction, first: number, last: number): boolean {
    const sourceId = fn.sourceId;
    if (sourceId === null || !this.isMirrored(fn, sourceId)) {
      return this.settle(fn);
    }
    fn.mirror!.invalidate(first, last);
    return this.workOnMirror(fn);
  }

  /** Whether the second-stage tables that the function's entries name now are still those of its mirror. */
  private isMirrored(fn: PassthroughFunction, sourceId: number): boolean {
    const { context, entry } = this;
    if (this.readContext(sourceId) !== 0) {
      return false;
    }
    let domain = context.domain;
    let stage2 = context.stage2;
    if (context.scalable) {
      this.tables.readPasid(context, fn.ridPasid, entry);
      domain = entry.domain;
      stage2 = entry.kind === PASID_SECOND_STAGE ? entry.stage2 : undefined;
    }
    return stage2 !== undefined && fn.mirror !== null && fn.mirror.domains.current === domain && fn.mirror.follows(stage2);
  }

  private mirror(fn: PassthroughFunction, domain: number, tables: NonNullable<PasidView["stage2"]>): void {
    this.attachments.mirror(fn, domain, tables);
    this.attachments.workOn(fn);
  }

  private workOnMirror(fn: PassthroughFunction): boolean {
    return fn.mirror?.working !== true || this.guarded(fn, () => this.attachments.workOn(fn));
  }

  /** Goes on with what a function has under way. Where the host or a limit ends a part of it, that is blocked. */
  work(fn: PassthroughFunction): void {
    fn.mirror?.lookAgain();
    this.workOnMirror(fn);
    if (fn.sweep.working && !this.budget.spent) {
      this.sweepOn(fn, this.presentLimit(fn));
    }
  }

  /** A mirror that has nobody to wait for it is made while the function is blocked. */
  blockMeanwhile(fn: PassthroughFunction): void {
    if (fn.growing !== null) {
      this.guarded(fn, () => this.attachments.blockMeanwhile(fn));
    }
  }

  /** A binding whose translations the host did not invalidate: it is taken away, as it may be stale. False where it cannot be. */
  dropStale(binding: PasidBinding): boolean {
    const { fn } = binding;
    binding.stale = true;
    const what = "invalidating its first stage failed";
    if (binding.pasid !== fn.ridPasid) {
      fn.noteRefused(binding.pasid);
      const unbound = this.unbindOrKeep(binding);
      if (unbound) {
        this.attachments.tellBlocked(fn, binding.pasid, what);
      }
      return unbound;
    }
    fn.unsettled = true;
    const came = blockOrKeep(() => this.attachments.block(fn, what), () => fn.table);
    this.ended(fn, what, came);
    return came.blocked;
  }

  /** Runs a change of the table of requests without PASID; where the host refuses it, the function is blocked, and false. */
  private guarded(fn: PassthroughFunction, act: () => void): boolean {
    const failed = changeOrBlock(act, (refusal) => this.attachments.block(fn, refusal.message), () => fn.table);
    if (failed === null) {
      return true;
    }
    // A limit is the guest's doing: its next invalidation is the next occasion.
    fn.unsettled ||= !(failed.refusal instanceof GuestLimit);
    this.ended(fn, failed.refusal.message, failed);
    return false;
  }

  private ended(fn: PassthroughFunction, what: string, { outcome, blocked }: BlockOutcome): void {
    if (!blocked) {
      fn.unsettled = true;
      fn.stale = true;
    }
    this.warn(fn, `${what}; ${outcome}`);
  }

  private warn(fn: PassthroughFunction, text: string): void {
    this.log.warnLimited(`vtd.bind ${fn.host.hostAddress}`, `${fn.host.name} behind ${this.name()}: ${text}`);
  }

  // ---- one PASID ----

  /** Puts a PASID where its entry says. Throws HostError; then the PASID has its old table. */
  private place(fn: PassthroughFunction, sourceId: number, pasid: number, view: PasidView): void {
    view.faultsDisabled ||= this.context.faultsDisabled;
    switch (view.kind) {
      case PASID_FIRST_STAGE:
        this.attachments.bindNested(fn, pasid, view);
        return;
      case PASID_PASS_THROUGH:
        this.attachments.bindParent(fn, pasid, view);
        return;
      case PASID_SECOND_STAGE:
        if (pasid === fn.ridPasid && view.stage2 !== undefined) {
          this.mirror(fn, view.domain, view.stage2);
          return;
        }
        break;
    }
    const binding = fn.bindings.get(pasid);
    if (pasid === fn.ridPasid) {
      fn.absent = view.kind === PASID_NOT_PRESENT ? "entry" : null;
      fn.faultReason = view.kind > 0 ? FAULT.SM_PASID_INVALID : view.reason;
      this.attachments.block(fn, reasonText(fn.faultReason));
    } else if (binding !== undefined) {
      this.attachments.unbind(binding);
    }
    const reason = view.kind === PASID_INVALID ? view.reason : view.kind === PASID_NOT_PRESENT ? 0 : FAULT.SM_PASID_INVALID;
    if (reason !== 0 && pasid !== fn.ridPasid) {
      fn.refused.delete(pasid);
      this.attachments.tellBlocked(fn, pasid, reasonText(reason));
    }
    this.faults.recordUnless(view.faultsDisabled || reason === 0, reason, sourceId, pasid === fn.ridPasid ? -1 : pasid);
  }

  /** `place` for a PASID other than that of requests without one: where the host refuses, the PASID is blocked, and false. */
  private placeOrUnbind(fn: PassthroughFunction, sourceId: number, pasid: number, view: PasidView): boolean {
    const full = view.kind > 0 ? this.attachments.noRoom(fn, pasid) : null;
    if (full !== null) {
      // The guest's doing: the queue goes on, as with an entry that is in no order.
      this.attachments.tellBlocked(fn, pasid, full);
      this.log.guestError("vtd.pasids", () => `${this.name()}: ${fn.host.name}: PASID ${hex(pasid)} is blocked: ${full}`);
      return true;
    }
    const refusal = refusalOf(() => this.place(fn, sourceId, pasid, view));
    if (refusal !== null) {
      this.warn(fn, `Attaching to HWPT failed: PASID ${hex(pasid)}: ${refusal.message}`);
      fn.noteRefused(pasid);
      const binding = fn.bindings.get(pasid);
      if (binding === undefined || this.unbindOrKeep(binding)) {
        this.attachments.tellBlocked(fn, pasid, refusal.message);
      }
    }
    return refusal === null;
  }

  private unbindOrKeep(binding: PasidBinding): boolean {
    const { fn, pasid } = binding;
    const refusal = refusalOf(() => this.attachments.unbind(binding));
    if (refusal !== null) {
      fn.noteRefused(pasid);
      fn.kept.add(pasid);
      this.warn(fn, `Detaching from HWPT failed: PASID ${hex(pasid)} keeps its table: ${refusal.message}`);
    }
    return refusal === null;
  }

  /**
   * What the guest's tables, as they are at this moment, have against a request with a PASID: a fault reason; 0: nothing,
   * or the guest has reporting off (FPD). Entries that are no good are not cached (6.1), so that hardware would look there
   * at each request.
   */
  reasonAgainst(fn: PassthroughFunction, pasid: number): number {
    const { unit, context, entry } = this;
    const sourceId = fn.sourceId;
    if (!unit.translationEnabled || sourceId === null || unit.tableMode !== TTM_SCALABLE) {
      return unit.translationEnabled && unit.tableMode === TTM_LEGACY ? FAULT.SM_TTM_WITH_PASID : 0;
    }
    let reason = this.readContext(sourceId);
    let silent = context.faultsDisabled;
    if (reason === 0) {
      reason = pasidReasonOf(context, pasid, unit.features);
    }
    if (reason === 0) {
      const kind = this.tables.readPasid(context, pasid, entry);
      silent ||= entry.faultsDisabled;
      reason = kind > 0 ? 0 : entry.reason;
    }
    return silent && isQualified(reason) ? 0 : reason;
  }
}
