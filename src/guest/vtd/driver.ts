/**
 * The driver of a VT-d unit: invalidation queue, interrupt remapping, root table, fault event, translation
 * enable, in the order of Linux's intel-iommu driver (dmar_enable_qi, intel_irq_remapping, init_dmars), so that a
 * trace can be laid beside one.
 */
import { extract, get, getAddress, pack } from "../../support/index.js";
import type { MachinePort } from "../../port/index.js";
import {
  FAULT,
  GCMD,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_SELECTIVE,
  PASID_CACHE_GLOBAL,
  REG,
  RTADDR,
  TTM_LEGACY,
  TTM_SCALABLE,
} from "../../vtd/spec/index.js";
import type { Tolerance } from "../choices/index.js";
import { check } from "../failure.js";
import type { AddressRange, RemappingUnit } from "../firmware/dmar.js";
import type { InterruptController, InterruptHandler } from "../interrupts.js";
import { DomainIds } from "../iommu/domain-ids.js";
import type { DomainOptions, IommuDriver, MasterOptions } from "../iommu/driver.js";
import type { DecodedEvent, ExpectedFault, FaultCause } from "../iommu/events.js";
import { fromQword, toQwords } from "../iommu/words.js";
import type { GuestMemory } from "../memory.js";
import type { TakenMessages } from "../messages.js";
import { VtdDomain } from "./domain.js";
import { FaultLog } from "./fault-log.js";
import { vtdFeatures, type VtdChoice, type VtdFeatures } from "./features.js";
import { InterruptTable } from "./interrupt-table.js";
import { InvalidationQueue, descriptor } from "./invalidation-queue.js";
import { invalidateByRegisters } from "./register-invalidation.js";
import { VtdMaster } from "./master.js";
import { VtdRegisters } from "./registers.js";
import { RootTable } from "./tables.js";

/** Ids from here on are domains': 0 is for what is not present, 1 for pass-through. */
const FIRST_DID = 2;

export interface VtdDriverOptions {
  readonly choice?: VtdChoice;
  /** Bits of a physical address (DMAR). */
  readonly addressWidth: number;
  /** RAM, for identity where the unit has no pass-through. */
  readonly ram: readonly AddressRange[];
  /** The firmware allows interrupt remapping, and x2APIC ids with it. */
  readonly interruptRemapping: boolean;
  readonly x2apic: boolean;
  readonly tolerate?: readonly Tolerance[];
  /** A message for the unit's own events; null: none is seen, and records are looked for instead. */
  ownMessage(handler: InterruptHandler): Promise<TakenMessages | null>;
}

export class VtdDriver implements IommuDriver {
  readonly registers: VtdRegisters;
  readonly domainIdName = "DID";
  readonly addressWidth: number;
  readonly events: DecodedEvent[] = [];
  tookOver = false;
  /** Tables that were found in use were copied, so that DMA could go on. */
  copiedTables = false;
  features!: VtdFeatures;
  root!: RootTable;
  /** Null: the unit has none, and is invalidated by registers. */
  queue: InvalidationQueue | null = null;
  /** Null: messages are not remapped. */
  remapper: InterruptTable | null = null;
  private faults!: FaultLog;
  private faultMessage: TakenMessages | null = null;
  private readonly masters = new Map<number, VtdMaster>();
  private readonly ids = new DomainIds("domain ids", FIRST_DID);

  constructor(
    port: MachinePort,
    readonly memory: GuestMemory,
    private readonly interrupts: InterruptController,
    readonly description: RemappingUnit,
    private readonly options: VtdDriverOptions,
  ) {
    this.registers = new VtdRegisters(port, description.name, description.base);
    this.addressWidth = options.addressWidth;
  }

  get name(): string {
    return this.description.name;
  }

  get takeOver(): string {
    return this.copiedTables ? "its tables copied" : "turned off and set up anew";
  }

  /** Whether the unit may do this against the specification. */
  tolerates(what: Tolerance): boolean {
    return this.options.tolerate?.includes(what) ?? false;
  }

  /** 6.1: what was not present is invalidated with caching mode only, and nobody else may look. */
  get pasidHindrance(): string | null {
    return this.features.cachingMode || !this.tolerates("unnoticed-pasid")
      ? null
      : `caching-mode=on is needed: ${this.name} is not told of a PASID entry that has become present`;
  }

  get replacesPasids(): boolean {
    return this.options.choice?.tearDownPasids !== true;
  }

  get traits(): string[] {
    const { features: f } = this;
    return [
      f.scalable ? "scalable mode" : "legacy mode",
      f.firstStage ? "first stage" : `second stage of ${f.secondStageLevels} levels`,
      ...(f.pasidBits > 0 ? [`pasid ${f.pasidBits}`] : []),
      ...(f.deviceTlb ? ["device TLBs"] : []),
      ...(f.cachingMode ? ["caching mode"] : []),
      ...(this.remapper === null ? [] : ["interrupts remapped"]),
      ...(this.queue === null ? ["invalidated by registers"] : []),
    ];
  }

  get commandCount(): number {
    return [...(this.queue?.issued.values() ?? [])].reduce((a, b) => a + b, 0);
  }

  complaints(): string[] {
    return [
      ...(this.queue?.errors ?? []).map(({ fsts, reason, descriptor: what }) => `${this.name} queue error FSTS 0x${fsts.toString(16)}, reason ${reason}, at ${what}`),
      ...(this.faults.overflows > 0 ? [`${this.name} fault records lost`] : []),
    ];
  }

  /** Features, the queue, and interrupt remapping, which comes before everything else of a boot. Throws GuestFailure. */
  async prepare(): Promise<void> {
    const { registers, options, memory } = this;
    this.features = vtdFeatures(this.name, await registers.read64(REG.CAP), await registers.read64(REG.ECAP), options.choice);
    const { features } = this;
    this.faults = new FaultLog(registers, features);
    const status = await registers.status();
    this.tookOver = extract(status, GCMD.TE) === 1;
    // What another kernel's functions have left is not this one's.
    await this.faults.drain(() => {});
    if (extract(status, GCMD.IRE) === 1) {
      await registers.command(GCMD.IRE, 0);
    }
    if (extract(status, GCMD.QIE) === 1) {
      await InvalidationQueue.disable(registers);
    }
    if (features.queued) {
      this.queue = await InvalidationQueue.create(registers, memory, this.interrupts, features.wideDescriptors);
      await this.queue.enable();
    }
    if (features.interruptRemapping && options.interruptRemapping && this.queue !== null) {
      this.remapper = await InterruptTable.create(registers, memory, this.queue, features.extendedInterruptMode && options.x2apic);
      await this.remapper.enable(!features.remappingTableInvalidates);
    }
  }

  /** init_dmars: tables, invalidations, the fault event. `prepare` comes before, `start` when functions have their domains. */
  async probe(): Promise<void> {
    const { registers, features, memory } = this;
    this.root = await RootTable.create(memory, features.scalable);
    if (this.tookOver) {
      this.copiedTables = this.options.choice?.copyTables === true && (await this.copyTables());
      if (!this.copiedTables) {
        await registers.command(GCMD.TE, 0);
      }
    }
    await this.flushWriteBuffer();
    const [address] = toQwords(pack(RTADDR, new Int32Array(2), { RTA: this.root.base, TTM: features.scalable ? TTM_SCALABLE : TTM_LEGACY }));
    await registers.write64(REG.RTADDR, address);
    await registers.command(GCMD.SRTP, 1);
    if (!features.rootInvalidates) {
      await this.invalidate([descriptor("CONTEXT_CACHE", { G: GRANULARITY_GLOBAL }), ...this.everything()]);
    }
    await this.setUpFaultEvent();
  }

  async start(): Promise<void> {
    if (!this.copiedTables) {
      await this.registers.command(GCMD.TE, 1);
    }
  }

  private everything(): Int32Array[] {
    return [
      ...(this.features.scalable ? [descriptor("PASID_CACHE", { G: PASID_CACHE_GLOBAL })] : []),
      descriptor("IOTLB", { G: GRANULARITY_GLOBAL, DW: 1, DR: 1 }),
    ];
  }

  /**
   * A crash kernel's copy_translation_tables: the context entries of the tables in use go into this kernel's, so
   * that DMA under way goes on. Not where the other kernel used the other mode. Returns whether that was done.
   */
  private async copyTables(): Promise<boolean> {
    const rtaddr = fromQword(await this.registers.read64(REG.RTADDR));
    if (get(rtaddr, RTADDR.TTM) !== (this.features.scalable ? TTM_SCALABLE : TTM_LEGACY)) {
      return false;
    }
    for (const did of await this.root.copyFrom(getAddress(rtaddr, RTADDR.RTA))) {
      this.ids.reserve(did);
    }
    return true;
  }

  /** dmar_set_interrupt: FEDATA, FEADDR, FEUADDR, records that are there already, and the mask lifted. */
  private async setUpFaultEvent(): Promise<void> {
    this.faultMessage = await this.options.ownMessage(() => this.pollEvents());
    const [message] = this.faultMessage?.messages ?? [];
    if (message !== undefined) {
      await this.registers.write32(REG.FEDATA, message.data);
      await this.registers.write32(REG.FEADDR, Number(message.address & 0xffff_ffffn));
      await this.registers.write32(REG.FEUADDR, Number(message.address >> 32n));
      await this.pollEvents();
      await this.registers.write32(REG.FECTL, 0);
    }
  }

  async pollEvents(): Promise<void> {
    await this.faults.drain((event) => this.events.push(event));
  }

  /** Descriptors and the wait for their end. Nothing for none. */
  async invalidate(descriptors: readonly Int32Array[]): Promise<void> {
    if (descriptors.length === 0) {
      return;
    }
    await this.flushWriteBuffer();
    if (this.queue === null) {
      await invalidateByRegisters(this.registers, this.features.iotlbRegisters, descriptors);
    } else {
      await this.queue.submit(descriptors);
    }
  }

  /** Writes that the unit must see before it goes on (11.4.4, WBF); few units need it. */
  async flushWriteBuffer(): Promise<void> {
    if (this.features.writeBufferFlush) {
      await this.registers.command(GCMD.WBF, 1, 0);
    }
  }

  /** The caches of a context entry that has gone, with what they led to. */
  async flushContext(sourceId: number, did: number): Promise<void> {
    await this.invalidate([
      descriptor("CONTEXT_CACHE", { G: GRANULARITY_SELECTIVE, DID: did, SID: sourceId }),
      ...(this.features.scalable ? this.everything() : [descriptor("IOTLB", { G: GRANULARITY_DOMAIN, DW: 1, DR: 1, DID: did })]),
    ]);
  }

  /** An entry that was not present may be cached as such, with caching mode and under domain id 0. */
  async afterNewContext(sourceId: number): Promise<void> {
    if (this.features.cachingMode) {
      await this.invalidate([
        descriptor("CONTEXT_CACHE", { G: GRANULARITY_SELECTIVE, SID: sourceId }),
        descriptor("IOTLB", { G: GRANULARITY_DOMAIN, DW: 1, DR: 1 }),
      ]);
    } else {
      await this.flushWriteBuffer();
    }
  }

  async createDomain(options: DomainOptions = {}): Promise<VtdDomain> {
    return VtdDomain.create(this, this.ids.take(this.features.domainBits), options.reserved ?? []);
  }

  /** RAM mapped to itself, for units without pass-through. */
  async createIdentityDomain(): Promise<VtdDomain> {
    const domain = await this.createDomain();
    for (const { base, size } of this.options.ram) {
      await domain.map(BigInt(base), base, size, { read: true, write: true });
    }
    return domain;
  }

  releaseDomainId(id: number): void {
    this.ids.release(id);
  }

  async addMaster(name: string, sourceIds: readonly number[], options: MasterOptions = {}): Promise<VtdMaster> {
    const master = new VtdMaster(this, name, [...new Set(sourceIds)], options);
    for (const sid of master.sourceIds) {
      check(!this.masters.has(sid), () => `${this.name}: source-id 0x${sid.toString(16)} of ${name} is ${this.masters.get(sid)?.name ?? ""}'s already`);
      this.masters.set(sid, master);
    }
    return master;
  }

  masterOf(sourceId: number): VtdMaster | null {
    return this.masters.get(sourceId) ?? null;
  }

  forgetMaster(master: VtdMaster): void {
    for (const sid of master.sourceIds) {
      this.masters.delete(sid);
    }
  }

  /** The reason that 7.1.3 has for it, by mode and stage. */
  expectedFault(cause: FaultCause): ExpectedFault {
    const { scalable } = this.features;
    switch (cause.kind) {
      case "no-domain":
        return { event: FAULT.SM_PASID_NOT_PRESENT, substreamId: cause.pasid };
      case "blocked":
        return { event: scalable ? FAULT.SM_PASID_NOT_PRESENT : FAULT.CONTEXT_NOT_PRESENT };
      default: {
        const stage2 = cause.domain.stage === 2;
        // A record does not say which stage it was.
        const legacy = !scalable || (stage2 && this.tolerates("second-stage-reason"));
        const absent = stage2 ? FAULT.SM_SS_NOT_PERMITTED : FAULT.SM_FS_NOT_PRESENT;
        const event = legacy ? FAULT.WRITE : cause.kind === "unmapped" ? absent : FAULT.SM_WRITE;
        return { event, substreamId: cause.pasid ?? null, page: cause.page };
      }
    }
  }

  /** Turns translation off: what Linux does at shutdown. */
  async disable(): Promise<void> {
    await this.registers.command(GCMD.TE, 0);
  }

  abandon(): void {
    void this.faultMessage?.release();
    this.faultMessage = null;
  }
}

