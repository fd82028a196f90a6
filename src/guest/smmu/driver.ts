/**
 * The SMMUv3 driver of the guest: probe, take-over or first enabling, interrupts, in the order of accesses of
 * Linux's arm-smmu-v3 (arm_smmu_device_probe, arm_smmu_device_reset), so that a trace can be laid beside one.
 */
import {
  CR0,
  CR1,
  CR2,
  EVENT,
  GBPA,
  GERROR,
  GERROR_MASK,
  IRQ_CTRL,
  OP,
  REG,
  STE_WORDS,
  CFGI_RANGE_ALL,
  CMDQ_ENTRY_BYTES,
  EVENTQ_ENTRY_BYTES,
  PRIQ_ENTRY_BYTES,
  Q_BASE,
  deposit,
  extract,
} from "../../smmuv3/spec/index.js";
import type { MachinePort } from "../../port/index.js";
import { GuestFailure, check } from "../failure.js";
import { toQwords } from "../iommu/words.js";
import type { ReservedWindow, SmmuDescription } from "../firmware/description.js";
import { DomainIds } from "../iommu/domain-ids.js";
import type { DomainOptions, IommuDriver, MasterOptions } from "../iommu/driver.js";
import type { DecodedEvent, ExpectedFault, FaultCause } from "../iommu/events.js";
import type { InterruptController } from "../interrupts.js";
import type { GuestMemory } from "../memory.js";
import { CommandQueue, type RegisterAccess, type SyncMode } from "./command-queue.js";
import { SmmuDomain } from "./domain.js";
import { planUpdate, steKind } from "./entry-writer.js";
import { EventQueue } from "./event-queue.js";
import { probeFeatures, type SmmuFeatures } from "./features.js";
import { SmmuMaster, bypassSte } from "./master.js";
import { StreamTable } from "./tables.js";

const WRITE_BACK = 1;
const INNER_SHAREABLE = 3;
/** Read- or write-allocate hint of queue and stream table bases. */
const ALLOCATE_HINT = 1n << 62n;
const POLLS = 1000;
/** CLASS of an event that the input address itself caused (7.3). */
const CLASS_INPUT = 2;

export interface SmmuDriverOptions {
  readonly sync?: SyncMode;
  /** Take ASIDs (and VMIDs) from here; ASIDs are shared by all SMMUs, as in Linux. */
  readonly ids: DomainIds;
}

export class SmmuDriver implements IommuDriver, RegisterAccess {
  private readonly vmids = new DomainIds("VMIDs");
  private readonly masters = new Map<number, SmmuMaster>();
  private streamTable!: StreamTable;
  private eventQueue!: EventQueue;
  private priqBase = 0;
  commands!: CommandQueue;
  features!: SmmuFeatures;
  /** Records that were read, oldest first. */
  readonly events: DecodedEvent[] = [];
  /** Active bits of each global error that was handled. */
  readonly globalErrors: number[] = [];
  /** The SMMU was found enabled. */
  tookOver = false;

  constructor(
    private readonly port: MachinePort,
    readonly memory: GuestMemory,
    private readonly interrupts: InterruptController,
    readonly description: SmmuDescription,
    private readonly options: SmmuDriverOptions,
  ) {}

  get name(): string {
    return this.description.name;
  }

  get eventOverflows(): number {
    return this.eventQueue.overflows;
  }

  async read32(register: number): Promise<number> {
    return Number(await this.port.read(this.description.base + register, 4)) | 0;
  }

  write32(register: number, value: number): Promise<void> {
    return this.port.write(this.description.base + register, 4, BigInt(value >>> 0));
  }

  write64(register: number, value: bigint): Promise<void> {
    return this.port.write(this.description.base + register, 8, value);
  }

  /** Probes, makes queues and tables, gives streams of `identity` windows bypass entries (RMR), and resets. Throws GuestFailure. */
  async probe(rmr: readonly ReservedWindow[] = []): Promise<void> {
    this.features = await probeFeatures((register) => this.read32(register), this.name);
    const { features } = this;
    const mode = this.options.sync ?? (features.msi && this.description.coherent ? "msi" : "poll");
    const cmdq = this.memory.allocate(CMDQ_ENTRY_BYTES << features.cmdqShift);
    this.commands = new CommandQueue(this.name, this, this.memory, this.interrupts, cmdq, features.cmdqShift, mode);
    if (this.description.interrupts.cmdqSync !== undefined) {
      // No enable bit: a CMD_SYNC asks for its interrupt itself.
      this.interrupts.onSpi(this.description.interrupts.cmdqSync, () => this.commands.syncSignalled());
    }
    const evtq = this.memory.allocate(EVENTQ_ENTRY_BYTES << features.evtqShift);
    this.eventQueue = new EventQueue(this.name, this, this.memory, evtq, features.evtqShift);
    if (features.pri) {
      this.priqBase = this.memory.allocate(PRIQ_ENTRY_BYTES << features.priqShift);
    }
    this.streamTable = await StreamTable.create(this.memory, this.name, features);
    for (const window of rmr) {
      const last = Math.min(window.streams[1], 2 ** features.sidBits - 1);
      for (let sid = window.streams[0]; sid <= last; sid++) {
        await this.streamTable.initialise(sid, bypassSte(features.attributeTypesOverride));
      }
    }
    await this.reset();
  }

  /** arm_smmu_device_reset. */
  private async reset(): Promise<void> {
    const { features } = this;
    this.tookOver = extract(await this.read32(REG.CR0), CR0.SMMUEN) === 1;
    if (this.tookOver) {
      // Streams must not be let through while the SMMU is off.
      await this.updateGbpa(GBPA.ABORT.inPlace, 0);
    }
    await this.writeAndAwait(REG.CR0, REG.CR0ACK, 0);

    let cr1 = deposit(deposit(deposit(0, CR1.TABLE_SH, INNER_SHAREABLE), CR1.TABLE_OC, WRITE_BACK), CR1.TABLE_IC, WRITE_BACK);
    cr1 = deposit(deposit(deposit(cr1, CR1.QUEUE_SH, INNER_SHAREABLE), CR1.QUEUE_OC, WRITE_BACK), CR1.QUEUE_IC, WRITE_BACK);
    await this.write32(REG.CR1, cr1);
    await this.write32(REG.CR2, CR2.PTM.inPlace | CR2.RECINVSID.inPlace);

    await this.write64(REG.STRTAB_BASE, BigInt(this.streamTable.base) | ALLOCATE_HINT);
    await this.write32(REG.STRTAB_BASE_CFG, this.streamTable.configuration);

    await this.write64(REG.CMDQ_BASE, queueBase(this.commands.base, features.cmdqShift));
    await this.write32(REG.CMDQ_PROD, 0);
    await this.write32(REG.CMDQ_CONS, 0);
    let enables: number = CR0.CMDQEN.inPlace;
    await this.writeAndAwait(REG.CR0, REG.CR0ACK, enables);

    await this.commands.issueAndSync(OP.CFGI_STE_RANGE, { RANGE: CFGI_RANGE_ALL });
    if (features.hyp) {
      await this.commands.issueAndSync(OP.TLBI_EL2_ALL);
    }
    await this.commands.issueAndSync(OP.TLBI_NSNH_ALL);

    await this.write64(REG.EVENTQ_BASE, queueBase(this.eventQueue.base, features.evtqShift));
    await this.write32(REG.EVENTQ_PROD, 0);
    await this.write32(REG.EVENTQ_CONS, 0);
    enables |= CR0.EVENTQEN.inPlace;
    await this.writeAndAwait(REG.CR0, REG.CR0ACK, enables);

    if (features.pri) {
      await this.write64(REG.PRIQ_BASE, queueBase(this.priqBase, features.priqShift));
      await this.write32(REG.PRIQ_PROD, 0);
      await this.write32(REG.PRIQ_CONS, 0);
      enables |= CR0.PRIQEN.inPlace;
      await this.writeAndAwait(REG.CR0, REG.CR0ACK, enables);
    }
    if (features.ats) {
      enables |= CR0.ATSCHK.inPlace;
      await this.writeAndAwait(REG.CR0, REG.CR0ACK, enables);
    }
    await this.setUpInterrupts();
    enables |= CR0.SMMUEN.inPlace;
    await this.writeAndAwait(REG.CR0, REG.CR0ACK, enables);
  }

  /** arm_smmu_setup_irqs, wired: interrupts off, MSI addresses cleared, handlers, interrupts on. */
  private async setUpInterrupts(): Promise<void> {
    const { interrupts: lines } = this.description;
    await this.writeAndAwait(REG.IRQ_CTRL, REG.IRQ_CTRLACK, 0);
    const events = (): Promise<void> => this.eventQueue.drain((event) => this.events.push(event));
    if (lines.combined !== undefined) {
      this.interrupts.onSpi(lines.combined, async () => {
        await this.handleGlobalError();
        await events();
      });
    } else {
      await this.write64(REG.GERROR_IRQ_CFG0, 0n);
      await this.write64(REG.EVENTQ_IRQ_CFG0, 0n);
      if (this.features.pri) {
        await this.write64(REG.PRIQ_IRQ_CFG0, 0n);
      }
      if (lines.eventq !== undefined) {
        this.interrupts.onSpi(lines.eventq, events);
      }
      if (lines.gerror !== undefined) {
        this.interrupts.onSpi(lines.gerror, () => this.handleGlobalError());
      }
    }
    const enable = IRQ_CTRL.EVENTQ_IRQEN.inPlace | IRQ_CTRL.GERROR_IRQEN.inPlace | (this.features.pri ? IRQ_CTRL.PRIQ_IRQEN.inPlace : 0);
    await this.writeAndAwait(REG.IRQ_CTRL, REG.IRQ_CTRLACK, enable);
  }

  /** arm_smmu_gerror_handler. */
  private async handleGlobalError(): Promise<void> {
    const gerror = await this.read32(REG.GERROR);
    const active = (gerror ^ (await this.read32(REG.GERRORN))) & GERROR_MASK;
    if (active === 0) {
      return;
    }
    this.globalErrors.push(active);
    if (extract(active, GERROR.SFM_ERR) === 1) {
      await this.disable();
    }
    if (extract(active, GERROR.CMDQ_ERR) === 1) {
      await this.commands.skipError();
    }
    await this.write32(REG.GERRORN, gerror);
  }

  /** Clears CR0 and waits: what Linux does at shutdown. */
  async disable(): Promise<void> {
    await this.writeAndAwait(REG.CR0, REG.CR0ACK, 0);
  }

  /** The driver is done with the machine: its interrupt handlers go. The hardware stays as it is. */
  abandon(): void {
    const { interrupts: lines } = this.description;
    for (const intid of [lines.eventq, lines.gerror, lines.cmdqSync, lines.combined]) {
      if (intid !== undefined) {
        this.interrupts.offSpi(intid);
      }
    }
  }

  private async writeAndAwait(register: number, acknowledge: number, value: number): Promise<void> {
    await this.write32(register, value);
    for (let i = 0; i < POLLS; i++) {
      if ((await this.read32(acknowledge)) === value) {
        return;
      }
    }
    throw new GuestFailure(`${this.name}: register 0x${register.toString(16)} was not acknowledged with 0x${value.toString(16)}`);
  }

  /** GBPA's handshake: UPDATE has to be 0 before a write and gets 0 again after it (Arm IHI 0070, 6.3.14). */
  private async updateGbpa(set: number, clear: number): Promise<void> {
    const value = (await this.awaitGbpa()) & ~clear;
    await this.write32(REG.GBPA, value | set | GBPA.UPDATE.inPlace);
    await this.awaitGbpa();
  }

  private async awaitGbpa(): Promise<number> {
    for (let i = 0; i < POLLS; i++) {
      const value = await this.read32(REG.GBPA);
      if (extract(value, GBPA.UPDATE) === 0) {
        return value;
      }
    }
    throw new GuestFailure(`${this.name}: GBPA not responding to update`);
  }

  /** Takes the streams of a function into the stream table (they abort until it is attached). */
  async addMaster(
    name: string,
    streams: readonly number[],
    options: MasterOptions = {},
  ): Promise<SmmuMaster> {
    const { pasidBits = 0, ats = null, requireDirect = false } = options;
    const master = new SmmuMaster(this, name, [...new Set(streams)], pasidBits, ats, requireDirect);
    for (const sid of master.sourceIds) {
      await this.streamTable.prepare(sid);
      check(!this.masters.has(sid), () => `${this.name}: StreamID 0x${sid.toString(16)} of ${name} is ${this.masters.get(sid)?.name ?? ""}'s already`);
      this.masters.set(sid, master);
    }
    return master;
  }

  /** The master of a StreamID. */
  masterOf(streamId: number): SmmuMaster | null {
    return this.masters.get(streamId) ?? null;
  }

  forgetMaster(master: SmmuMaster): void {
    for (const sid of master.sourceIds) {
      this.masters.delete(sid);
    }
  }

  /**
   * A domain with empty tables. `granule`: log2, default the smallest that the SMMU has and that is no larger
   * than 4 KiB where possible. `reserved`: IOVAs that are not handed out.
   */
  async createDomain(options: DomainOptions = {}): Promise<SmmuDomain> {
    const { features } = this;
    const granule = options.granule !== undefined && features.granules.includes(options.granule) ? options.granule : features.granules[0];
    check(granule !== undefined, `${this.name}: IDR5 offers no granule`);
    const id = features.stage1 ? this.options.ids.take(features.asidBits) : this.vmids.take(features.vmidBits);
    return SmmuDomain.create(this, granule, id, options.reserved ?? []);
  }

  releaseDomainId(domain: SmmuDomain): void {
    (domain.stage === 1 ? this.options.ids : this.vmids).release(domain.id);
  }

  readonly takeOver = "aborted and set up anew";

  get domainIdName(): string {
    return this.features.stage1 ? "ASID" : "VMID";
  }

  readonly pasidHindrance = null;

  get traits(): string[] {
    const f = this.features;
    return [
      `stage ${[f.stage1 ? "1" : "", f.stage2 ? "2" : ""].filter((part) => part !== "").join("+")}`,
      `oas ${f.oas}`,
      ...(f.rangeInvalidation ? ["ril"] : []),
      ...(f.ats ? ["ats"] : []),
      ...(f.ssidBits > 0 ? [`ssid ${f.ssidBits}`] : []),
    ];
  }

  get commandCount(): number {
    return [...this.commands.issued.values()].reduce((a, b) => a + b, 0);
  }

  complaints(): string[] {
    return [
      ...this.globalErrors.map((bits) => `${this.name} global error 0x${bits.toString(16)}`),
      ...this.commands.errors.map((error) => `${this.name} command error ${error.error} at ${error.command}`),
      ...(this.eventOverflows > 0 ? [`${this.name} event queue overflow`] : []),
    ];
  }

  /** It translates since its reset: functions without a domain abort. */
  start(): Promise<void> {
    return Promise.resolve();
  }

  /** The event that Arm IHI 0070, 7.3 has for it. */
  expectedFault(cause: FaultCause): ExpectedFault {
    switch (cause.kind) {
      case "no-domain":
        return { event: EVENT.C_BAD_CD, substreamId: cause.pasid };
      case "blocked":
        // STE.Config abort records nothing (5.2).
        return { event: null };
      default:
        return {
          event: cause.kind === "unmapped" ? EVENT.F_TRANSLATION : EVENT.F_PERMISSION,
          stage2: cause.domain.stage === 2,
          substreamId: cause.pasid ?? null,
          page: cause.page,
          faultClass: CLASS_INPUT,
        };
    }
  }

  /** Its interrupts are wired ones and always there. */
  pollEvents(): Promise<void> {
    return Promise.resolve();
  }

  /** Guest-physical address of a stream's entry. */
  steAddress(streamId: number): number {
    return this.streamTable.entryAddress(streamId);
  }

  /** Brings a stream's entry to `target` in steps, each followed by CFGI_STE and CMD_SYNC, and prefetches it. */
  async writeSte(streamId: number, target: Int32Array): Promise<void> {
    const address = this.steAddress(streamId);
    const from = toQwords(await this.memory.readWords(address, STE_WORDS));
    for (const step of planUpdate(steKind, from, toQwords(target))) {
      for (const { index, value } of step) {
        await this.memory.write64(address + index * 8, value);
      }
      await this.commands.issueAndSync(OP.CFGI_STE, { SID: streamId, LEAF: 1 });
    }
    await this.commands.issue(OP.PREFETCH_CONFIG, { SID: streamId });
  }
}

function queueBase(base: number, log2: number): bigint {
  return ALLOCATE_HINT | BigInt(base) | BigInt(deposit(0, Q_BASE.LOG2SIZE, log2));
}
