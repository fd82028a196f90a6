/**
 * Which host tables a function's requests are on: nested ones, the parent, a mirror of second-stage tables, or
 * none. Each change is one host call that replaces what is there, after which the old table is freed; where the
 * host refuses it, the old one stays and HostError is thrown. (An `Attachment` has one table of its own; here each
 * PASID has one, which its binding knows, and a mirror has an IOAS besides and is attached when it is complete.)
 */
import { HwptAllocFlags, HwptDataType, HWPT_VTD_S1, HWPT_VTD_S1_BYTES, HwptVtdS1Flags, type IommufdDevice, refusalOf } from "../../iommufd/index.js";
import { attachMade, type Budget, type Graveyard, HOST_CALL_STEPS } from "../../nesting/index.js";
import type { Log } from "../../support/index.js";
import type { VtdForBackend } from "../device/index.js";
import * as trace from "./trace.js";
import type { PasidView } from "../lookup/index.js";
import { refusesReadOnly } from "./compatibility.js";
import { GuestDomains } from "./domains.js";
import type { PasidIotlbForwarder } from "./invalidations.js";
import type { PassthroughFunction, PasidBinding, VtdFunctionTable } from "./function.js";
import { MOST_TOLD } from "./limits.js";
import { Mirror, type MirrorParts } from "./mirror.js";
import { MirrorRuns } from "./mirror-runs.js";

export class FunctionAttachments {
  /** Tables attached in the place of others, of any kind; bindings made, replaced and taken away. */
  readonly counts = { bound: 0, replaced: 0, unbound: 0 };
  private readonly mirrorParts: MirrorParts;

  constructor(
    private readonly unit: VtdForBackend,
    private readonly name: () => string,
    private readonly forwarder: PasidIotlbForwarder,
    private readonly graveyard: Graveyard,
    /** Steps that may still be taken: host calls count. */
    private readonly budget: Budget,
    private readonly mostBindings: number,
    private readonly log: Log,
  ) {
    this.mirrorParts = { memory: unit.memory, words: unit.words, graveyard, log };
  }

  /** Tables of requests without PASID are made for a function that has others, too. */
  private get pasidFlag(): number {
    const { fsts, pasidBits } = this.unit.properties;
    return fsts && pasidBits > 0 ? HwptAllocFlags.PASID : 0;
  }

  /** A PASID goes to a nested table for the first-stage tables that its entry names. */
  bindNested(fn: PassthroughFunction, pasid: number, view: PasidView): void {
    const flags =
      (view.supervisor ? HwptVtdS1Flags.SRE : 0) |
      (view.extendedAccessed ? HwptVtdS1Flags.EAFE : 0) |
      (view.writeProtect ? HwptVtdS1Flags.WPE : 0);
    const width = view.firstStageLevels === 5 ? 57 : 48;
    const old = fn.bindings.get(pasid);
    if (old !== undefined && !old.stale && old.hwptId !== null && old.flags === flags && old.width === width && old.base === view.firstStagePointer) {
      this.keep(old, view);
      return;
    }
    const { host } = fn;
    this.budget.left -= 2 * HOST_CALL_STEPS;
    const make = (): number =>
      host.iommufd.hwptAlloc({
        flags: this.pasidFlag,
        devId: host.devId,
        ptId: host.parentHwptId,
        dataType: HwptDataType.VTD_S1,
        data: firstStageData(flags, view.firstStagePointer, width),
      });
    const hwptId = attachMade(host, this.graveyard, make, pasid === fn.ridPasid ? undefined : pasid);
    this.traceAttached(fn, pasid, hwptId);
    this.bound(fn, pasid, view.domain, { hwptId, faultsDisabled: view.faultsDisabled, flags, width, base: view.firstStagePointer });
    if (pasid === fn.ridPasid) {
      this.dropGrowing(fn);
      this.onTable(fn, "nested");
    }
  }

  /** Why a PASID beside that of requests without one cannot have a binding; null: it can. */
  noRoom(fn: PassthroughFunction, pasid: number): string | null {
    return fn.bindings.size < this.mostBindings || fn.bindings.has(pasid) ? null : `the guest binds more than ${this.mostBindings} PASIDs of a function`;
  }

  /** A PASID goes to the parent: pass-through. */
  bindParent(fn: PassthroughFunction, pasid: number, view: PasidView): void {
    const old = fn.bindings.get(pasid);
    if (old !== undefined && old.hwptId === null) {
      this.keep(old, view);
      return;
    }
    if (pasid === fn.ridPasid) {
      this.attachParentTable(fn);
    } else {
      this.budget.left -= HOST_CALL_STEPS;
      fn.host.attach(fn.host.parentHwptId, pasid);
      this.traceAttached(fn, pasid, fn.host.parentHwptId);
    }
    this.bound(fn, pasid, view.domain, { hwptId: null, faultsDisabled: view.faultsDisabled, flags: 0, width: 0, base: 0 });
  }

  /** A binding is on the table that its entry names. A mirror begun for what the entry named in between is not wanted. */
  private keep(binding: PasidBinding, view: PasidView): void {
    const { fn } = binding;
    if (binding.pasid === fn.ridPasid) {
      this.dropGrowing(fn);
    }
    this.forwarder.retag(binding, view.domain);
    binding.faultsDisabled = view.faultsDisabled;
    this.settled(fn, binding.pasid);
  }

  /** Notes a binding that is attached; the table that it replaces is freed. */
  private bound(fn: PassthroughFunction, pasid: number, domain: number, what: Pick<PasidBinding, "hwptId" | "faultsDisabled" | "flags" | "width" | "base">): void {
    const old = fn.bindings.get(pasid);
    if (old === undefined) {
      this.counts.bound++;
    } else {
      this.counts.replaced++;
      this.forget(old);
    }
    const domains = old === undefined ? new GuestDomains(domain) : old.domains.succeededBy(domain);
    const binding: PasidBinding = { fn, pasid, domains, ...what, stale: false, batch: null, sibling: null };
    fn.bindings.set(pasid, binding);
    this.settled(fn, pasid);
    this.forwarder.add(binding);
  }

  /** A PASID is where its entry says. */
  private settled(fn: PassthroughFunction, pasid: number): void {
    fn.blockedPasids.delete(pasid);
    fn.refused.delete(pasid);
    fn.kept.delete(pasid);
  }

  /** Takes a binding out of the books, and frees its nested HWPT. Its PASID is on something else already. */
  private forget(binding: PasidBinding): void {
    const { fn, hwptId } = binding;
    this.forwarder.remove(binding);
    fn.bindings.delete(binding.pasid);
    fn.kept.delete(binding.pasid);
    if (hwptId !== null) {
      this.budget.left -= HOST_CALL_STEPS;
      this.graveyard.destroy(fn.host.iommufd, hwptId, "nested HWPT");
    }
  }

  /** A PASID loses its table. Where the host refuses to detach it, the binding stays. */
  unbind(binding: PasidBinding): void {
    const { fn, pasid } = binding;
    this.budget.left -= HOST_CALL_STEPS;
    fn.host.detach(pasid);
    if (trace.traceDeviceDetachHwpt.on) {
      trace.traceDeviceDetachHwpt.emit(fn.host.devId, pasid, 1);
    }
    this.counts.unbound++;
    this.forget(binding);
  }

  /** Requests without PASID are let nowhere; why, for people. */
  block(fn: PassthroughFunction, reason: string): void {
    this.dropGrowing(fn);
    this.detachRid(fn, reason);
  }

  /** The same, until the mirror that is being made is there. */
  blockMeanwhile(fn: PassthroughFunction): void {
    this.detachRid(fn, "the guest's second-stage tables are being mirrored");
  }

  private detachRid(fn: PassthroughFunction, reason: string): void {
    if (fn.table !== "blocked") {
      this.budget.left -= HOST_CALL_STEPS;
      fn.host.detach();
      if (trace.traceDeviceDetachHwpt.on) {
        trace.traceDeviceDetachHwpt.emit(fn.host.devId, fn.ridPasid, 1);
      }
      this.unboundRid(fn);
      this.onTable(fn, "blocked");
    }
    fn.reason = reason;
    if (trace.traceDeviceBlocked.on) {
      trace.traceDeviceBlocked.emit(fn.host.devId, fn.ridPasid, reason);
    }
  }

  /** A PASID other than that of requests without one has no table though its entry is present, or may not be used; why, for people. */
  tellBlocked(fn: PassthroughFunction, pasid: number, reason: string): void {
    if (fn.blockedPasids.size < MOST_TOLD || fn.blockedPasids.has(pasid)) {
      fn.blockedPasids.set(pasid, reason);
    }
    if (trace.traceDeviceBlocked.on) {
      trace.traceDeviceBlocked.emit(fn.host.devId, pasid, reason);
    }
  }

  /** Requests without PASID go to the parent, without a binding: translation is off. */
  attachParent(fn: PassthroughFunction): void {
    this.attachParentTable(fn);
    this.unboundRid(fn);
  }

  private attachParentTable(fn: PassthroughFunction): void {
    this.dropGrowing(fn);
    if (fn.table !== "parent") {
      const { host } = fn;
      this.budget.left -= HOST_CALL_STEPS;
      host.attach(host.parentHwptId);
      if (trace.traceDeviceReattachDefHwpt.on) {
        trace.traceDeviceReattachDefHwpt.emit(host.devId, fn.ridPasid, host.parentHwptId, 1);
      }
      this.onTable(fn, "parent");
    }
  }

  /**
   * Requests without PASID go to a mirror of the guest's second-stage tables, which `workOn` is to make: of other tables
   * than before it is a new one beside the old, so that the change is one step. Blocked where there may be none.
   */
  mirror(fn: PassthroughFunction, domain: number, tables: NonNullable<PasidView["stage2"]>): void {
    const { properties } = this.unit;
    if (properties.requireNesting || !properties.cachingMode) {
      const why = `the guest's second-stage tables would have to be mirrored, which ${properties.requireNesting ? "x-require-nesting=on forbids" : "needs caching-mode=on"}`;
      this.block(fn, why);
      this.log.guestError("vtd.no-shadow", () => `${this.name()}: ${fn.host.name} is blocked: ${why}`);
      return;
    }
    const { shadow, growing } = fn;
    if (shadow?.follows(tables) === true && growing?.follows(tables) !== true) {
      this.dropGrowing(fn);
    }
    const { mirror } = fn;
    if (mirror?.follows(tables) === true) {
      mirror.domains.change(domain);
      mirror.invalidateAll();
      return;
    }
    this.dropGrowing(fn);
    const domains = shadow?.domains.succeededBy(domain) ?? new GuestDomains(domain);
    fn.growing = this.makeMirror(fn.host, tables, domains, new MirrorRuns());
  }

  /**
   * A first stage, which the host takes by default, has the lower half of its addresses alone; a nesting parent is a
   * second stage and has all, where it takes read-only mappings.
   */
  private makeMirror(host: IommufdDevice, tables: NonNullable<PasidView["stage2"]>, domains: GuestDomains, runs: MirrorRuns): Mirror {
    const flags = this.pasidFlag;
    const mirror = Mirror.make(host, flags, tables, domains, runs, this.mirrorParts);
    if (mirror.addressBits >= tables.inputBits || refusesReadOnly(host.hwInfo)) {
      return mirror;
    }
    let wide = mirror;
    const refusal = refusalOf(() => (wide = Mirror.make(host, flags | HwptAllocFlags.NEST_PARENT, tables, domains, runs, this.mirrorParts)));
    if (refusal === null) {
      mirror.free();
    }
    return wide;
  }

  /** Goes on with a function's mirror; when a new one is complete the function goes there. Throws HostError and GuestLimit. */
  workOn(fn: PassthroughFunction): void {
    fn.mirror?.work(this.budget);
    if (fn.mirror?.torn === true) {
      this.renew(fn, fn.mirror);
    }
    const { mirror } = fn;
    if (mirror !== null && mirror === fn.growing && !mirror.working) {
      fn.host.attach(mirror.hwptId);
      fn.growing = null;
      this.unboundRid(fn);
      this.onTable(fn, "shadow");
      fn.shadow = mirror;
    }
  }

  /** A mapping of a mirror has to go in part, which cannot be without a gap: another mirror of the same tables is begun. */
  private renew(fn: PassthroughFunction, { tables, domains, runs }: Mirror): void {
    this.dropGrowing(fn);
    fn.growing = this.makeMirror(fn.host, tables, domains.succeededBy(domains.current), runs);
    fn.growing.work(this.budget);
  }

  private dropGrowing(fn: PassthroughFunction): void {
    const { growing } = fn;
    fn.growing = null;
    growing?.free();
  }

  private traceAttached(fn: PassthroughFunction, pasid: number, hwptId: number): void {
    if (trace.traceDeviceAttachHwpt.on) {
      trace.traceDeviceAttachHwpt.emit(fn.host.devId, pasid, hwptId, 1);
    }
  }

  /** Requests without PASID are on another kind of table now: a mirror that they leave is freed. */
  private onTable(fn: PassthroughFunction, table: VtdFunctionTable): void {
    fn.table = table;
    fn.reason = null;
    fn.stale = false;
    const { shadow } = fn;
    fn.shadow = null;
    shadow?.free();
  }

  /** Requests without PASID have left the table of their binding. */
  private unboundRid(fn: PassthroughFunction): void {
    const binding = fn.bindings.get(fn.ridPasid);
    if (binding !== undefined) {
      this.counts.unbound++;
      this.forget(binding);
    }
  }

  /** Gives a function back: attached to its parent, all else freed. Never throws for a refused host call. */
  giveBack(fn: PassthroughFunction): void {
    for (const binding of fn.bindings.values()) {
      if (binding.pasid !== fn.ridPasid) {
        this.quietly(fn, () => this.unbind(binding), () => this.forget(binding));
      }
    }
    this.quietly(fn, () => this.attachParent(fn), () => {
      this.unboundRid(fn);
      this.onTable(fn, "blocked");
    });
  }

  /** A step of `giveBack`; where the host refuses it, what is left is freed when the device is closed. */
  private quietly(fn: PassthroughFunction, step: () => void, otherwise: () => void): void {
    const refusal = refusalOf(step);
    if (refusal !== null) {
      this.log.warn(`Detaching from HWPT failed: ${fn.host.name}: ${refusal.message}; its objects are freed when it is closed`);
      otherwise();
    }
  }
}

/** struct iommu_hwpt_vtd_s1. `base` in bytes, `width` in bits. */
function firstStageData(flags: number, base: number, width: number): Uint8Array {
  const words = new Int32Array(HWPT_VTD_S1_BYTES / 4);
  words[HWPT_VTD_S1.FLAGS / 4] = flags;
  words[HWPT_VTD_S1.PGTBL_ADDR / 4] = base;
  words[HWPT_VTD_S1.PGTBL_ADDR / 4 + 1] = Math.floor(base / 2 ** 32);
  words[HWPT_VTD_S1.ADDR_WIDTH / 4] = width;
  return new Uint8Array(words.buffer);
}
