/**
 * Which table each passed-through function is on: what SMMUEN, GBPA and its stream table entry say becomes one
 * replacing attach. Where the host refuses it, the function is blocked, and when even that fails it keeps the
 * table that it has. Why a function is blocked is kept with it.
 */
import { HwptDataType, refusalOf } from "../../iommufd/index.js";
import { changeOrBlock, type Graveyard, HOST_CALL_STEPS } from "../../nesting/index.js";
import { hex, type Log, toBigInt, traceEvent } from "../../support/index.js";
import type { SmmuForBackend } from "../device/index.js";
import { decodeSte, SteView, STREAM_OUT_OF_RANGE } from "../lookup/index.js";
import { get, STE, STE_CONFIG_ABORT, STE_CONFIG_BYPASS, STE_CONFIG_S1, STE_WORDS } from "../spec/index.js";
import { canStall, hostIdRegisters } from "./compatibility.js";
import { reduceEntry } from "./entry.js";
import type { AcceleratedFunction } from "./function.js";
import type { CommandForwarder } from "./invalidations.js";
import { nestedData, type ViommuObjects } from "./objects.js";
import type { FeatureOffer } from "./offer.js";

const traceInstall = traceEvent("smmuv3_accel_install_ste", "vSID=0x%x ste type=%s hwpt_id=0x%x");
const traceBlocked = traceEvent("smmuv3_accel_blocked", "%s devid=0x%x %s");
const traceTranslate = traceEvent("smmuv3_accel_translate_ste", "vSID=0x%x hwpt_id=0x%x ste=%x:%x");
const traceVdevice = traceEvent("smmuv3_accel_alloc_vdevice", "%s devid=0x%x vSID 0x%x vdevice %u");

/** Steps of an attach: a table made, attached, the old one freed. */
const ATTACH_STEPS = 3 * HOST_CALL_STEPS;
/** Steps of reading an entry until it is stable. */
const READ_STEPS = 2;

export class Placement {
  private readonly entry = new Int32Array(STE_WORDS);
  private readonly reduced = new Int32Array(4);
  private readonly view = new SteView();
  /** What `decide` found: the table, why it is that where it does not translate, and the StreamID (-1: none is needed). */
  private wanted: "abort" | "bypass" | "nested" = "abort";
  private reason: string | null = null;
  private streamId = -1;

  constructor(
    private readonly smmu: SmmuForBackend,
    private readonly name: string,
    private readonly offer: FeatureOffer,
    private readonly functions: readonly AcceleratedFunction[],
    private readonly forwarder: CommandForwarder,
    private readonly graveyard: Graveyard,
    private readonly log: Log,
    private readonly objects: () => ViommuObjects,
  ) {}

  /** Puts the function where the guest's registers and tables say. Throws HostError; the function has its old table then. */
  settle(fn: AcceleratedFunction): void {
    this.decide(fn);
    this.apply(fn);
  }

  /** `settle`, and where the host refuses: block the function. False where the guest did not get what it asked for. */
  settleOrBlock(fn: AcceleratedFunction): boolean {
    this.decide(fn);
    return this.applyOrBlock(fn);
  }

  /** Finds out where the function belongs. True where `applyOrBlock` has to come behind what is in the batch: a table or binding changes. */
  decide(fn: AcceleratedFunction): boolean {
    this.reason = this.findTable(fn);
    const rebinds = this.streamId >= 0 && !fn.isBoundTo(this.streamId);
    return rebinds || fn.table !== this.wanted || (this.wanted === "nested" && !this.isInstalled(fn));
  }

  /** Sets `wanted`, `streamId`, `reduced`; returns why the function is blocked. */
  private findTable(fn: AcceleratedFunction): string | null {
    const { smmu } = this;
    this.wanted = "abort";
    this.streamId = -1;
    if (this.forwarder.owing !== null) {
      return `invalidations of the guest could not be done (HWPT_INVALIDATE ${this.forwarder.owing})`;
    }
    if (!smmu.translationEnabled) {
      // IHI 0070, 6.3.14: with SMMUEN = 0, GBPA decides between abort and bypass.
      if (smmu.globalBypassAborts) {
        return "SMMUEN is 0 and GBPA.ABORT is 1 (IHI 0070, 6.3.14)";
      }
      this.wanted = "bypass";
      return null;
    }
    const { streamId } = fn;
    if (streamId === null) {
      // Its requests carry no StreamID that the guest could mean.
      return "the guest has given its bus no number";
    }
    smmu.budget.left -= READ_STEPS;
    const fetched = smmu.fetchStreamTableEntry(streamId, this.entry);
    if (fetched < 0) {
      return fetched === STREAM_OUT_OF_RANGE
        ? `StreamID ${hex(streamId)} is beyond the stream table: C_BAD_STREAMID (IHI 0070, 6.3.25 and 7.3.3)`
        : `the entry of StreamID ${hex(streamId)} cannot be fetched: F_STE_FETCH (IHI 0070, 7.3.4)`;
    }
    const twin = this.functions.find((other) => other !== fn && other.isBoundTo(streamId) && other.streamId === streamId);
    if (twin !== undefined) {
      // The guest has given two buses one number, as for a moment when it exchanges them.
      this.log.guestError("smmuv3.stream-id-twice", () => `${this.name}: ${fn.host.name} and ${twin.host.name} have StreamID ${hex(streamId)} both; the first is blocked`);
      return `StreamID ${hex(streamId)} is that of ${twin.host.name}, too`;
    }
    this.streamId = streamId;
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
        this.wanted = "nested";
        return null;
      case STE_CONFIG_BYPASS:
        this.wanted = "bypass";
        return null;
      case STE_CONFIG_ABORT:
        return `the entry of StreamID ${hex(streamId)} has Config 0b000: abort (IHI 0070, 5.2)`;
      default:
        if (get(this.entry, STE.V) === 0) {
          // What a stream nobody uses has: no mistake yet.
          return `the entry of StreamID ${hex(streamId)} is not valid: V is 0 (IHI 0070, 5.2)`;
        }
        // C_BAD_STE at each transaction (IHI 0070, 5.2); stage 2 is not offered with accel=on, so its entries are illegal too.
        this.log.guestError("smmuv3.bad-ste", () => `Invalid STE config for sid ${hex(streamId)}: ${this.view.reason}; ${fn.host.name} is blocked`);
        return `the entry of StreamID ${hex(streamId)} is illegal: ${this.view.reason}: C_BAD_STE (IHI 0070, 5.2)`;
    }
  }

  private isInstalled(fn: AcceleratedFunction): boolean {
    const { installed } = fn;
    const { reduced } = this;
    return fn.table === "nested" && installed[0] === reduced[0] && installed[1] === reduced[1] && installed[2] === reduced[2] && installed[3] === reduced[3];
  }

  /** Puts the function where `decide` said, or blocks it. False where the guest did not get what it asked for. */
  applyOrBlock(fn: AcceleratedFunction): boolean {
    const failed = changeOrBlock(
      () => this.apply(fn),
      () => this.share(fn, "abort"),
      () => fn.table,
    );
    if (failed === null) {
      return true;
    }
    this.explain(fn, `the host refused its table: ${failed.refusal.message}; ${failed.outcome}`);
    // Upstream's words for what could not be attached: what GBPA says, or what the function's entry says.
    const words = this.smmu.translationEnabled
      ? `Device 0x${fn.host.devId.toString(16)}: Failed to install STE`
      : `Failed to attach GBPA hwpt ${this.sharedTable(this.smmu.globalBypassAborts ? "abort" : "bypass")} for hiodi devid ${fn.host.devId}`;
    this.log.warnLimited(`smmuv3.install ${fn.host.hostAddress}`, `${words}: ${fn.host.name} behind ${this.name}: ${failed.refusal.message}; ${failed.outcome}`);
    return false;
  }

  private apply(fn: AcceleratedFunction): void {
    const { streamId, wanted } = this;
    if (streamId >= 0 && !fn.isBoundTo(streamId)) {
      this.bind(fn, streamId);
    }
    if (wanted !== "nested") {
      this.share(fn, wanted);
    } else if (this.isInstalled(fn)) {
      // The same entry again: the host's is as it was, but the guest also meant the descriptors below it (IHI 0070, 4.3.1).
      this.forwarder.addDescriptors(streamId);
    } else {
      this.attachNested(fn, streamId);
    }
    this.explain(fn, this.reason);
    fn.byEntry = streamId >= 0;
    if (streamId >= 0 && traceInstall.on) {
      traceInstall.emit(streamId, wanted === "nested" ? "translate" : wanted, fn.host.attachedTo ?? 0);
    }
  }

  /** Why a function is blocked; null: it is not. */
  private explain(fn: AcceleratedFunction, reason: string | null): void {
    fn.attachment.reason = reason;
    if (reason !== null && traceBlocked.on) {
      traceBlocked.emit(this.smmu.id, fn.host.devId, reason);
    }
  }

  /** Why a function is on the table that it is on, in words. */
  static why({ attachment, table, byEntry, vdeviceStreamId }: AcceleratedFunction): string {
    const entry = `the entry of StreamID ${hex(vdeviceStreamId)} has Config`;
    switch (table) {
      case "parent":
        return attachment.reason ?? "its SMMU has not put it on a table yet";
      case "nested":
        return attachment.reason ?? `${entry} 0b101: stage 1 translates (IHI 0070, 5.2)`;
      case "bypass":
        return attachment.reason ?? (byEntry ? `${entry} 0b100: bypass (IHI 0070, 5.2)` : "SMMUEN is 0 and GBPA.ABORT is 0 (IHI 0070, 6.3.14)");
      case "abort":
        return attachment.reason ?? "no reason is known";
    }
  }

  /** Blocks a function whose translations may be stale. False where the host refuses. */
  block(fn: AcceleratedFunction, reason: string): boolean {
    const refusal = refusalOf(() => this.share(fn, "abort"));
    if (refusal !== null) {
      this.log.warnLimited(`smmuv3.block ${fn.host.hostAddress}`, `${fn.host.name} behind ${this.name} keeps its ${fn.table} table: ${refusal.message}`);
      return false;
    }
    this.explain(fn, reason);
    return true;
  }

  private sharedTable(table: "abort" | "bypass"): number {
    const { abortHwptId, bypassHwptId } = this.objects();
    return table === "abort" ? abortHwptId : bypassHwptId;
  }

  private share(fn: AcceleratedFunction, table: "abort" | "bypass"): void {
    if (fn.table !== table) {
      this.smmu.budget.left -= ATTACH_STEPS;
      fn.attachment.share(table, this.sharedTable(table));
    }
  }

  /** Attaches a nested table of the entry in `reduced`. */
  private attachNested(fn: AcceleratedFunction, streamId: number): void {
    const { reduced } = this;
    const { viommuId } = this.objects();
    this.smmu.budget.left -= ATTACH_STEPS;
    fn.attachment.take("nested", () => {
      const hwptId = fn.host.iommufd.hwptAlloc({
        flags: 0,
        devId: fn.host.devId,
        ptId: viommuId,
        dataType: HwptDataType.ARM_SMMUV3,
        data: nestedData(reduced),
      });
      if (traceTranslate.on) {
        traceTranslate.emit(streamId, hwptId, toBigInt(reduced[3], reduced[2]), toBigInt(reduced[1], reduced[0]));
      }
      return hwptId;
    });
    fn.installed.set(reduced);
  }

  /** Binds the function's vDEVICE to its StreamID, anew where that has changed. Throws HostError. */
  private bind(fn: AcceleratedFunction, streamId: number): void {
    this.unbind(fn);
    for (const other of this.functions) {
      // One that has another StreamID by now.
      if (other !== fn && other.isBoundTo(streamId)) {
        this.unbind(other);
      }
    }
    // A vDEVICE that could not be destroyed holds its function and its StreamID.
    this.graveyard.retry();
    this.smmu.budget.left -= HOST_CALL_STEPS;
    fn.vdeviceId = fn.host.iommufd.vdeviceAlloc({ viommuId: this.objects().viommuId, devId: fn.host.devId, virtId: BigInt(streamId) });
    fn.vdeviceStreamId = streamId;
    if (traceVdevice.on) {
      traceVdevice.emit(this.smmu.id, fn.host.devId, streamId, fn.vdeviceId);
    }
  }

  unbind(fn: AcceleratedFunction): void {
    if (fn.vdeviceId !== null) {
      const id = fn.vdeviceId;
      fn.vdeviceId = null;
      fn.vdeviceStreamId = -1;
      // The kernel takes a function's StreamID for events when it attaches: the same entry is to be attached anew.
      fn.installed.fill(0);
      this.graveyard.destroy(fn.host.iommufd, id, "vDEVICE");
    }
  }

  /** Gives a function back: attached to its parent, nested table and vDEVICE freed. */
  release(fn: AcceleratedFunction): void {
    const refusal = refusalOf(() => fn.attachment.share("parent", fn.host.parentHwptId));
    if (refusal !== null) {
      this.log.warn(`Unable to attach the default HW pagetable: hiodi devid 0x${fn.host.devId.toString(16)}: ${refusal.message}; its objects are freed when it is closed`);
      fn.attachment.abandon();
    }
    this.unbind(fn);
    fn.host.onClosed(() => this.graveyard.retry());
  }
}
