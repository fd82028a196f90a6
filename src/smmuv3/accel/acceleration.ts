/**
 * The acceleration of one SMMUv3: what the guest programs becomes tables and invalidations of the host.
 *
 * Every function behind it is, at every moment, attached to one table: the stage-2 parent (until the SMMU
 * takes it over), the abort or bypass table, or a nested one of its own. A change is one replacing attach;
 * when the host refuses it, the function is blocked, and when even that fails it keeps the table it has.
 * Nothing here reads a context descriptor or a page table of the guest.
 */
import {
  HostError,
  HwptDataType,
  isIommufdDevice,
  type IommufdDevice,
} from "../../iommufd/index.js";
import { DELIVERED, Graveyard, UNDELIVERED } from "../../nesting/index.js";
import { type HostIommuDevice, iommuPath, type PciBus } from "../../pci/index.js";
import { hex, type Log, Refusal, toBigInt, traceEvent } from "../../support/index.js";
import { BATCH_CAPACITY, CommandBatch } from "./batch.js";
import { reduceEntry } from "./entry.js";
import { VeventReader } from "./events.js";
import { nestedData, ViommuObjects } from "./objects.js";
import { type AccelerationProperties, FeatureOffer } from "./offer.js";
import type { SmmuBackend, SmmuForBackend } from "../device/backend.js";
import { canStall, checkHostServes, hostIdRegisters, hostWarnings } from "./compatibility.js";
import { decodeSte, SteView } from "../lookup/index.js";
import {
  ATC_SIZE_ALL,
  CERROR_ILL,
  CERROR_NONE,
  CMD,
  commandName,
  encodeCommand,
  get,
  OP,
  STE,
  STE_CONFIG_ABORT,
  STE_CONFIG_BYPASS,
  STE_CONFIG_S1,
  STE_WORDS,
} from "../spec/index.js";

/** Where a function is: which of the tables it is attached to. */
export type FunctionTable = "parent" | "abort" | "bypass" | "nested";

interface AcceleratedFunction {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly host: IommufdDevice;
  table: FunctionTable;
  /** The nested HWPT and the reduced entry that it was made of; while table is "nested". */
  nestedHwptId: number | null;
  readonly installed: Int32Array;
  /** The vDEVICE and the StreamID that it is bound to. */
  vdeviceId: number | null;
  vdeviceStreamId: number;
}

const traceInstall = traceEvent("smmuv3_accel_install_ste", "vSID=0x%x ste type=%s hwpt_id=0x%x");
const traceTranslate = traceEvent("smmuv3_accel_translate_ste", "vSID=0x%x hwpt_id=0x%x ste=%x:%x");
const traceVdevice = traceEvent("smmuv3_accel_alloc_vdevice", "%s devid=0x%x vSID 0x%x vdevice %u");
const traceSet = traceEvent("smmuv3_accel_set_iommu_device", "devfn=0x%x (idev devid=0x%x)");
const traceUnset = traceEvent("smmuv3_accel_unset_iommu_device", "devfn=0x%x (idev devid=0x%x)");

export class SmmuAcceleration implements SmmuBackend {
  readonly capacity = BATCH_CAPACITY;
  flushHandled = 0;
  flushTimedOut = false;

  /**
   * Invalidations that the guest has asked for may not be done: functions stay blocked until all that can be
   * stale is invalidated.
   */
  private owing = false;

  private objects: ViommuObjects | null = null;
  private events: VeventReader | null = null;
  private readonly functions: AcceleratedFunction[] = [];
  private readonly graveyard: Graveyard;
  private readonly batch: CommandBatch;
  private readonly offer: FeatureOffer;
  private readonly entry = new Int32Array(STE_WORDS);
  private readonly reduced = new Int32Array(4);
  private readonly view = new SteView();
  private deliveredBefore = 0;
  private lostBefore = 0;

  constructor(
    private readonly smmu: SmmuForBackend,
    properties: AccelerationProperties,
    private readonly log: Log,
  ) {
    this.graveyard = new Graveyard(log, "smmuv3.destroy");
    this.batch = new CommandBatch(smmu.id);
    this.offer = new FeatureOffer(smmu, properties);
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
    return this.batch.done;
  }

  get invalidateCalls(): number {
    return this.batch.calls;
  }

  get pending(): number {
    return this.batch.pending;
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

  /** For the account: every function's StreamID, table and bindings. */
  describeFunctions(): Array<{ name: string; streamId: number | null; table: FunctionTable; hwptId: number | null; vdeviceId: number | null }> {
    return this.functions.map((fn) => ({
      name: fn.host.name,
      streamId: this.streamIdOf(fn),
      table: fn.table,
      hwptId: fn.host.attachedTo,
      vdeviceId: fn.vdeviceId,
    }));
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
        this.openEvents();
      }
      const fn: AcceleratedFunction = {
        bus,
        devfn,
        host: device,
        table: "parent",
        nestedHwptId: null,
        installed: new Int32Array(4),
        vdeviceId: null,
        vdeviceStreamId: -1,
      };
      this.functions.push(fn);
      this.settle(fn);
      for (const warning of hostWarnings(host, this.smmu.idr, names)) {
        this.log.warnOnce(warning);
      }
      if (traceSet.on) {
        traceSet.emit(devfn, device.devId);
      }
    } catch (error) {
      const index = this.functions.findIndex((fn) => fn.host === device);
      if (index >= 0) {
        this.release(this.functions[index]);
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
    this.release(fn);
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
      if (fn.vdeviceId !== null && this.streamIdOf(fn) !== fn.vdeviceStreamId) {
        this.unbind(fn);
      }
    }
    this.settleUnbound();
  }

  /** Functions without a vDEVICE go where their entries say, now that something has changed. */
  private settleUnbound(): void {
    this.settleDebt();
    if (!this.smmu.translationEnabled) {
      return;
    }
    for (const fn of this.functions) {
      if (fn.vdeviceId === null) {
        this.settleOrBlock(fn);
      }
    }
  }

  // ---- SmmuBackend ----

  installEntries(first: number, last: number): number {
    this.settleDebt();
    let result = CERROR_NONE;
    if (this.smmu.translationEnabled) {
      for (const fn of this.functions) {
        const streamId = this.streamIdOf(fn);
        if (streamId !== null && streamId >= first && streamId <= last && !this.settleOrBlock(fn)) {
          result = CERROR_ILL;
        }
      }
    }
    return result;
  }

  forward(word0: number, word1: number, word2: number, word3: number): boolean {
    if (this.objects === null) {
      return false;
    }
    const opcode = word0 & CMD.OPCODE.mask;
    if (opcode === OP.CFGI_CD || opcode === OP.CFGI_CD_ALL || opcode === OP.ATC_INV) {
      if (!this.isBound(word1)) {
        return false;
      }
    }
    this.batch.add(word0, word1, word2, word3);
    return true;
  }

  flush(): number {
    const count = this.batch.pending;
    this.flushHandled = count;
    this.flushTimedOut = false;
    if (count === 0 || this.objects === null) {
      this.batch.clear();
      return CERROR_NONE;
    }
    const { batch } = this;
    const delivery = batch.deliver(this.objects.iommufd, this.objects.viommuId);
    this.flushTimedOut = batch.timedOut;
    if (delivery === DELIVERED) {
      this.settleDebt();
      return CERROR_NONE;
    }
    if (delivery === UNDELIVERED) {
      this.flushHandled = 0;
      return this.blockStale(count) ? CERROR_NONE : CERROR_ILL;
    }
    this.flushHandled = batch.refused;
    this.log.guestError(
      "smmuv3.invalidate",
      `${this.name}: the host refused ${commandName(batch.opcodeAt(batch.refused))}, command ${batch.refused + 1} of ${count} in a batch: HWPT_INVALIDATE ${batch.errno}`,
    );
    return CERROR_ILL;
  }

  // ---- invalidations that could not be done ----

  /**
   * The host could not do a batch of good commands (ENOMEM, say). Linux's guest would replace a command in
   * error by a CMD_SYNC, and what it has unmapped would stay reachable: so the functions are blocked, and the
   * commands are done in that nothing is translated. False where the host refuses that, too.
   */
  private blockStale(count: number): boolean {
    this.owing = true;
    let blocked = true;
    for (const fn of this.functions) {
      try {
        this.attachShared(fn, "abort");
      } catch (error) {
        if (!(error instanceof HostError)) {
          throw error;
        }
        blocked = false;
        this.log.warnLimited(`smmuv3.block ${fn.host.hostAddress}`, `${fn.host.name} behind ${this.name} keeps its ${fn.table} table: ${error.message}`);
      }
    }
    this.log.warnLimited(
      "smmuv3.undelivered",
      `${this.name}: the host could not do ${count} invalidation(s) of the guest: HWPT_INVALIDATE ${this.batch.errno}; its functions are blocked until it can`,
    );
    return blocked;
  }

  /** Where invalidations are due: all that may be stale goes, and once the host does that, the functions go where they belong. */
  private settleDebt(): void {
    const { objects, batch } = this;
    if (!this.owing || objects === null) {
      return;
    }
    this.addOwn(OP.TLBI_NSNH_ALL, {});
    for (const fn of this.functions) {
      if (fn.vdeviceId !== null) {
        this.addOwn(OP.CFGI_CD_ALL, { SID: fn.vdeviceStreamId });
        // The kernel has emptied the ATC of one that is blocked when it attached it (Linux arm_smmu_attach_commit).
        if (fn.table === "nested" && get(fn.installed, STE.EATS) !== 0) {
          this.addOwn(OP.ATC_INV, { SID: fn.vdeviceStreamId, ATC_SIZE: ATC_SIZE_ALL });
        }
      }
    }
    if (batch.deliver(objects.iommufd, objects.viommuId) === DELIVERED && !batch.timedOut) {
      this.owing = false;
      for (const fn of this.functions) {
        this.settleOrBlock(fn);
      }
    }
  }

  private addOwn(opcode: number, fields: Parameters<typeof encodeCommand>[1]): void {
    const command = encodeCommand(opcode, fields);
    this.batch.add(command[0], command[1], command[2], command[3]);
  }

  translationChanged(): void {
    this.settleDebt();
    for (const fn of this.functions) {
      this.settleOrBlock(fn);
    }
  }

  eventQueueChanged(): void {
    this.closeEvents();
    try {
      this.openEvents();
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.log.warnLimited("smmuv3.veventq", `${this.name}: no vEVENTQ, faults of the hardware will not reach the guest: ${error.message}`);
    }
  }

  reset(): void {
    this.batch.clear();
    this.settleDebt();
    for (const fn of this.functions) {
      this.settleOrBlock(fn);
    }
    this.eventQueueChanged();
  }

  // ---- one function's table ----

  /** Puts the function where SMMUEN, GBPA and its entry say. Throws HostError; the function has its old table then. */
  private settle(fn: AcceleratedFunction): void {
    if (this.owing) {
      this.attachShared(fn, "abort");
      return;
    }
    if (!this.smmu.translationEnabled) {
      // IHI 0070, 6.3.14: with SMMUEN = 0, GBPA decides between abort and bypass.
      this.attachShared(fn, this.smmu.globalBypassAborts ? "abort" : "bypass");
      return;
    }
    const streamId = this.streamIdOf(fn);
    if (streamId === null) {
      // No bus number yet: its requests carry no StreamID that the guest could mean.
      this.attachShared(fn, "abort");
      return;
    }
    if (this.smmu.fetchStreamTableEntry(streamId, this.entry) < 0) {
      // C_BAD_STREAMID or F_STE_FETCH: transactions abort (IHI 0070, 7.3.3 and 7.3.4).
      this.attachShared(fn, "abort");
      return;
    }
    if (!this.bind(fn, streamId)) {
      this.attachShared(fn, "abort");
      return;
    }
    switch (decodeSte(this.entry, this.offer.lookup, this.view)) {
      case STE_CONFIG_S1:
        if (this.offer.features.ssidBits === 0 && get(this.entry, STE.S1CDMAX) !== 0) {
          // RES0 without SubstreamIDs (IHI 0070, 5.2): the descriptors behind the first are out of reach.
          this.log.guestError(
            "smmuv3.no-substreams",
            () => `SMMUv3: multiple S1 context descriptors require SubstreamID support. Configure ssidsize > 0 (requires accel=on): ${this.name}, sid ${hex(streamId)}`,
          );
        }
        reduceEntry(this.entry, this.offer.features, canStall(hostIdRegisters(fn.host.hwInfo)), this.reduced);
        this.attachNested(fn, streamId);
        break;
      case STE_CONFIG_BYPASS:
        this.attachShared(fn, "bypass");
        break;
      case STE_CONFIG_ABORT:
        this.attachShared(fn, "abort");
        break;
      default:
        // C_BAD_STE at each transaction (IHI 0070, 5.2); stage 2 is not offered with accel=on, so its entries are illegal too.
        // One that is not valid is what a stream nobody uses has: no mistake yet.
        if (get(this.entry, STE.V) !== 0) {
          this.log.guestError(
            "smmuv3.bad-ste",
            () => `Invalid STE config for sid ${hex(streamId)}: ${this.view.reason}; ${fn.host.name} is blocked`,
          );
        }
        this.attachShared(fn, "abort");
    }
    if (traceInstall.on) {
      traceInstall.emit(streamId, fn.table === "nested" ? "translate" : fn.table, fn.host.attachedTo ?? 0);
    }
  }

  /** `settle`, and where the host refuses: block the function. False where the guest did not get what it asked for. */
  private settleOrBlock(fn: AcceleratedFunction): boolean {
    try {
      this.settle(fn);
      return true;
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      let outcome = "it is blocked";
      try {
        this.attachShared(fn, "abort");
      } catch (second) {
        if (!(second instanceof HostError)) {
          throw second;
        }
        outcome = `it keeps its ${fn.table} table (${second.message})`;
      }
      this.log.warnLimited(`smmuv3.install ${fn.host.hostAddress}`, `${this.failureWords(fn)}: ${fn.host.name} behind ${this.name}: ${error.message}; ${outcome}`);
      return false;
    }
  }

  /** Upstream's words for what could not be attached: what GBPA says, or what the function's entry says. */
  private failureWords(fn: AcceleratedFunction): string {
    if (this.smmu.translationEnabled || this.objects === null) {
      return `Device 0x${fn.host.devId.toString(16)}: Failed to install STE`;
    }
    const { abortHwptId, bypassHwptId } = this.objects;
    return `Failed to attach GBPA hwpt ${this.smmu.globalBypassAborts ? abortHwptId : bypassHwptId} for hiodi devid ${fn.host.devId}`;
  }

  private attachShared(fn: AcceleratedFunction, table: "abort" | "bypass"): void {
    if (fn.table !== table) {
      const { abortHwptId, bypassHwptId } = this.objects!;
      fn.host.attach(table === "abort" ? abortHwptId : bypassHwptId);
      this.replaced(fn, table, null);
    }
  }

  /** Attaches a nested table of the entry in `reduced`. */
  private attachNested(fn: AcceleratedFunction, streamId: number): void {
    const { reduced } = this;
    if (fn.table === "nested" && fn.installed.every((word, index) => word === reduced[index])) {
      // The same entry again: the host's is as it was, but the guest also meant the descriptors below it (IHI 0070, 4.3.1).
      this.invalidateDescriptors(streamId);
      return;
    }
    const { iommufd, viommuId } = this.objects!;
    const hwptId = iommufd.hwptAlloc({
      flags: 0,
      devId: fn.host.devId,
      ptId: viommuId,
      dataType: HwptDataType.ARM_SMMUV3,
      data: nestedData(reduced),
    });
    if (traceTranslate.on) {
      traceTranslate.emit(streamId, hwptId, toBigInt(reduced[3], reduced[2]), toBigInt(reduced[1], reduced[0]));
    }
    try {
      fn.host.attach(hwptId);
    } catch (error) {
      this.graveyard.destroy(iommufd, hwptId, "nested HWPT");
      throw error;
    }
    this.replaced(fn, "nested", hwptId);
    fn.installed.set(reduced);
  }

  private replaced(fn: AcceleratedFunction, table: FunctionTable, nestedHwptId: number | null): void {
    const old = fn.nestedHwptId;
    fn.table = table;
    fn.nestedHwptId = nestedHwptId;
    if (old !== null) {
      this.graveyard.destroy(fn.host.iommufd, old, "nested HWPT");
    }
  }

  private invalidateDescriptors(streamId: number): void {
    const { batch } = this;
    this.addOwn(OP.CFGI_CD_ALL, { SID: streamId });
    if (batch.deliver(this.objects!.iommufd, this.objects!.viommuId) !== DELIVERED) {
      throw new HostError("HWPT_INVALIDATE", batch.errno!, `CMD_CFGI_CD_ALL for StreamID ${hex(streamId)}`);
    }
  }

  // ---- vDEVICEs ----

  /**
   * Binds the function's vDEVICE to its StreamID, anew where that has changed. False where another function
   * has the StreamID: the guest has given two buses one number, as for a moment when it exchanges them.
   * Throws HostError.
   */
  private bind(fn: AcceleratedFunction, streamId: number): boolean {
    if (fn.vdeviceId !== null && fn.vdeviceStreamId === streamId) {
      return true;
    }
    this.unbind(fn);
    for (const other of this.functions) {
      if (other === fn || other.vdeviceId === null || other.vdeviceStreamId !== streamId) {
        continue;
      }
      if (this.streamIdOf(other) === streamId) {
        this.log.guestError(
          "smmuv3.stream-id-twice",
          () => `${this.name}: ${fn.host.name} and ${other.host.name} have StreamID ${hex(streamId)} both; the first is blocked`,
        );
        return false;
      }
      this.unbind(other);
    }
    // A vDEVICE that could not be destroyed holds its function and its StreamID.
    this.graveyard.retry();
    fn.vdeviceId = fn.host.iommufd.vdeviceAlloc({
      viommuId: this.objects!.viommuId,
      devId: fn.host.devId,
      virtId: BigInt(streamId),
    });
    fn.vdeviceStreamId = streamId;
    if (traceVdevice.on) {
      traceVdevice.emit(this.smmu.id, fn.host.devId, streamId, fn.vdeviceId);
    }
    return true;
  }

  private unbind(fn: AcceleratedFunction): void {
    if (fn.vdeviceId !== null) {
      const id = fn.vdeviceId;
      fn.vdeviceId = null;
      fn.vdeviceStreamId = -1;
      // The kernel takes a function's StreamID for events when it attaches: the same entry is to be attached anew.
      fn.installed.fill(0);
      this.graveyard.destroy(fn.host.iommufd, id, "vDEVICE");
    }
  }

  private isBound(streamId: number): boolean {
    for (const fn of this.functions) {
      if (fn.vdeviceId !== null && fn.vdeviceStreamId === streamId >>> 0) {
        return true;
      }
    }
    return false;
  }

  /** Null while the guest has given the function's bus no number. */
  private streamIdOf(fn: AcceleratedFunction): number | null {
    const path = iommuPath(fn.bus, fn.devfn);
    if (!path.bus.isRoot && path.bus.number === 0) {
      return null;
    }
    return (path.bus.number << 8) | path.devfn;
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
        found: `${device.name} is behind ${device.hostIommu ?? "no IOMMU"}; ${this.name} is served by ${objects.hostIommu ?? "no IOMMU"}, which ${objects.firstDevice} brought`,
        wouldWork: `another pxb-pcie with an arm-smmuv3 of its own for ${device.hostIommu ?? "it"}`,
      });
    }
    if (objects.iommufd !== device.iommufd) {
      throw new Refusal("A vSMMU's functions go through one iommufd", {
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
    this.owing = false;
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

  /** Gives a function back: attached to its parent, nested table and vDEVICE freed. */
  private release(fn: AcceleratedFunction): void {
    if (fn.table !== "parent") {
      try {
        fn.host.attach(fn.host.parentHwptId);
        this.replaced(fn, "parent", null);
      } catch (error) {
        if (!(error instanceof HostError)) {
          throw error;
        }
        this.log.warn(`Unable to attach the default HW pagetable: hiodi devid 0x${fn.host.devId.toString(16)}: ${error.message}; its objects are freed when it is closed`);
        if (fn.nestedHwptId !== null) {
          this.graveyard.destroy(fn.host.iommufd, fn.nestedHwptId, "nested HWPT");
          fn.nestedHwptId = null;
        }
      }
    }
    this.unbind(fn);
    fn.host.onClosed(() => this.graveyard.retry());
  }
}
