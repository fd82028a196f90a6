/**
 * The passed-through functions of one VT-d unit: what the guest's context and PASID entries say becomes
 * tables of the host.
 *
 * Every function is, at every moment, on one table for its requests without PASID, or blocked; each of its
 * other PASIDs has a table of its own or none. A change is one replacing attach; when the host refuses it, the
 * function (or PASID) is blocked, and when even that fails it keeps the table that it has. First-stage tables
 * of the guest are never read here.
 */
import type { ObjectAccount, TableAccount } from "../../iommufd/index.js";
import { Budget, Graveyard, HOST_CALL_STEPS } from "../../nesting/index.js";
import type { HostIommuDevice, PciBus } from "../../pci/index.js";
import { type Log, Refusal, toNumber } from "../../support/index.js";
import type { BackendProgress, VtdBackend, VtdForBackend } from "../device/index.js";
import { checkFunction, checkUsableAddresses } from "./compatibility.js";
import * as trace from "./trace.js";
import { FunctionAttachments } from "./attachments.js";
import { HostFaults } from "./events.js";
import { guestReason } from "./fault-reasons.js";
import { PasidIotlbForwarder } from "./invalidations.js";
import { accountOf, PassthroughFunction, type VtdFunctionAccount } from "./function.js";
import { objectsOf, tablesOf } from "./tables.js";
import { MOST_BINDINGS } from "./limits.js";
import { Placement } from "./placement.js";
import { WorkInSteps } from "./steps.js";
import { EVERYWHERE } from "./mirror-walk.js";
import { TTM_SCALABLE } from "../spec/index.js";

/** Descriptors that are collected before they are sent, at the most. */
const BATCH_CAPACITY = 4096;

/** Tables that they are for, each of which needs a host call. */
const MOST_TABLES = 512;

export class VtdAcceleration implements VtdBackend {
  private readonly functions: PassthroughFunction[] = [];
  private readonly forwarder: PasidIotlbForwarder;
  private readonly graveyard: Graveyard;
  private readonly attachments: FunctionAttachments;
  private readonly placement: Placement;
  private readonly budget: Budget;
  private readonly steps: WorkInSteps;
  private deliveredBefore = 0;

  /** @param mostBindings PASIDs of one function that are bound at a time, at the most */
  constructor(
    private readonly unit: VtdForBackend,
    private readonly log: Log,
    mostBindings = MOST_BINDINGS,
  ) {
    this.budget = new Budget(unit.stepsAtOnce);
    this.graveyard = new Graveyard(log, "vtd.destroy");
    this.forwarder = new PasidIotlbForwarder(() => this.name, log);
    this.attachments = new FunctionAttachments(unit, () => this.name, this.forwarder, this.graveyard, this.budget, mostBindings, log);
    this.placement = new Placement(unit, () => this.name, this.attachments, this.budget, log);
    this.steps = new WorkInSteps(unit, this.functions, this.placement, this.forwarder, this.budget);
  }

  /** `intel-iommu 'iommu0'`. */
  private get name(): string {
    return `intel-iommu '${this.unit.id}'`;
  }

  get pending(): number {
    return this.forwarder.pending;
  }

  get capacity(): number {
    return this.forwarder.tables < MOST_TABLES ? BATCH_CAPACITY : 1;
  }

  /** HWPT_INVALIDATE calls, and entries of them that were done. */
  get invalidateCalls(): number {
    return this.forwarder.calls;
  }

  /** The host's error to the last of them; null: there was none. */
  get batchError(): string | null {
    return this.forwarder.errno;
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

  get stepsTaken(): number {
    return this.budget.taken;
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
    return this.functions.map(accountOf);
  }

  /** Which tables the functions and their PASIDs are on, and why. */
  tables(): TableAccount[] {
    return this.functions.flatMap((fn) => tablesOf(fn, this.unit));
  }

  /** What it has made on the host, parents aside. */
  hostObjects(): ObjectAccount[] {
    return this.functions.flatMap(objectsOf);
  }

  // ---- functions come and go ----

  /** Throws Refusal where this unit, or the host's IOMMU behind the function, cannot serve it: properties and capabilities alone. */
  checkFunction(device: HostIommuDevice): void {
    checkFunction(device, this.unit.properties, this.name);
  }

  /**
   * A passed-through function at (bus, devfn) joins. Throws Refusal where this unit or the host's IOMMU cannot serve
   * it, and HostError; then nothing is left, and the function stays on its parent. What a guest's entries ask for is
   * no reason against it: where that cannot be had, the function is blocked.
   */
  addFunction(bus: PciBus, devfn: number, device: HostIommuDevice): void {
    const { properties } = this.unit;
    checkFunction(device, properties, this.name);
    checkUsableAddresses(device, properties, this.name);
    const fn = new PassthroughFunction(bus, devfn, device);
    this.functions.push(fn);
    this.budget.refill();
    try {
      fn.faults = HostFaults.open(
        device,
        {
          get sourceId() {
            return fn.sourceId;
          },
          reasonOf: (pasid, reason, write, address) => guestReason(fn, (of) => this.placement.reasonAgainst(fn, of), this.unit.tableMode, pasid, reason, write, address),
          recordFault: (record) => this.unit.recordFault(record),
          faultsLost: () => this.unit.faultsLost(),
        },
        this.log,
      );
      this.settle([fn]);
      this.checkGuarded(fn);
    } catch (error) {
      this.release(fn);
      this.functions.splice(this.functions.indexOf(fn), 1);
      throw error;
    }
    if (!properties.cachingMode) {
      this.log.warnOnce(
        `${this.name} has caching-mode=off: its guest need not tell of a context or PASID entry that has become present, and DMA of a passed-through function may be blocked ` +
          `until the guest invalidates something or switches bus mastering on${properties.pasidBits > 0 ? ", DMA with a PASID until an invalidation covers that PASID" : ""} (caching-mode=on would work)`,
      );
    }
  }

  /** A function that could be put neither where the guest's entries say nor out of the way must not come. */
  private checkGuarded(fn: PassthroughFunction): void {
    this.placement.blockMeanwhile(fn);
    if (fn.table === "parent" && fn.unsettled && this.unit.translationEnabled) {
      throw new Refusal("Detaching from HWPT failed", {
        found: `${fn.host.name} behind ${this.name}: the host takes it neither to the table that the guest's entries name nor off its own`,
        wouldWork: "the same again, once the host has resources",
      });
    }
  }

  /** The function leaves: back to its parent, its objects freed. Never throws for a refused host call. */
  removeFunction(bus: PciBus, devfn: number): void {
    const index = this.functions.findIndex((fn) => fn.bus === bus && fn.devfn === devfn);
    if (index >= 0) {
      const [fn] = this.functions.splice(index, 1);
      this.release(fn);
      this.retryRefused();
      this.steps.goOnLater();
    }
  }

  /** The guest gave buses new numbers: functions whose source id is another now go where its entries say. */
  busNumbersChanged(): void {
    this.budget.refill();
    const moved = this.functions.filter((fn) => fn.sourceId !== fn.settledSourceId);
    this.retry(false);
    this.settle(moved);
    for (const fn of moved) {
      this.placement.blockMeanwhile(fn);
    }
  }

  /** A driver of the guest begins with its function, whose entries it has written before. */
  busMasteringEnabled(bus: PciBus, devfn: number): void {
    this.retryRefused();
    this.lookAgain(this.functions.filter((fn) => fn.bus === bus && fn.devfn === devfn));
  }

  /**
   * A request was refused where nothing is bound. Without caching mode the guest's entry may have become present
   * without a word (6.1): then it is bound now, and the user is told what was lost.
   */
  requestUnbound(bus: PciBus, devfn: number, pasid: number | null): void {
    const fn = this.functions.find((one) => one.bus === bus && one.devfn === devfn);
    if (fn === undefined || this.unit.properties.cachingMode || !this.unit.translationEnabled) {
      return;
    }
    const isBound = (): boolean => (pasid === null ? fn.absent === null : fn.bindings.has(pasid));
    if (isBound()) {
      return;
    }
    this.placement.settlePasid(fn, pasid ?? fn.ridPasid);
    this.steps.goOnLater();
    if (isBound()) {
      this.log.warnOnce(
        `${this.name}: DMA of ${fn.host.name}${pasid === null ? "" : " with a PASID"} was refused although the guest's tables have an entry for it, which became present without an invalidation: caching-mode=on would work`,
      );
    }
  }

  private lookAgain(functions: readonly PassthroughFunction[]): void {
    if (this.unit.properties.cachingMode) {
      return;
    }
    for (const fn of functions) {
      this.placement.lookAgain(fn);
    }
    this.steps.goOnLater();
    this.steps.invalidateKept();
  }

  /** Puts functions where the tables say, and invalidates what has to be. False where one did not get there. */
  private settle(functions: readonly PassthroughFunction[]): boolean {
    let done = true;
    for (const fn of functions) {
      done = this.placement.settle(fn) && done;
    }
    this.steps.goOnLater();
    return this.steps.invalidateKept() && done;
  }

  // ---- VtdBackend ----

  get progress(): BackendProgress {
    return this.steps.progress;
  }

  proceed(): void {
    this.steps.proceed();
  }

  dispose(): void {
    this.steps.dispose();
  }

  /** What is kept is invalidated, too: the pointer's command drops context cache, PASID cache and IOTLB (6.6, CAP.ESRTPS). */
  tablesChanged(): void {
    this.forwarder.drop();
    this.settle(this.functions);
    for (const fn of this.functions) {
      this.steps.flushWhole(fn, -1);
    }
    this.steps.goOnLater();
    this.steps.invalidateKept();
  }

  reset(): void {
    this.functions.forEach(({ faults }) => faults?.resume());
    this.tablesChanged();
  }

  retryRefused(): void {
    this.retry(true);
  }

  private retry(all: boolean): void {
    this.budget.refill();
    const refused = this.functions.filter((fn) => fn.unsettled || fn.refused.size > 0 || fn.manyRefused);
    if (refused.length > 0) {
      refused.forEach((fn) => this.placement.retry(fn, all));
      this.steps.goOnLater();
      this.steps.invalidateKept();
    }
  }

  contextCacheInvalidated(sourceId: number, sourceMask: number): boolean {
    if (!this.unit.translationEnabled) {
      return true;
    }
    const meant: PassthroughFunction[] = [];
    for (const fn of this.functions) {
      const own = fn.sourceId;
      if (sourceId < 0 || (own !== null && (own & ~sourceMask) === (sourceId & ~sourceMask))) {
        if (sourceId >= 0 && own !== null && trace.tracePasidCacheDevsi.on) {
          trace.tracePasidCacheDevsi.emit(own >> 8, (own >> 3) & 0x1f, own & 7);
        }
        meant.push(fn);
      }
    }
    return this.settle(meant);
  }

  pasidCacheInvalidated(pasid: number): boolean {
    if (!this.unit.translationEnabled || this.unit.tableMode !== TTM_SCALABLE) {
      return true;
    }
    if (pasid < 0) {
      return this.settle(this.functions);
    }
    let done = true;
    for (const fn of this.functions) {
      done = this.placement.settlePasid(fn, pasid) && done;
    }
    this.steps.goOnLater();
    return this.steps.invalidateKept() && done;
  }

  iotlbInvalidated(domainId: number, addressHigh: number, addressLow: number, addressMask: number): boolean {
    const first = addressMask < 0 ? 0 : pageRange(addressHigh, addressLow, addressMask);
    const last = addressMask < 0 ? EVERYWHERE : first + 2 ** (12 + addressMask) - 1;
    const done = this.synchronizeShadows(domainId, first, last);
    // Translations that a first stage had a part in go with their domain (6.5.1.2, table 23).
    for (const fn of this.functions) {
      this.steps.flushWhole(fn, domainId);
    }
    this.steps.goOnLater();
    return this.steps.invalidateKept() && done;
  }

  /** A PASID-selective one drops second-stage translations of the domain, too (table 24). */
  pasidIotlbInvalidated(domainId: number, addressMask: number): boolean {
    return addressMask >= 0 || this.synchronizeShadows(domainId, 0, EVERYWHERE);
  }

  private synchronizeShadows(domainId: number, first: number, last: number): boolean {
    let done = true;
    for (const fn of this.functions) {
      if (fn.mirror !== null && (domainId < 0 || fn.mirror.domains.has(domainId))) {
        done = this.placement.synchronize(fn, first, last) && done;
      }
    }
    this.steps.goOnLater();
    return done;
  }

  forwardPasidIotlb(domainId: number, pasid: number, addressHigh: number, addressLow: number, addressMask: number, leaf: boolean): boolean {
    return this.forwarder.take(domainId, pasid, addressHigh, addressLow, addressMask, leaf);
  }

  flush(): number {
    return this.sendInvalidations();
  }

  /**
   * Sends what is collected. Where the host could not do it for a binding, that is taken away, which the kernel
   * does with an invalidation of its own (Linux intel_pasid_tear_down_entry), until the queue has done its work.
   * Returns the first invalidation that is not done, -1: none.
   */
  private sendInvalidations(): number {
    this.budget.left -= HOST_CALL_STEPS * this.forwarder.tables;
    let failed = this.forwarder.send();
    for (const { binding, ordinal, undelivered } of this.forwarder.refused) {
      if (undelivered && !this.placement.dropStale(binding)) {
        failed = failed < 0 ? ordinal : Math.min(failed, ordinal);
      }
    }
    return failed;
  }

  descriptorsDone(): void {
    // With `true` the end of a sweep whose every PASID the host refuses would be the beginning of the next.
    this.retry(false);
    this.lookAgain(this.functions);
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
  const address = toNumber(high, low);
  return address - (address % 2 ** (12 + mask));
}
