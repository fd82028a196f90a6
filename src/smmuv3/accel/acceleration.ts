/**
 * The acceleration of one SMMUv3: what the guest programs becomes tables and invalidations of the host. Functions
 * come and go here; which table each is on is `placement.ts`, invalidations are `invalidations.ts`.
 *
 * Every function behind it is, at every moment, attached to one table: the stage-2 parent (until the SMMU
 * takes it over), the abort or bypass table, or a nested one of its own. Nothing here reads a context descriptor
 * or a page table of the guest.
 */
import { HostError, isIommufdDevice, type IommufdDevice, type ObjectAccount, refusalOf, type TableAccount } from "../../iommufd/index.js";
import { Graveyard } from "../../nesting/index.js";
import { type HostIommuDevice, iommuPath, type PciBus } from "../../pci/index.js";
import { hex, type Log, Refusal, traceEvent } from "../../support/index.js";
import { BATCH_REFUSED, type SmmuBackend, type SmmuForBackend, UNFINISHED } from "../device/index.js";
import { CERROR_ILL, CERROR_NONE } from "../spec/index.js";
import { BATCH_CAPACITY } from "./batch.js";
import { checkHostServes, hostIdRegisters, hostWarnings, losesInvalidations } from "./compatibility.js";
import { VeventReader } from "./events.js";
import { AcceleratedFunction, type FunctionAccount } from "./function.js";
import { CommandForwarder } from "./invalidations.js";
import { ViommuObjects } from "./objects.js";
import { type AccelerationProperties, FeatureOffer } from "./offer.js";
import { Placement } from "./placement.js";

const traceSet = traceEvent("smmuv3_accel_set_iommu_device", "devfn=0x%x (idev devid=0x%x)");
const traceUnset = traceEvent("smmuv3_accel_unset_iommu_device", "devfn=0x%x (idev devid=0x%x)");

export class SmmuAcceleration implements SmmuBackend {
  readonly capacity = BATCH_CAPACITY;

  private objects: ViommuObjects | null = null;
  private events: VeventReader | null = null;
  private readonly functions: AcceleratedFunction[] = [];
  private readonly graveyard: Graveyard;
  private readonly forwarder: CommandForwarder;
  private readonly placement: Placement;
  private readonly offer: FeatureOffer;
  private deliveredBefore = 0;
  private lostBefore = 0;
  /** The configuration command that is under way, or was last, and its CERROR_ code so far. */
  private sweep = 0;
  private sweepResult = CERROR_NONE;

  constructor(
    private readonly smmu: SmmuForBackend,
    properties: AccelerationProperties,
    private readonly log: Log,
  ) {
    const { name, functions } = this;
    this.graveyard = new Graveyard(log, "smmuv3.destroy");
    this.offer = new FeatureOffer(smmu, properties);
    this.forwarder = new CommandForwarder(smmu.id, {
      name,
      functions,
      objects: () => this.objects,
      block: (fn, reason) => this.placement.block(fn, reason),
      settle: (fn) => void this.placement.settleOrBlock(fn),
      log,
    });
    this.placement = new Placement(smmu, name, this.offer, functions, this.forwarder, this.graveyard, log, () => this.objects!);
  }

  /** `arm-smmuv3 'smmu0'`. */
  private get name(): string {
    return `arm-smmuv3 '${this.smmu.id}'`;
  }

  /** PASIDs are offered to the guest, or may be once a host has told. */
  get pasidOffered(): boolean {
    return this.offer.pasid;
  }

  get atsOffered(): boolean {
    return this.offer.features.ats;
  }

  /** Commands that the host has done, and the host calls that took them. */
  get forwarded(): number {
    return this.forwarder.batch.done;
  }

  get invalidateCalls(): number {
    return this.forwarder.batch.calls;
  }

  /** The host's error to the last batch, with which it may be done all the same; null: there was none. */
  get batchError(): string | null {
    return this.forwarder.batch.errno;
  }

  get pending(): number {
    return this.forwarder.batch.pending;
  }

  /** The physical SMMU that serves this one; null: none yet. */
  get hostIommu(): string | null {
    return this.objects?.hostIommu ?? null;
  }

  /** Events of the hardware handed to the guest, and lost before. */
  get eventCounts(): { delivered: number; lost: number } {
    return {
      delivered: this.deliveredBefore + (this.events?.delivered ?? 0),
      lost: this.lostBefore + (this.events?.lost ?? 0),
    };
  }

  /** For the account: every function's StreamID, table and bindings, and why it is blocked. */
  describeFunctions(): FunctionAccount[] {
    return this.functions.map((fn) => ({
      name: fn.host.name,
      streamId: fn.streamId,
      table: fn.table,
      reason: fn.attachment.reason,
      hwptId: fn.host.attachedTo,
      vdeviceId: fn.vdeviceId,
    }));
  }

  /** Which table each function is on, and why. */
  tables(): TableAccount[] {
    return this.functions.map((fn) => ({ hostAddress: fn.host.hostAddress, pasid: null, table: fn.table, hwptId: fn.host.attachedTo, why: Placement.why(fn) }));
  }

  /** What it has made on the host. */
  hostObjects(): ObjectAccount[] {
    const { objects, events } = this;
    if (objects === null) {
      return [];
    }
    const { iommufdName: iommufd, viommuId } = objects;
    const shared = [
      { iommufd, id: viommuId, kind: "viommu", on: objects.parentHwptId, what: objects.hostIommu },
      { iommufd, id: objects.abortHwptId, kind: "hwpt-nested", on: viommuId, what: "abort" },
      { iommufd, id: objects.bypassHwptId, kind: "hwpt-nested", on: viommuId, what: "bypass" },
    ] as const;
    const nested = this.functions.flatMap((fn) => (fn.table === "nested" && fn.host.attachedTo !== null ? [{ iommufd, id: fn.host.attachedTo, kind: "hwpt-nested", on: viommuId, what: "nested" } as const] : []));
    const bound = this.functions.flatMap((fn) => (fn.vdeviceId === null ? [] : [{ iommufd, id: fn.vdeviceId, kind: "vdevice", on: viommuId, what: `vSID ${hex(fn.vdeviceStreamId)}` } as const]));
    const queues = events === null ? [] : [{ iommufd, id: events.id, kind: "veventq", on: viommuId, what: null } as const];
    return [...shared, ...nested, ...bound, ...queues];
  }

  /**
   * The machine is complete: `auto` is what it is from now on. Throws Refusal where no host has told.
   * @param elsewhere passed-through functions that sit where no accelerated SMMU covers them, for the message
   */
  freeze(elsewhere: readonly string[] = []): void {
    this.offer.freeze(this.name, elsewhere);
  }

  // ---- functions come and go ----

  /** Throws Refusal where the host's IOMMU behind the function is no SMMUv3. */
  checkHost(device: HostIommuDevice): void {
    if (isIommufdDevice(device)) {
      hostIdRegisters(device.hwInfo);
    }
  }

  /**
   * A passed-through function at (bus, devfn) joins. Throws Refusal where this vSMMU cannot serve it and
   * HostError where the host does not; then nothing is left, and the function stays on its parent.
   */
  addFunction(bus: PciBus, devfn: number, device: HostIommuDevice): void {
    if (!isIommufdDevice(device)) {
      throw new Refusal("vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on", {
        rule: "no-iommufd",
        found: `${device.name} behind ${this.name}`,
        wouldWork: "-object iommufd,id=iommufd0 and vfio-pci with iommufd=iommufd0",
      });
    }
    if (this.functions.some((fn) => fn.bus === bus && fn.devfn === devfn)) {
      throw new Refusal(`Device already has an associated hiodi 0x${device.devId.toString(16)}`, { found: `${device.name} behind ${this.name}` });
    }
    this.checkShares(bus, devfn, device);
    const host = hostIdRegisters(device.hwInfo);
    const before = this.offer.state;
    const hadObjects = this.objects !== null;
    const names = { smmu: this.name, device: device.name, hostIommu: device.hostIommu ?? "the host IOMMU" };
    try {
      if (this.objects === null) {
        this.offer.resolve(host);
      }
      checkHostServes(host, this.smmu.idr, names);
      if (this.objects === null) {
        this.objects = this.makeViommu(device);
        this.forwarder.batch.repeats = losesInvalidations(device.hwInfo);
        this.openEvents();
      }
      const fn = new AcceleratedFunction(bus, devfn, device, this.graveyard);
      this.functions.push(fn);
      this.placement.settle(fn);
      for (const warning of hostWarnings(host, this.smmu.idr, names)) {
        this.log.warnOnce(warning);
      }
      if (traceSet.on) {
        traceSet.emit(devfn, device.devId);
      }
    } catch (error) {
      const index = this.functions.findIndex((fn) => fn.host === device);
      if (index >= 0) {
        this.placement.release(this.functions[index]);
        this.functions.splice(index, 1);
      }
      if (!hadObjects) {
        this.freeViommu();
      }
      device.onClosed(() => this.graveyard.retry());
      this.offer.restore(before);
      throw error;
    }
  }

  /** The function leaves: back to its parent, its objects freed; with the last one go the vIOMMU and its tables. Never throws for a refused host call. */
  removeFunction(bus: PciBus, devfn: number): void {
    const index = this.functions.findIndex((fn) => fn.bus === bus && fn.devfn === devfn);
    if (index < 0) {
      return;
    }
    const [fn] = this.functions.splice(index, 1);
    this.placement.release(fn);
    if (traceUnset.on) {
      traceUnset.emit(devfn, fn.host.devId);
    }
    if (this.functions.length === 0) {
      this.freeViommu();
    }
    // Another function may have waited for its StreamID.
    this.settleUnbound();
  }

  /** The guest gave buses new numbers: functions whose StreamID changed are bound and attached anew. */
  busNumbersChanged(): void {
    for (const fn of this.functions) {
      if (fn.vdeviceId !== null && fn.streamId !== fn.vdeviceStreamId) {
        this.placement.unbind(fn);
      }
    }
    this.settleUnbound();
  }

  /** Functions without a vDEVICE go where their entries say, now that something has changed. */
  private settleUnbound(): void {
    this.forwarder.settleDebt();
    if (!this.smmu.translationEnabled) {
      return;
    }
    for (const fn of this.functions) {
      if (fn.vdeviceId === null) {
        this.placement.settleOrBlock(fn);
      }
    }
  }

  // ---- SmmuBackend ----

  installEntries(first: number, last: number, goOn: boolean): number {
    const { forwarder, placement, smmu } = this;
    forwarder.timedOut = false;
    if (!smmu.translationEnabled) {
      return CERROR_NONE;
    }
    if (!goOn) {
      this.sweep++;
      this.sweepResult = CERROR_NONE;
      forwarder.settleDebt();
    }
    for (const fn of this.functions) {
      const { streamId } = fn;
      if (fn.sweep === this.sweep || streamId === null || streamId < first || streamId > last) {
        continue;
      }
      if (smmu.budget.spent) {
        return UNFINISHED;
      }
      if (placement.decide(fn) && forwarder.batch.pending > 0) {
        // What is batched is older, and may be for bindings that this changes.
        if (forwarder.flush() !== CERROR_NONE) {
          return BATCH_REFUSED;
        }
        // It may have blocked the function, or changed others.
        placement.decide(fn);
      }
      if (!placement.applyOrBlock(fn)) {
        this.sweepResult = CERROR_ILL;
      }
      fn.sweep = this.sweep;
    }
    return this.sweepResult;
  }

  forward(word0: number, word1: number, word2: number, word3: number): boolean {
    return this.forwarder.forward(word0, word1, word2, word3);
  }

  flush(): number {
    return this.forwarder.flush();
  }

  get flushes(): number {
    return this.forwarder.flushes;
  }

  get flushHandled(): number {
    return this.forwarder.handled;
  }

  get flushTimedOut(): boolean {
    return this.forwarder.timedOut;
  }

  translationChanged(): void {
    this.forwarder.settleDebt();
    for (const fn of this.functions) {
      this.placement.settleOrBlock(fn);
    }
  }

  eventQueueChanged(): void {
    this.closeEvents();
    const refusal = refusalOf(() => this.openEvents());
    if (refusal !== null) {
      this.log.warnLimited("smmuv3.veventq", `${this.name}: no vEVENTQ, faults of the hardware will not reach the guest: ${refusal.message}`);
    }
  }

  reset(): void {
    this.forwarder.batch.clear();
    this.translationChanged();
    this.eventQueueChanged();
  }

  // ---- the vIOMMU ----

  /** A vSMMU is one physical SMMU, one iommufd, one stage-2 parent; a StreamID is one function. */
  private checkShares(bus: PciBus, devfn: number, device: IommufdDevice): void {
    const path = iommuPath(bus, devfn);
    const twin = this.functions.find((fn) => {
      const other = iommuPath(fn.bus, fn.devfn);
      return path.aliased && other.bus === path.bus && other.devfn === path.devfn;
    });
    if (twin !== undefined) {
      throw new Refusal("vfio-pci functions behind one PCIe-to-PCI bridge share a StreamID", {
        rule: "shared-bridge",
        found: `${device.name} and ${twin.host.name} behind ${this.name}: the bridge's requester id is all that the SMMU sees`,
        wouldWork: "each on a pcie-root-port of its own",
      });
    }
    const { objects } = this;
    if (objects === null) {
      return;
    }
    if (objects.hostIommu !== device.hostIommu) {
      throw new Refusal("A vSMMU corresponds to exactly one physical SMMU", {
        rule: "wrong-smmu",
        found: `${device.name} is behind ${device.hostIommu ?? "no IOMMU"}; ${this.name} is served by ${objects.hostIommu ?? "no IOMMU"}, which ${objects.firstDevice} brought`,
        wouldWork: `another pxb-pcie with an arm-smmuv3 of its own for ${device.hostIommu ?? "it"}`,
      });
    }
    if (objects.iommufd !== device.iommufd) {
      throw new Refusal("A vSMMU's functions go through one iommufd", {
        rule: "several-iommufds",
        found: `${device.name} uses iommufd '${device.iommufdName}'; ${this.name} uses '${objects.iommufdName}', which ${objects.firstDevice} brought`,
        wouldWork: `iommufd=${objects.iommufdName}`,
      });
    }
    if (objects.parentHwptId !== device.parentHwptId) {
      throw new Refusal("A vSMMU's functions share one stage-2 table", {
        found: `${device.name} is on stage-2 table ${device.parentHwptId}; ${this.name} nests on ${objects.parentHwptId}, which ${objects.firstDevice} brought`,
        wouldWork: "the same address space for both",
      });
    }
  }

  private makeViommu(device: IommufdDevice): ViommuObjects {
    try {
      return ViommuObjects.make(device, this.graveyard);
    } catch (error) {
      if (error instanceof HostError) {
        throw new HostError(error.operation, error.errno, `Unable to alloc vIOMMU: hiodi devid 0x${device.devId.toString(16)}: ${error.detail}`);
      }
      throw error;
    }
  }

  private freeViommu(): void {
    this.closeEvents();
    const { objects } = this;
    this.objects = null;
    this.forwarder.owing = null;
    objects?.free(this.graveyard);
  }

  private openEvents(): void {
    if (this.objects !== null && this.events === null && this.smmu.eventQueueEnabled) {
      // One of before that could not be destroyed is in the way: there is one vEVENTQ of a type for a vIOMMU.
      this.graveyard.retry();
      this.events = VeventReader.open(this.smmu, this.objects.iommufd, this.objects.viommuId, this.log);
    }
  }

  private closeEvents(): void {
    if (this.events !== null) {
      this.deliveredBefore += this.events.delivered;
      this.lostBefore += this.events.lost;
      this.events.close(this.graveyard);
      this.events = null;
    }
  }
}
