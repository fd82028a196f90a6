/**
 * The passed-through functions of one VT-d unit: what the guest's context and PASID entries say becomes
 * tables of the host.
 *
 * Every function is, at every moment, on one table for its requests without PASID, or blocked; each of its
 * other PASIDs has a table of its own or none. A change is one replacing attach; when the host refuses it, the
 * function (or PASID) is blocked, and when even that fails it keeps the table that it has. First-stage tables
 * of the guest are never read here.
 */
import { HostError, type IommufdDevice, isIommufdDevice } from "../../iommufd/index.js";
import { Graveyard } from "../../nesting/index.js";
import type { HostIommuDevice, PciBus } from "../../pci/index.js";
import { hex, type Log, Refusal } from "../../support/index.js";
import type { VtdBackend, VtdForBackend } from "../device/backend.js";
import { checkHostServes } from "./compatibility.js";
import * as trace from "../device/trace.js";
import { FunctionAttachments } from "./attachments.js";
import { HostFaults } from "./events.js";
import {
  ContextView,
  GuestTables,
  PASID_FIRST_STAGE,
  PASID_INVALID,
  PASID_NOT_PRESENT,
  PASID_PASS_THROUGH,
  PASID_SECOND_STAGE,
  PasidView,
} from "../lookup/index.js";
import { PasidIotlbForwarder } from "./invalidations.js";
import { PassthroughFunction, type PasidBinding, type VtdFunctionTable } from "./function.js";
import { ShadowLimit } from "./mirror.js";
import { FAULT, FAULT_RECORD_WORDS, fillFault, TTM_LEGACY, TTM_SCALABLE } from "../spec/index.js";

/** Descriptors that are collected before they are sent, at the most. */
const BATCH_CAPACITY = 4096;

/** For the account: one function's tables. */
export interface VtdFunctionAccount {
  readonly name: string;
  readonly sourceId: number | null;
  readonly hostIommu: string | null;
  readonly table: VtdFunctionTable;
  readonly hwptId: number | null;
  /** Bindings of PASIDs, the one of requests without PASID (0) among them. */
  readonly pasids: ReadonlyArray<{ readonly pasid: number; readonly domain: number; readonly table: "nested" | "parent"; readonly hwptId: number }>;
  /** Mappings of a mirrored second stage. */
  readonly shadowMappings: number;
}

export class VtdAcceleration implements VtdBackend {
  readonly capacity = BATCH_CAPACITY;
  private readonly functions: PassthroughFunction[] = [];
  private readonly forwarder: PasidIotlbForwarder;
  private readonly graveyard: Graveyard;
  private readonly attachments: FunctionAttachments;
  private readonly tables: GuestTables;
  private readonly context = new ContextView();
  private readonly entry = new PasidView();
  private readonly record = new Int32Array(FAULT_RECORD_WORDS);
  private deliveredBefore = 0;

  constructor(
    private readonly unit: VtdForBackend,
    private readonly log: Log,
  ) {
    this.graveyard = new Graveyard(log, "vtd.destroy");
    this.forwarder = new PasidIotlbForwarder(() => this.name, log);
    this.attachments = new FunctionAttachments(unit, () => this.name, this.forwarder, this.graveyard, log);
    this.tables = new GuestTables(unit.words, unit.features, true);
  }

  /** `intel-iommu 'iommu0'`. */
  private get name(): string {
    return `intel-iommu '${this.unit.id}'`;
  }

  get pending(): number {
    return this.forwarder.pending;
  }

  /** HWPT_INVALIDATE calls, and entries of them that were done. */
  get invalidateCalls(): number {
    return this.forwarder.calls;
  }

  get invalidatedEntries(): number {
    return this.forwarder.entries;
  }

  /** Tables attached in the place of others, of any kind; bindings made, replaced and taken away. */
  get counts(): { readonly bound: number; readonly replaced: number; readonly unbound: number } {
    return this.attachments.counts;
  }

  get functionCount(): number {
    return this.functions.length;
  }

  /** Entries of the guest's PASID tables read so far: the work done. */
  get entriesRead(): number {
    return this.tables.entriesRead;
  }

  /** PASIDs that are bound, of all functions. */
  get bindingCount(): number {
    return this.functions.reduce((sum, fn) => sum + fn.bindings.size, 0);
  }

  /** Faults of the hardware handed to the guest. */
  get faultsDelivered(): number {
    return this.functions.reduce((sum, fn) => sum + (fn.faults?.delivered ?? 0), this.deliveredBefore);
  }

  describeFunctions(): VtdFunctionAccount[] {
    return this.functions.map((fn) => ({
      name: fn.host.name,
      sourceId: fn.sourceId,
      hostIommu: fn.host.hostIommu,
      table: fn.table,
      hwptId: fn.host.attachedTo,
      pasids: [...fn.bindings.values()].map((binding) => ({
        pasid: binding.pasid,
        domain: binding.domain,
        table: binding.hwptId === null ? ("parent" as const) : ("nested" as const),
        hwptId: binding.hwptId ?? fn.host.parentHwptId,
      })),
      shadowMappings: fn.shadow?.mappings ?? 0,
    }));
  }

  // ---- functions come and go ----

  /** Throws Refusal where this unit, or the host's IOMMU behind the function, cannot serve it: properties and capabilities alone. */
  checkFunction(device: HostIommuDevice): asserts device is IommufdDevice {
    const { properties } = this.unit;
    if (!isIommufdDevice(device)) {
      throw new Refusal("Need IOMMUFD backend when fsts=on", {
        found: `${device.name} behind ${this.name}`,
        wouldWork: "-object iommufd,id=iommufd0 and vfio-pci with iommufd=iommufd0",
      });
    }
    if (!properties.fsts) {
      this.checkShadowing(device.name);
    }
    checkHostServes(device.hwInfo, properties, { unit: this.name, device: device.name, hostIommu: device.hostIommu ?? "the host IOMMU" });
  }

  /**
   * A passed-through function at (bus, devfn) joins. Throws Refusal where this unit cannot serve it and HostError
   * where the host does not; then nothing is left, and the function stays on its parent.
   */
  addFunction(bus: PciBus, devfn: number, device: HostIommuDevice): void {
    const { properties } = this.unit;
    this.checkFunction(device);
    const fn = new PassthroughFunction(bus, devfn, device);
    this.functions.push(fn);
    try {
      if (properties.fsts) {
        fn.faults = HostFaults.open(
          device,
          {
            get sourceId() {
              return fn.sourceId;
            },
            isReported: (pasid) => fn.bindings.get(pasid < 0 ? fn.ridPasid : pasid)?.faultsDisabled !== true,
            recordFault: (record) => this.unit.recordFault(record),
            faultsLost: () => this.unit.faultsLost(),
          },
          this.log,
        );
      }
      this.settle(fn);
    } catch (error) {
      this.release(fn);
      this.functions.splice(this.functions.indexOf(fn), 1);
      throw error instanceof ShadowLimit ? new Refusal(error.message, { found: `${device.name} behind ${this.name}` }) : error;
    }
    if (properties.fsts && !properties.cachingMode && properties.pasidBits > 0 && device.hwInfo.maxPasidLog2 > 0) {
      // 6.1: without caching mode the guest need not tell of entries that become present.
      this.log.warnOnce(
        `${this.name}: PASIDs of ${device.name} may not be bound when the guest uses them: with caching-mode=off it need not tell of a PASID entry that has become present (caching-mode=on would work)`,
      );
    }
  }

  private checkShadowing(name: string): void {
    const { properties } = this.unit;
    if (properties.requireNesting) {
      throw new Refusal("x-require-nesting=on: no shadowing of guest page tables", {
        found: `${name} behind ${this.name}, which has fsts=off`,
        wouldWork: "scalable-mode=on,fsts=on",
      });
    }
    if (!properties.cachingMode) {
      throw new Refusal("Device assignment is not allowed without enabling caching-mode=on for Intel IOMMU.", {
        found: `${name} behind ${this.name}, which has caching-mode=off and fsts=off`,
        wouldWork: "caching-mode=on, or scalable-mode=on,fsts=on",
      });
    }
  }

  /** The function leaves: back to its parent, its objects freed. Never throws for a refused host call. */
  removeFunction(bus: PciBus, devfn: number): void {
    const index = this.functions.findIndex((fn) => fn.bus === bus && fn.devfn === devfn);
    if (index >= 0) {
      const [fn] = this.functions.splice(index, 1);
      this.release(fn);
    }
  }

  /** The guest gave buses new numbers: functions whose source id is another now go where its entries say. */
  busNumbersChanged(): void {
    for (const fn of this.functions) {
      if (fn.sourceId !== fn.settledSourceId) {
        this.settleOrBlock(fn);
      }
    }
  }

  /** A driver of the guest begins with its function, whose entries it has written before. */
  busMasteringEnabled(bus: PciBus, devfn: number): void {
    this.lookAgain(this.functions.filter((fn) => fn.bus === bus && fn.devfn === devfn));
  }

  /** Without caching mode nobody tells of an entry that has become present (6.1). */
  private lookAgain(functions: readonly PassthroughFunction[]): void {
    if (this.unit.properties.cachingMode) {
      return;
    }
    for (const fn of functions) {
      if (fn.absent) {
        this.settleOrBlock(fn);
      }
    }
  }

  // ---- VtdBackend ----

  tablesChanged(): void {
    for (const fn of this.functions) {
      this.settleOrBlock(fn);
    }
  }

  reset(): void {
    this.forwarder.drop();
    this.tablesChanged();
  }

  contextCacheInvalidated(_domainId: number, sourceId: number, sourceMask: number): boolean {
    let done = true;
    for (const fn of this.functions) {
      const own = fn.sourceId;
      const meant = sourceId < 0 || (own !== null && (own & ~sourceMask) === (sourceId & ~sourceMask));
      if (meant && this.unit.translationEnabled) {
        if (sourceId >= 0 && own !== null && trace.tracePasidCacheDevsi.on) {
          trace.tracePasidCacheDevsi.emit(own >> 8, (own >> 3) & 0x1f, own & 7);
        }
        // A domain narrows nothing: in scalable mode entries have none, in legacy mode a new one may be the domain's.
        done = this.settleOrBlock(fn) && done;
      }
    }
    return done;
  }

  /** A domain narrows nothing: entries that have become present may be of any. */
  pasidCacheInvalidated(_domainId: number, pasid: number): boolean {
    if (!this.unit.translationEnabled || this.unit.tableMode !== TTM_SCALABLE) {
      return true;
    }
    let done = true;
    for (const fn of this.functions) {
      done = (pasid < 0 ? this.settleOrBlock(fn) : this.settlePasid(fn, pasid)) && done;
    }
    return done;
  }

  iotlbInvalidated(domainId: number, addressHigh: number, addressLow: number, addressMask: number): boolean {
    let done = true;
    for (const fn of this.functions) {
      if (fn.shadow !== null && (domainId < 0 || fn.shadowDomain === domainId)) {
        const first = addressMask < 0 ? 0 : pageRange(addressHigh, addressLow, addressMask);
        const last = addressMask < 0 ? 2 ** 57 : first + 2 ** (12 + addressMask) - 1;
        done = this.settleShadow(fn, first, last) && done;
      }
      // Translations that a first stage had a part in go with their domain (6.5.1.2, table 23).
      for (const binding of fn.bindings.values()) {
        if (domainId < 0 || binding.domain === domainId) {
          this.forwarder.takeWhole(binding);
        }
      }
    }
    return this.forwarder.send() < 0 && done;
  }

  forwardPasidIotlb(domainId: number, pasid: number, addressHigh: number, addressLow: number, addressMask: number, leaf: boolean): boolean {
    return this.forwarder.take(domainId, pasid, addressHigh, addressLow, addressMask, leaf);
  }

  flush(): number {
    return this.forwarder.send();
  }

  descriptorsDone(): void {
    this.lookAgain(this.functions);
  }

  // ---- one function ----

  /**
   * Puts the function, with all its PASIDs, where TES, the root table and its entries say. Throws HostError and
   * ShadowLimit where requests without PASID did not get there; false where one of the other PASIDs did not.
   */
  private settle(fn: PassthroughFunction): boolean {
    const { unit, context } = this;
    fn.absent = false;
    const sourceId = fn.sourceId;
    fn.settledSourceId = sourceId;
    if (unit.translationEnabled && sourceId !== null && (unit.tableMode === TTM_LEGACY || unit.tableMode === TTM_SCALABLE)) {
      const reason = this.tables.readContext(unit.root, sourceId, context);
      if (reason === 0 && context.scalable) {
        return this.settleScalable(fn, sourceId);
      }
      const unbound = this.unbindAll(fn);
      if (reason !== 0) {
        fn.absent = isAbsent(reason);
        this.attachments.block(fn);
        this.recordUnless(context.faultsDisabled || fn.absent, reason, sourceId, -1);
      } else if (context.stage2 === undefined) {
        this.attachments.attachParent(fn);
      } else {
        this.attachments.attachShadow(fn, context.domain, context.stage2);
      }
      return unbound;
    }
    const unbound = this.unbindAll(fn);
    if (unit.translationEnabled) {
      this.attachments.block(fn);
    } else {
      this.attachments.attachParent(fn);
    }
    return unbound;
  }

  private settleScalable(fn: PassthroughFunction, sourceId: number): boolean {
    const { context, tables } = this;
    const generation = ++this.attachments.generation;
    let done = true;
    const limit = this.pasidLimit(fn);
    if (limit > 1) {
      tables.forEachPasid(context, 0, limit, (pasid, view) => {
        if (pasid !== fn.ridPasid) {
          done = this.placeOrUnbind(fn, sourceId, pasid, view) && done;
        }
        const binding = fn.bindings.get(pasid);
        if (binding !== undefined) {
          binding.generation = generation;
        }
      });
    }
    for (const binding of [...fn.bindings.values()]) {
      if (binding.generation !== generation && binding.pasid !== fn.ridPasid) {
        done = this.unbindOrKeep(binding) && done;
      }
    }
    tables.readPasid(context, fn.ridPasid, this.entry);
    this.place(fn, sourceId, fn.ridPasid, this.entry);
    return done;
  }

  /** PASIDs of a function that can be bound: what the unit offers and the context has on, and what the device can. */
  private pasidLimit(fn: PassthroughFunction): number {
    const { context } = this;
    const { fsts, pasidBits } = this.unit.properties;
    return !fsts || pasidBits === 0 || !context.pasids ? 1 : Math.min(fn.pasidLimit, this.tables.pasidCount(context));
  }

  /** One PASID of a function was invalidated. False where it did not get what its entry asks for. */
  private settlePasid(fn: PassthroughFunction, pasid: number): boolean {
    const sourceId = fn.sourceId;
    if (sourceId === null) {
      return true;
    }
    if (this.tables.readContext(this.unit.root, sourceId, this.context) !== 0) {
      return this.settleOrBlock(fn);
    }
    if (pasid === fn.ridPasid) {
      return this.guarded(fn, () => {
        this.tables.readPasid(this.context, pasid, this.entry);
        this.place(fn, sourceId, pasid, this.entry);
        return true;
      });
    }
    if (pasid < this.pasidLimit(fn)) {
      this.tables.readPasid(this.context, pasid, this.entry);
      return this.placeOrUnbind(fn, sourceId, pasid, this.entry);
    }
    const binding = fn.bindings.get(pasid);
    return binding === undefined || this.unbindOrKeep(binding);
  }

  /** `settle`, and where the host refuses: block. False where the guest did not get what it asked for. */
  private settleOrBlock(fn: PassthroughFunction): boolean {
    return this.guarded(fn, () => this.settle(fn));
  }

  private settleShadow(fn: PassthroughFunction, first: number, last: number): boolean {
    return this.guarded(fn, () => {
      const sourceId = fn.sourceId;
      const tables = sourceId === null ? undefined : this.secondStageOf(fn, sourceId);
      if (tables === undefined) {
        return this.settle(fn);
      }
      fn.shadow!.synchronize(tables, first, last);
      return true;
    });
  }

  /** The second-stage tables that the function's entries name now, where they are still those of its shadow. */
  private secondStageOf(fn: PassthroughFunction, sourceId: number): PasidView["stage2"] {
    const { context, entry } = this;
    if (this.tables.readContext(this.unit.root, sourceId, context) !== 0) {
      return undefined;
    }
    if (!context.scalable) {
      return context.domain === fn.shadowDomain ? context.stage2 : undefined;
    }
    this.tables.readPasid(context, fn.ridPasid, entry);
    return entry.kind === PASID_SECOND_STAGE && entry.domain === fn.shadowDomain ? entry.stage2 : undefined;
  }

  /** Runs a change of the table of requests without PASID; where the host refuses it, the function is blocked, and false. */
  private guarded(fn: PassthroughFunction, act: () => boolean): boolean {
    try {
      return act();
    } catch (error) {
      if (!(error instanceof HostError) && !(error instanceof ShadowLimit)) {
        throw error;
      }
      this.warn(fn, `${error.message}; ${this.blockAfterFailure(fn)}`);
      return false;
    }
  }

  private warn(fn: PassthroughFunction, text: string): void {
    this.log.warnLimited(`vtd.bind ${fn.host.hostAddress}`, `${fn.host.name} behind ${this.name}: ${text}`);
  }

  private blockAfterFailure(fn: PassthroughFunction): string {
    try {
      this.attachments.block(fn);
      return "it is blocked";
    } catch (second) {
      if (!(second instanceof HostError)) {
        throw second;
      }
      return `it keeps its ${fn.table} table (Detaching from HWPT failed: ${second.message})`;
    }
  }

  // ---- one PASID ----

  /** Puts a PASID where its entry says. Throws HostError; then the PASID has its old table. */
  private place(fn: PassthroughFunction, sourceId: number, pasid: number, view: PasidView): void {
    switch (view.kind) {
      case PASID_FIRST_STAGE:
        this.attachments.bindNested(fn, pasid, view);
        return;
      case PASID_PASS_THROUGH:
        this.attachments.bindParent(fn, pasid, view);
        return;
      case PASID_SECOND_STAGE:
        if (pasid === fn.ridPasid && view.stage2 !== undefined) {
          this.attachments.attachShadow(fn, view.domain, view.stage2);
          return;
        }
        break;
    }
    const binding = fn.bindings.get(pasid);
    if (pasid === fn.ridPasid) {
      fn.absent = view.kind === PASID_NOT_PRESENT;
      this.attachments.block(fn);
    } else if (binding !== undefined) {
      this.attachments.unbind(binding);
    }
    const reason = view.kind === PASID_INVALID ? view.reason : view.kind === PASID_NOT_PRESENT ? 0 : FAULT.SM_PASID_INVALID;
    this.recordUnless(view.faultsDisabled || this.context.faultsDisabled || reason === 0, reason, sourceId, pasid === fn.ridPasid ? -1 : pasid);
  }

  /** `place` for a PASID other than that of requests without one: where the host refuses, the PASID is blocked, and false. */
  private placeOrUnbind(fn: PassthroughFunction, sourceId: number, pasid: number, view: PasidView): boolean {
    try {
      this.place(fn, sourceId, pasid, view);
      return true;
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.warn(fn, `Attaching to HWPT failed: PASID ${hex(pasid)}: ${error.message}`);
      const binding = fn.bindings.get(pasid);
      if (binding !== undefined) {
        this.unbindOrKeep(binding);
      }
      return false;
    }
  }

  private unbindOrKeep(binding: PasidBinding): boolean {
    try {
      this.attachments.unbind(binding);
      return true;
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.warn(binding.fn, `Detaching from HWPT failed: PASID ${hex(binding.pasid)} keeps its table: ${error.message}`);
      return false;
    }
  }

  /** All PASIDs but that of requests without one lose their tables; false where the host refused one. */
  private unbindAll(fn: PassthroughFunction): boolean {
    let done = true;
    for (const binding of [...fn.bindings.values()]) {
      if (binding.pasid !== fn.ridPasid) {
        done = this.unbindOrKeep(binding) && done;
      }
    }
    return done;
  }

  private recordUnless(silent: boolean, reason: number, sourceId: number, pasid: number): void {
    if (silent) {
      return;
    }
    fillFault(
      this.record,
      reason,
      { source: sourceId, pasid, addressType: 0, high: 0, low: 0, write: false, execute: false, privileged: false },
      this.unit.features.pasid,
      this.unit.features.deviceTlb,
    );
    this.unit.recordFault(this.record);
  }

  /** A function has left: its objects are freed. */
  private release(fn: PassthroughFunction): void {
    this.attachments.giveBack(fn);
    if (fn.faults !== null) {
      this.deliveredBefore += fn.faults.delivered;
      fn.faults.close();
      fn.faults = null;
    }
    fn.host.onClosed(() => this.graveyard.retry());
  }
}

/** First address of 2^`mask` pages around an address. */
function pageRange(high: number, low: number, mask: number): number {
  const address = (high >>> 0) * 2 ** 32 + (low >>> 0);
  return address - (address % 2 ** (12 + mask));
}

/** Nothing is there, as for a function that nobody uses: no mistake. */
function isAbsent(reason: number): boolean {
  return (
    reason === FAULT.ROOT_NOT_PRESENT ||
    reason === FAULT.CONTEXT_NOT_PRESENT ||
    reason === FAULT.SM_ROOT_NOT_PRESENT ||
    reason === FAULT.SM_CONTEXT_NOT_PRESENT
  );
}
