/**
 * The passed-through functions of one VT-d unit: what the guest's context and PASID entries say becomes
 * tables of the host.
 *
 * Every function is, at every moment, on one table for its requests without PASID, or blocked; each of its
 * other PASIDs has a table of its own or none. A change is one replacing attach; when the host refuses it, the
 * function (or PASID) is blocked, and when even that fails it keeps the table that it has. First-stage tables
 * of the guest are never read here.
 */
import { HostError, HwptAllocFlags, HwptDataType, HWPT_VTD_S1, HWPT_VTD_S1_BYTES, HwptVtdS1Flags, type IommufdDevice, isIommufdDevice } from "../iommufd/index.js";
import { Graveyard } from "../nesting/index.js";
import type { HostIommuDevice, PciBus } from "../pci/index.js";
import { hex, type Log, Refusal } from "../support/index.js";
import type { VtdBackend, VtdForBackend } from "./backend.js";
import { checkHostServes } from "./compatibility.js";
import * as trace from "./device-trace.js";
import { HostFaults } from "./host-faults.js";
import {
  ContextView,
  GuestTables,
  PASID_FIRST_STAGE,
  PASID_INVALID,
  PASID_NOT_PRESENT,
  PASID_PASS_THROUGH,
  PASID_SECOND_STAGE,
  PasidView,
} from "./lookup/index.js";
import { PasidIotlbForwarder } from "./pasid-iotlb-forwarder.js";
import { PassthroughFunction, type PasidBinding, type VtdFunctionTable } from "./passthrough-function.js";
import { ShadowDomain, ShadowLimit } from "./shadow-domain.js";
import { FAULT, FAULT_RECORD_WORDS, fillFault, TTM_LEGACY, TTM_SCALABLE } from "./spec/index.js";

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
  /** Tables attached in the place of others, of any kind; bindings made, replaced and taken away. */
  readonly counts = { bound: 0, replaced: 0, unbound: 0 };

  private readonly functions: PassthroughFunction[] = [];
  private readonly forwarder: PasidIotlbForwarder;
  private readonly graveyard: Graveyard;
  private readonly tables: GuestTables;
  private readonly context = new ContextView();
  private readonly entry = new PasidView();
  private readonly record = new Int32Array(FAULT_RECORD_WORDS);
  private generation = 0;
  private deliveredBefore = 0;

  constructor(
    private readonly unit: VtdForBackend,
    private readonly log: Log,
  ) {
    this.graveyard = new Graveyard(log, "vtd.destroy");
    this.forwarder = new PasidIotlbForwarder(() => this.name, log);
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
        this.block(fn);
        this.recordUnless(context.faultsDisabled || fn.absent, reason, sourceId, -1);
      } else if (context.stage2 === undefined) {
        this.attachParent(fn);
      } else {
        this.attachShadow(fn, context.domain, context.stage2);
      }
      return unbound;
    }
    const unbound = this.unbindAll(fn);
    if (unit.translationEnabled) {
      this.block(fn);
    } else {
      this.attachParent(fn);
    }
    return unbound;
  }

  private settleScalable(fn: PassthroughFunction, sourceId: number): boolean {
    const { context, tables } = this;
    const generation = ++this.generation;
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
      this.block(fn);
      return "it is blocked";
    } catch (second) {
      if (!(second instanceof HostError)) {
        throw second;
      }
      return `it keeps its ${fn.table} table (Detaching from HWPT failed: ${second.message})`;
    }
  }

  // ---- tables of requests without PASID, and of PASIDs ----

  /** Puts a PASID where its entry says. Throws HostError; then the PASID has its old table. */
  private place(fn: PassthroughFunction, sourceId: number, pasid: number, view: PasidView): void {
    switch (view.kind) {
      case PASID_FIRST_STAGE:
        this.bindNested(fn, pasid, view);
        return;
      case PASID_PASS_THROUGH:
        this.bindParent(fn, pasid, view);
        return;
      case PASID_SECOND_STAGE:
        if (pasid === fn.ridPasid && view.stage2 !== undefined) {
          this.attachShadow(fn, view.domain, view.stage2);
          return;
        }
        break;
    }
    const binding = fn.bindings.get(pasid);
    if (pasid === fn.ridPasid) {
      fn.absent = view.kind === PASID_NOT_PRESENT;
      this.block(fn);
    } else if (binding !== undefined) {
      this.unbind(binding);
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
      this.unbind(binding);
      return true;
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.warn(binding.fn, `Detaching from HWPT failed: PASID ${hex(binding.pasid)} keeps its table: ${error.message}`);
      return false;
    }
  }

  private bindNested(fn: PassthroughFunction, pasid: number, view: PasidView): void {
    const flags =
      (view.supervisor ? HwptVtdS1Flags.SRE : 0) |
      (view.extendedAccessed ? HwptVtdS1Flags.EAFE : 0) |
      (view.writeProtect ? HwptVtdS1Flags.WPE : 0);
    const width = view.firstStageLevels === 5 ? 57 : 48;
    const old = fn.bindings.get(pasid);
    if (old !== undefined && old.hwptId !== null && old.flags === flags && old.width === width && old.base === view.firstStagePointer) {
      this.forwarder.retag(old, view.domain);
      old.faultsDisabled = view.faultsDisabled;
      return;
    }
    const { host } = fn;
    const hwptId = host.iommufd.hwptAlloc({
      flags: this.unit.properties.pasidBits > 0 ? HwptAllocFlags.PASID : 0,
      devId: host.devId,
      ptId: host.parentHwptId,
      dataType: HwptDataType.VTD_S1,
      data: firstStageData(flags, view.firstStagePointer, width),
    });
    try {
      this.attach(fn, pasid, hwptId);
    } catch (error) {
      this.graveyard.destroy(host.iommufd, hwptId, "nested HWPT");
      throw error;
    }
    this.bound(fn, pasid, { hwptId, domain: view.domain, faultsDisabled: view.faultsDisabled, flags, width, base: view.firstStagePointer });
    if (pasid === fn.ridPasid) {
      this.onTable(fn, "nested");
    }
  }

  private bindParent(fn: PassthroughFunction, pasid: number, view: PasidView): void {
    const old = fn.bindings.get(pasid);
    if (old !== undefined && old.hwptId === null) {
      this.forwarder.retag(old, view.domain);
      old.faultsDisabled = view.faultsDisabled;
      return;
    }
    if (pasid === fn.ridPasid) {
      this.attachParentTable(fn);
    } else {
      this.attach(fn, pasid, fn.host.parentHwptId);
    }
    this.bound(fn, pasid, { hwptId: null, domain: view.domain, faultsDisabled: view.faultsDisabled, flags: 0, width: 0, base: 0 });
  }

  /** Notes a binding that is attached; the table that it replaces is freed. */
  private bound(fn: PassthroughFunction, pasid: number, what: Pick<PasidBinding, "hwptId" | "domain" | "faultsDisabled" | "flags" | "width" | "base">): void {
    const old = fn.bindings.get(pasid);
    if (old === undefined) {
      this.counts.bound++;
    } else {
      this.counts.replaced++;
      this.forget(old);
    }
    const binding: PasidBinding = { fn, pasid, ...what, batch: null, generation: this.generation };
    fn.bindings.set(pasid, binding);
    this.forwarder.add(binding);
  }

  /** Takes a binding out of the books, and frees its nested HWPT. Its PASID is on something else already. */
  private forget(binding: PasidBinding): void {
    const { fn, hwptId } = binding;
    this.forwarder.remove(binding);
    fn.bindings.delete(binding.pasid);
    if (hwptId !== null) {
      this.graveyard.destroy(fn.host.iommufd, hwptId, "nested HWPT");
    }
  }

  /** A PASID loses its table. Where the host refuses to detach it, the binding stays. */
  private unbind(binding: PasidBinding): void {
    const { fn, pasid } = binding;
    fn.host.detach(pasid);
    if (trace.traceDeviceDetachHwpt.on) {
      trace.traceDeviceDetachHwpt.emit(fn.host.devId, pasid, 1);
    }
    this.counts.unbound++;
    this.forget(binding);
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

  private block(fn: PassthroughFunction): void {
    if (fn.table !== "blocked") {
      fn.host.detach();
      if (trace.traceDeviceDetachHwpt.on) {
        trace.traceDeviceDetachHwpt.emit(fn.host.devId, fn.ridPasid, 1);
      }
      this.unboundRid(fn);
      this.onTable(fn, "blocked");
    }
  }

  private attachParent(fn: PassthroughFunction): void {
    this.attachParentTable(fn);
    this.unboundRid(fn);
  }

  private attachParentTable(fn: PassthroughFunction): void {
    if (fn.table !== "parent") {
      const { host } = fn;
      host.attach(host.parentHwptId);
      if (trace.traceDeviceReattachDefHwpt.on) {
        trace.traceDeviceReattachDefHwpt.emit(host.devId, fn.ridPasid, host.parentHwptId, 1);
      }
      this.onTable(fn, "parent");
    }
  }

  private attachShadow(fn: PassthroughFunction, domain: number, tables: NonNullable<PasidView["stage2"]>): void {
    const { properties } = this.unit;
    if (properties.requireNesting || !properties.cachingMode) {
      this.block(fn);
      this.log.guestError(
        "vtd.no-shadow",
        () =>
          `${this.name}: ${fn.host.name} is blocked: the guest's second-stage tables would have to be mirrored, which ` +
          (properties.requireNesting ? "x-require-nesting=on forbids" : "needs caching-mode=on"),
      );
      return;
    }
    // Another domain or other tables: a new mirror beside the old one, so that the change is one step.
    const fresh = fn.table !== "shadow" || fn.shadow === null || fn.shadowDomain !== domain;
    const shadow = fresh ? ShadowDomain.make(fn.host, this.unit.memory, this.unit.words, this.graveyard, this.log) : fn.shadow!;
    try {
      shadow.synchronize(tables, 0, 2 ** tables.inputBits - 1);
      if (fresh) {
        fn.host.attach(shadow.hwptId);
      }
    } catch (error) {
      if (fresh) {
        shadow.free(this.graveyard);
      }
      throw error;
    }
    if (fresh) {
      const old = fn.shadow;
      fn.shadow = shadow;
      fn.shadowDomain = domain;
      fn.table = "shadow";
      old?.free(this.graveyard);
      this.unboundRid(fn);
    }
  }

  private attach(fn: PassthroughFunction, pasid: number, hwptId: number): void {
    const { host } = fn;
    host.attach(hwptId, pasid === fn.ridPasid ? undefined : pasid);
    if (trace.traceDeviceAttachHwpt.on) {
      trace.traceDeviceAttachHwpt.emit(host.devId, pasid, hwptId, 1);
    }
  }

  /** Requests without PASID are on another kind of table now: a mirror that they leave is freed. */
  private onTable(fn: PassthroughFunction, table: VtdFunctionTable): void {
    fn.table = table;
    const { shadow } = fn;
    fn.shadow = null;
    fn.shadowDomain = -1;
    shadow?.free(this.graveyard);
  }

  /** Requests without PASID have left the table of their binding. */
  private unboundRid(fn: PassthroughFunction): void {
    const binding = fn.bindings.get(fn.ridPasid);
    if (binding !== undefined) {
      this.counts.unbound++;
      this.forget(binding);
    }
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

  /** Gives a function back: attached to its parent, all else freed. */
  private release(fn: PassthroughFunction): void {
    const { host } = fn;
    for (const binding of [...fn.bindings.values()]) {
      if (binding.pasid !== fn.ridPasid) {
        this.quietly(fn, () => this.unbind(binding), () => this.forget(binding));
      }
    }
    this.quietly(fn, () => this.attachParent(fn), () => {
      this.unboundRid(fn);
      this.onTable(fn, "blocked");
    });
    if (fn.faults !== null) {
      this.deliveredBefore += fn.faults.delivered;
      fn.faults.close();
      fn.faults = null;
    }
    host.onClosed(() => this.graveyard.retry());
  }

  /** A step of `release`; where the host refuses it, what is left is freed when the device is closed. */
  private quietly(fn: PassthroughFunction, step: () => void, otherwise: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.log.warn(`Detaching from HWPT failed: ${fn.host.name}: ${error.message}; its objects are freed when it is closed`);
      otherwise();
    }
  }
}

/** struct iommu_hwpt_vtd_s1. `base` in bytes, `width` in bits. */
function firstStageData(flags: number, base: number, width: number): Uint8Array {
  const data = new Uint8Array(HWPT_VTD_S1_BYTES);
  const view = new DataView(data.buffer);
  view.setBigUint64(HWPT_VTD_S1.FLAGS, BigInt(flags), true);
  view.setBigUint64(HWPT_VTD_S1.PGTBL_ADDR, BigInt(base), true);
  view.setUint32(HWPT_VTD_S1.ADDR_WIDTH, width, true);
  return data;
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
