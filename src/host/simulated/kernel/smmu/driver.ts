import {
  ATC_SIZE_ALL,
  CERROR_NONE,
  encodeCommand,
  EVENT,
  EVT,
  get,
  OP,
} from "../../../../smmuv3/spec/index.js";
import { getWide } from "../../../../support/index.js";
import {
  HwInfoType,
  type HwptAllocRequest,
  type IovaRange,
  ViommuType,
} from "../../../../iommufd/index.js";
import { CommandCheck } from "./command-check.js";
import { ContextTable } from "./context-table.js";
import { domainKind, SmmuNestedDomain, SmmuPagingDomain, type Attachment } from "./domains.js";
import type { HostMemory, PhysicalFunction, PhysicalSmmu } from "../hardware-port.js";
import { hwInfoOf } from "./hw-info.js";
import type { Domain, IommuAccount, IommuDriver, Master, PagingDomain, ViommuPort } from "../iommu-driver.js";
import type { KernelRules } from "../kernel-rules.js";
import { guarded, underCall, type Refuse } from "../objects.js";
import { smmuFeatures, type SmmuFeatures } from "./features.js";
import { abortEntry, nestedEntry, stage1Context, stage1Entry, stage2Entry } from "./stream-entries.js";
import { spanOf } from "../page-span.js";
import { TagPool } from "../tag-pool.js";
import type { UnclaimedFaultListener } from "../unclaimed-fault.js";
import { Vsmmu } from "./vsmmu.js";

/** Without two-level context tables the kernel takes one page of 64 KiB: 1024 descriptors. */
const MOST_LINEAR_SUBSTREAM_BITS = 10;

/** The window of IOVAs for MSIs that the driver asks for (IOMMU_RESV_SW_MSI; Linux MSI_IOVA_BASE, MSI_IOVA_LENGTH). */
const MSI_WINDOW: IovaRange = { start: 0x800_0000n, last: 0x80f_ffffn };

/** Events that the kernel passes to a guest (struct iommu_vevent_arm_smmuv3). */
const FORWARDED_EVENTS: ReadonlySet<number> = new Set([
  EVENT.C_BAD_STE,
  EVENT.F_STREAM_DISABLED,
  EVENT.C_BAD_SUBSTREAMID,
  EVENT.C_BAD_CD,
  EVENT.F_TRANSLATION,
  EVENT.F_ADDR_SIZE,
  EVENT.F_ACCESS,
  EVENT.F_PERMISSION,
]);

/** What one SMMU has of tags and events. */
export interface SmmuAccount extends IommuAccount {
  readonly vmids: number;
  readonly asids: number;
  /** Events that went to no guest, by event number. */
  readonly unhandledEvents: ReadonlyMap<number, number>;
}

/** A function behind an SMMU: its stream table entry, its context table, its ATS. */
export class SmmuMaster implements Master {
  /** What the function is attached to without PASID; null: its transactions abort. */
  domain: SmmuPagingDomain | SmmuNestedDomain | null = null;
  atsEnabled = false;
  /** Where the function's events go, fixed when it was attached. */
  guest: { readonly vsmmu: Vsmmu; readonly vsid: number } | null = null;
  contexts: ContextTable | null = null;
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

  attach(domain: Domain | null, refuse: Refuse): void {
    this.driver.attach(this, domain, refuse);
  }

  attachPasid(pasid: number, domain: Domain | null, refuse: Refuse): void {
    this.driver.attachPasid(this, pasid, domain, refuse);
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
}

/** The kernel's driver of one physical SMMU. */
export class SmmuDriver implements IommuDriver {
  readonly reserved = MSI_WINDOW;
  readonly mapsDoorbells = true;
  readonly hwInfoType = HwInfoType.ARM_SMMUV3;
  readonly features: SmmuFeatures;
  /** How guests' commands are judged; null: they are taken as they are. */
  readonly commandCheck: CommandCheck | null;
  readonly vmids: TagPool;
  readonly asids: TagPool;
  /** Events that went to no guest, by their number. */
  readonly unhandledEvents = new Map<number, number>();
  /** Commands that the hardware answered with an error. */
  commandErrors = 0;
  onUnclaimedFault: UnclaimedFaultListener | null = null;
  private readonly masters = new Map<number, SmmuMaster>();

  constructor(
    readonly smmu: PhysicalSmmu,
    readonly memory: HostMemory,
    rules: KernelRules,
  ) {
    this.features = smmuFeatures(smmu);
    this.commandCheck = rules.judgesCommands ? new CommandCheck(smmu.idr) : null;
    this.vmids = new TagPool(`VMIDs of ${smmu.name}`, this.features.vmidBits);
    this.asids = new TagPool(`ASIDs of ${smmu.name}`, this.features.asidBits);
    smmu.onEvent((record) => this.handleEvent(record));
  }

  /** Takes charge of a function: until it is attached its transactions abort. */
  probe(device: PhysicalFunction): SmmuMaster {
    const master = new SmmuMaster(this, device);
    this.masters.set(device.sourceId, master);
    this.install(master, abortEntry());
    device.enablePasid(master.pasidBits > 0);
    return master;
  }

  get name(): string {
    return this.smmu.name;
  }

  get cacheCoherent(): boolean {
    return this.features.cacheCoherent;
  }

  get tracksDirty(): boolean {
    return this.features.dirty;
  }

  hwInfo(): Uint8Array {
    return hwInfoOf(this.smmu);
  }

  allocatePaging(_master: Master, flags: number, refuse: Refuse): SmmuPagingDomain {
    const kind = domainKind(this, flags, refuse);
    if (!this.features.kernelPages) {
      throw refuse("EINVAL", `${this.name} has no 4 KiB granule`);
    }
    return guarded(() => new SmmuPagingDomain(this, kind), refuse);
  }

  /** This SMMU's nested tables are made on a vIOMMU (no domain_alloc_nested in Linux). */
  allocateNested(_master: Master, _parent: object, _request: HwptAllocRequest, refuse: Refuse): never {
    throw refuse("EOPNOTSUPP", "this SMMU's nested tables are made on a vIOMMU");
  }

  checkViommu(type: number, refuse: Refuse): void {
    if (!this.features.nesting) {
      throw refuse("EOPNOTSUPP", `${this.name} does not nest`);
    }
    // Without either a guest could make its DMA incoherent with memory that the host believes coherent.
    if (!this.smmu.coherent && !this.features.forceWriteBack) {
      throw refuse("EOPNOTSUPP", `${this.name} has neither CANWBS nor S2FWB`);
    }
    if (type !== ViommuType.ARM_SMMUV3) {
      throw refuse("EOPNOTSUPP", `type ${type}`);
    }
  }

  allocateViommu(port: ViommuPort, refuse: Refuse): Vsmmu {
    return new Vsmmu(this, this.own(port.parent, "parent", refuse), port);
  }

  /** The stream table is the hardware's to give back. */
  close(): void {}

  account(): SmmuAccount {
    return {
      name: this.name,
      vmids: this.vmids.live,
      asids: this.asids.live,
      unhandledEvents: this.unhandledEvents,
      commandErrors: this.commandErrors,
    };
  }

  /** Runs a command of four words; an error is counted and, as in Linux, the command passed over. */
  run(words: Int32Array): void {
    this.runWords(words[0], words[1], words[2], words[3]);
  }

  runWords(word0: number, word1: number, word2: number, word3: number): void {
    if (this.smmu.command(word0, word1, word2, word3) !== CERROR_NONE) {
      this.commandErrors++;
    }
  }

  sync(): void {
    this.runWords(OP.SYNC, 0, 0, 0);
  }

  /**
   * Attaches a function's transactions without PASID to a domain, or blocks them, in one change of its
   * stream table entry. Throws with the old attachment in force.
   */
  attach(master: SmmuMaster, domain: Domain | null, refuse: Refuse): void {
    if (domain === null) {
      this.block(master);
      master.domain = null;
    } else if (domain instanceof SmmuNestedDomain) {
      this.attachNested(master, domain, refuse);
      master.domain = domain;
    } else {
      const own = this.own(domain as PagingDomain, "table", refuse);
      this.attachPaging(master, own, refuse);
      master.domain = own;
    }
  }

  /**
   * Attaches transactions with a PASID to a stage-1 domain, or takes that away (null). Those without PASID are
   * blocked or go through the function's context table too: attachment.ts sees to that.
   */
  attachPasid(master: SmmuMaster, pasid: number, target: Domain | null, refuse: Refuse): void {
    if (target === null) {
      if (master.contexts?.has(pasid) === true) {
        this.writeContext(master, pasid, null);
        if (master.atsEnabled) {
          master.invalidateAtc(null, 0, 0);
        }
      }
      master.use(pasid, null, false);
      this.dropContextsIfUnused(master);
      return;
    }
    const domain = this.own(target as PagingDomain, "table", refuse);
    if (pasid >= 2 ** master.pasidBits) {
      throw refuse("EINVAL", `PASID ${pasid} is beyond the function's ${master.pasidBits} bits`);
    }
    const usesContexts = master.domain instanceof SmmuPagingDomain && master.domain.stage === 1;
    const contexts = this.contextsFor(master, pasid, refuse);
    this.writeContext(master, pasid, stage1Context(this.features, domain.table, domain.tag, domain.dirtyTracking));
    this.switchAts(master, master.atsPossible, () =>
      this.install(master, stage1Entry(this.features, contexts, master.atsPossible, usesContexts ? "ssid0" : "terminate")),
    );
    master.use(pasid, domain, false);
  }

  /** A domain of this driver: a table is one SMMU's. */
  private own(domain: PagingDomain, what: string, refuse: Refuse): SmmuPagingDomain {
    if (!(domain instanceof SmmuPagingDomain) || domain.driver !== this) {
      const owner = domain instanceof SmmuPagingDomain ? domain.driver.name : "another IOMMU";
      throw refuse("EINVAL", `the ${what} belongs to ${owner}, the function to ${this.name}`);
    }
    return domain;
  }

  private attachPaging(master: SmmuMaster, domain: SmmuPagingDomain, refuse: Refuse): void {
    const ats = master.atsPossible;
    if (domain.stage === 1) {
      const contexts = this.contextsFor(master, 0, refuse);
      // While the entry still says something else the descriptor is read by nobody.
      this.writeContext(master, 0, stage1Context(this.features, domain.table, domain.tag, domain.dirtyTracking));
      this.switchAts(master, ats, () => this.install(master, stage1Entry(this.features, contexts, ats)));
    } else {
      const entry = stage2Entry(this.features, domain.table, domain.tag, ats, domain.dirtyTracking);
      this.switchAts(master, ats, () => this.install(master, entry));
      this.clearContext(master);
    }
    master.guest = null;
    master.use(0, domain, false);
  }

  private attachNested(master: SmmuMaster, domain: SmmuNestedDomain, refuse: Refuse): void {
    const { vsmmu, guest } = domain;
    if (vsmmu.driver !== this) {
      throw refuse("EINVAL", `the vIOMMU belongs to ${vsmmu.driver.smmu.name}, the function to ${this.smmu.name}`);
    }
    let vsid: bigint | undefined;
    for (const [id, device] of vsmmu.devices) {
      if (device === master) {
        vsid = id;
      }
    }
    // Without one neither its invalidations nor its events could be told; bypass and abort need neither.
    if (vsid === undefined && guest.config === "translate") {
      throw refuse("ENOENT", "the function has no vDEVICE on this vIOMMU");
    }
    // Linux arm_smmu_attach_dev_nested: the guest's EATS decides where its entry translates, for then it has to send
    // the invalidations; in bypass and abort the kernel sends them, and ATS is as it is elsewhere.
    const ats = (guest.ats || guest.config !== "translate") && master.atsPossible;
    const { parent } = vsmmu;
    const stage2 = stage2Entry(this.features, parent.table, vsmmu.vmid, ats, parent.dirtyTracking);
    this.switchAts(master, ats, () => this.install(master, nestedEntry(guest, stage2)));
    this.clearContext(master);
    master.guest = vsid === undefined ? null : { vsmmu, vsid: Number(BigInt.asIntN(32, vsid)) };
    master.use(0, parent, true);
  }

  private block(master: SmmuMaster): void {
    if (master.contexts?.hasSubstreams === true) {
      this.install(master, stage1Entry(this.features, master.contexts, master.atsEnabled, "terminate"));
    } else {
      this.switchAts(master, false, () => this.install(master, abortEntry()));
    }
    this.clearContext(master);
    master.guest = null;
    master.use(0, null, false);
  }

  /** ATS goes off before an entry without it is installed, and on after one with it; caches are emptied. */
  private switchAts(master: SmmuMaster, on: boolean, install: () => void): void {
    const was = master.atsEnabled;
    if (was && !on) {
      master.device.enableAts(false);
    }
    install();
    master.atsEnabled = on;
    if (on && !was) {
      master.device.enableAts(true);
    }
    if (was || on) {
      master.invalidateAtc(null, 0, 0);
    }
  }

  private install(master: SmmuMaster, entry: Int32Array): void {
    this.smmu.writeSte(master.streamId, entry);
    this.run(encodeCommand(OP.CFGI_STE, { SID: master.streamId, LEAF: 1 }));
    this.sync();
  }

  private writeContext(master: SmmuMaster, ssid: number, words: Int32Array | null): void {
    master.contexts!.write(ssid, words);
    this.run(encodeCommand(OP.CFGI_CD, { SID: master.streamId, SSID: ssid, LEAF: 1 }));
    this.sync();
  }

  private clearContext(master: SmmuMaster): void {
    if (master.contexts?.has(0) === true) {
      this.writeContext(master, 0, null);
    }
    this.dropContextsIfUnused(master);
  }

  private dropContextsIfUnused(master: SmmuMaster): void {
    const pointsThere = master.domain instanceof SmmuPagingDomain && master.domain.stage === 1 && master.contexts?.has(0) === true;
    if (master.contexts !== null && master.contexts.size === 0 && !pointsThere) {
      if (master.domain === null) {
        // The last PASID of a blocked function is gone: its entry still points at the table.
        this.switchAts(master, false, () => this.install(master, abortEntry()));
      }
      master.contexts.release();
      master.contexts = null;
    }
  }

  /** The function's context table with a place for `ssid`. */
  private contextsFor(master: SmmuMaster, ssid: number, refuse: Refuse): ContextTable {
    const table = master.contexts;
    try {
      const contexts = table ?? new ContextTable(this.memory, master.pasidBits, this.features.twoLevelContexts);
      master.contexts = contexts;
      contexts.prepare(ssid);
      return contexts;
    } catch (error) {
      if (table === null && master.contexts !== null) {
        master.contexts.release();
        master.contexts = null;
      }
      throw underCall(error, refuse);
    }
  }

  /** IHI 0070, 7.3: to the guest that owns the stream, with its own StreamID; stage-2 faults are the host's. */
  private handleEvent(record: Int32Array): void {
    const number = get(record, EVT.NUMBER);
    const guest = this.masters.get(record[1] >>> 0)?.guest ?? null;
    if (guest !== null && FORWARDED_EVENTS.has(number) && get(record, EVT.S2) === 0) {
      const copy = Int32Array.from(record);
      copy[1] = guest.vsid;
      if (guest.vsmmu.reportEvent(copy)) {
        return;
      }
    }
    this.unhandledEvents.set(number, (this.unhandledEvents.get(number) ?? 0) + 1);
    const master = this.masters.get(record[1] >>> 0);
    if (master !== undefined && this.onUnclaimedFault !== null) {
      const secondStage = get(record, EVT.S2) !== 0;
      this.onUnclaimedFault({
        function: master.device.description.address,
        pasid: get(record, EVT.SSV) === 0 ? null : get(record, EVT.SSID),
        address: getWide(record, EVT.INPUT_ADDR),
        isWrite: get(record, EVT.RNW) === 0,
        secondStage,
        guestPhysical: secondStage ? getWide(record, EVT.IPA) : null,
      });
    }
  }
}
