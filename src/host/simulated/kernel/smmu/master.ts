import { ATC_SIZE_ALL, encodeCommand, OP } from "../../../../smmuv3/spec/index.js";
import { ContextTable } from "./context-table.js";
import { SmmuNestedDomain, SmmuPagingDomain, type Attachment } from "./domains.js";
import type { SmmuDriver } from "./driver.js";
import type { PhysicalFunction } from "../hardware-port.js";
import type { Domain, Master, PagingDomain } from "../iommu-driver.js";
import { underCall, type Refuse } from "../objects.js";
import { abortEntry, nestedEntry, stage1Context, stage1Entry, stage2Entry } from "./stream-entries.js";
import { spanOf } from "../page-span.js";
import type { Vsmmu } from "./vsmmu.js";

/** Without two-level context tables the kernel takes one page of 64 KiB: 1024 descriptors. */
const MOST_LINEAR_SUBSTREAM_BITS = 10;

/** A function behind an SMMU: does what becomes of its stream table entry, its context table and its ATS. */
export class SmmuMaster implements Master {
  /** What the function is attached to without PASID; null: its transactions abort. */
  domain: SmmuPagingDomain | SmmuNestedDomain | null = null;
  atsEnabled = false;
  /** Where the function's events go, fixed when it was attached. */
  guest: { readonly vsmmu: Vsmmu; readonly vsid: number } | null = null;
  private contexts: ContextTable | null = null;
  readonly pasidBits: number;
  private readonly attachments = new Map<number, { domain: SmmuPagingDomain; attachment: Attachment }>();

  constructor(
    readonly driver: SmmuDriver,
    readonly device: PhysicalFunction,
  ) {
    const bits = Math.min(device.description.pasidBits, driver.features.substreamBits);
    this.pasidBits = driver.features.twoLevelContexts ? bits : Math.min(bits, MOST_LINEAR_SUBSTREAM_BITS);
  }

  get streamId(): number {
    return this.device.sourceId;
  }

  get atsPossible(): boolean {
    return this.driver.features.ats && this.device.description.ats;
  }

  /**
   * Attaches the function's transactions without PASID to a domain, or blocks them, in one change of its
   * stream table entry. Throws with the old attachment in force.
   */
  attach(domain: Domain | null, refuse: Refuse): void {
    if (domain === null) {
      this.block();
      this.domain = null;
    } else if (domain instanceof SmmuNestedDomain) {
      this.attachNested(domain, refuse);
      this.domain = domain;
    } else {
      const own = this.driver.own(domain as PagingDomain, "table", refuse);
      this.attachPaging(own, refuse);
      this.domain = own;
    }
  }

  /**
   * Attaches transactions with a PASID to a stage-1 domain, or takes that away (null). Those without PASID are
   * blocked or go through the function's context table too: attachment.ts sees to that.
   */
  attachPasid(pasid: number, target: Domain | null, refuse: Refuse): void {
    if (target === null) {
      if (this.contexts?.has(pasid) === true) {
        this.writeContext(pasid, null);
        if (this.atsEnabled) {
          this.invalidateAtc(null, 0, 0);
        }
      }
      this.use(pasid, null, false);
      this.dropContextsIfUnused();
      return;
    }
    const domain = this.driver.own(target as PagingDomain, "table", refuse);
    if (pasid >= 2 ** this.pasidBits) {
      throw refuse("EINVAL", `PASID ${pasid} is beyond the function's ${this.pasidBits} bits`);
    }
    const usesContexts = this.domain instanceof SmmuPagingDomain && this.domain.stage === 1;
    const contexts = this.contextsFor(pasid, refuse);
    this.writeContext(pasid, stage1Context(this.driver.features, domain.table, domain.tag, domain.dirtyTracking));
    this.switchAts(this.atsPossible, () =>
      this.install(stage1Entry(this.driver.features, contexts, this.atsPossible, usesContexts ? "ssid0" : "terminate")),
    );
    this.use(pasid, domain, false);
  }

  /** Events go through the vIOMMU's queue. */
  watchFaults(): boolean {
    return false;
  }

  /**
   * ATC_INV of a range of one SubstreamID (null: of all and everything), with a sync.
   * The size is a power of two, so the span that covers the range is sent (IHI 0070 4.5.1).
   */
  invalidateAtc(ssid: number | null, iova: number, length: number): void {
    const all = ssid === null;
    const { page, bits } = spanOf(Math.floor(iova / 4096), Math.floor((iova + length - 1) / 4096));
    this.driver.run(
      encodeCommand(OP.ATC_INV, {
        SID: this.streamId,
        SSV: !all && ssid !== 0,
        SSID: all ? 0 : ssid,
        GLOBAL: all && this.pasidBits > 0,
        ATC_SIZE: all ? ATC_SIZE_ALL : bits,
        ADDRESS: all ? 0n : BigInt(page * 4096),
      }),
    );
    this.driver.sync();
  }

  /** Notes which table the transactions with `ssid` use, so that its changes reach the function's ATC. */
  use(ssid: number, domain: SmmuPagingDomain | null, nested: boolean): void {
    const old = this.attachments.get(ssid);
    if (old !== undefined) {
      old.domain.attachments.delete(old.attachment);
      this.attachments.delete(ssid);
    }
    if (domain !== null) {
      const attachment = { master: this, ssid, nested };
      domain.attachments.add(attachment);
      this.attachments.set(ssid, { domain, attachment });
    }
  }

  private attachPaging(domain: SmmuPagingDomain, refuse: Refuse): void {
    const ats = this.atsPossible;
    if (domain.stage === 1) {
      const contexts = this.contextsFor(0, refuse);
      // While the entry still says something else the descriptor is read by nobody.
      this.writeContext(0, stage1Context(this.driver.features, domain.table, domain.tag, domain.dirtyTracking));
      this.switchAts(ats, () => this.install(stage1Entry(this.driver.features, contexts, ats)));
    } else {
      const entry = stage2Entry(this.driver.features, domain.table, domain.tag, ats, domain.dirtyTracking);
      this.switchAts(ats, () => this.install(entry));
      this.clearContext();
    }
    this.guest = null;
    this.use(0, domain, false);
  }

  private attachNested(domain: SmmuNestedDomain, refuse: Refuse): void {
    const { vsmmu, guest } = domain;
    if (vsmmu.driver !== this.driver) {
      throw refuse("EINVAL", `the vIOMMU belongs to ${vsmmu.driver.smmu.name}, the function to ${this.driver.smmu.name}`);
    }
    let vsid: bigint | undefined;
    for (const [id, device] of vsmmu.devices) {
      if (device === this) {
        vsid = id;
      }
    }
    // Without one neither its invalidations nor its events could be told; bypass and abort need neither.
    if (vsid === undefined && guest.config === "translate") {
      throw refuse("ENOENT", "the function has no vDEVICE on this vIOMMU");
    }
    // Linux arm_smmu_attach_dev_nested: the guest's EATS decides where its entry translates, for then it has to send
    // the invalidations; in bypass and abort the kernel sends them, and ATS is as it is elsewhere.
    const ats = (guest.ats || guest.config !== "translate") && this.atsPossible;
    const { parent } = vsmmu;
    const stage2 = stage2Entry(this.driver.features, parent.table, vsmmu.vmid, ats, parent.dirtyTracking);
    this.switchAts(ats, () => this.install(nestedEntry(guest, stage2)));
    this.clearContext();
    this.guest = vsid === undefined ? null : { vsmmu, vsid: Number(BigInt.asIntN(32, vsid)) };
    this.use(0, parent, true);
  }

  private block(): void {
    if (this.contexts?.hasSubstreams === true) {
      this.install(stage1Entry(this.driver.features, this.contexts, this.atsEnabled, "terminate"));
    } else {
      this.switchAts(false, () => this.install(abortEntry()));
    }
    this.clearContext();
    this.guest = null;
    this.use(0, null, false);
  }

  /** ATS goes off before an entry without it is installed, and on after one with it; caches are emptied. */
  private switchAts(on: boolean, install: () => void): void {
    const was = this.atsEnabled;
    if (was && !on) {
      this.device.enableAts(false);
    }
    install();
    this.atsEnabled = on;
    if (on && !was) {
      this.device.enableAts(true);
    }
    if (was || on) {
      this.invalidateAtc(null, 0, 0);
    }
  }

  /** Writes the stream table entry. */
  install(entry: Int32Array): void {
    this.driver.smmu.writeSte(this.streamId, entry);
    this.driver.run(encodeCommand(OP.CFGI_STE, { SID: this.streamId, LEAF: 1 }));
    this.driver.sync();
  }

  private writeContext(ssid: number, words: Int32Array | null): void {
    this.contexts!.write(ssid, words);
    this.driver.run(encodeCommand(OP.CFGI_CD, { SID: this.streamId, SSID: ssid, LEAF: 1 }));
    this.driver.sync();
  }

  private clearContext(): void {
    if (this.contexts?.has(0) === true) {
      this.writeContext(0, null);
    }
    this.dropContextsIfUnused();
  }

  private dropContextsIfUnused(): void {
    const pointsThere = this.domain instanceof SmmuPagingDomain && this.domain.stage === 1 && this.contexts?.has(0) === true;
    if (this.contexts !== null && this.contexts.size === 0 && !pointsThere) {
      if (this.domain === null) {
        // The last PASID of a blocked function is gone: its entry still points at the table.
        this.switchAts(false, () => this.install(abortEntry()));
      }
      this.contexts.release();
      this.contexts = null;
    }
  }

  /** The function's context table with a place for `ssid`. */
  private contextsFor(ssid: number, refuse: Refuse): ContextTable {
    const table = this.contexts;
    try {
      const contexts = table ?? new ContextTable(this.driver.memory, this.pasidBits, this.driver.features.twoLevelContexts);
      this.contexts = contexts;
      contexts.prepare(ssid);
      return contexts;
    } catch (error) {
      if (table === null && this.contexts !== null) {
        this.contexts.release();
        this.contexts = null;
      }
      throw underCall(error, refuse);
    }
  }
}
