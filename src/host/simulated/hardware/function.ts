import { VfioRegion } from "../../../iommufd/index.js";
import { toBigInt, traceEvent } from "../../../support/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../../translation/index.js";
import { ATC_HIT, DeviceTranslationCache, NO_PASID } from "./device-cache.js";
import { DmaEngine, type EngineHost, ENGINE_FEATURE_ATS, ENGINE_FEATURE_PASID } from "../../../dma-engine/index.js";
import {
  ATS_CONTROL_ENABLE,
  COMMAND,
  COMMAND_BUS_MASTER,
  COMMAND_MEMORY,
  DEVICE_CONTROL_FLR,
  FunctionConfig,
  NO_SOFT_RESET,
  POWER_STATE,
  MSIX_PBA_OFFSET,
  MSIX_TABLE_OFFSET,
  PASID_ENABLE,
  PASID_EXECUTE,
  PASID_PRIVILEGED,
} from "./function-config.js";
import { FunctionMessages, type MsiTarget } from "./function-messages.js";
import { NVME_ENGINE_OFFSET, sourceIdOf } from "../names/index.js";
import { type NvmeCarrier, NvmeFunction } from "./nvme-function.js";
import type { KnownFunction } from "./known.js";
import type { HardwareIommu } from "./iommu.js";
import { HardwareSmmu } from "./smmu/smmu.js";

const traceDma = traceEvent("viommu_host_dma", "%s %s iova 0x%x pasid %d ats %d length 0x%x");
const traceDmaRefused = traceEvent("viommu_host_dma_refused", "%s");

/** Where a request goes when not to an address: it was terminated; it ended well without memory. */
const REFUSED = -1;
const DISCARDED = -2;

/** The bus behind the IOMMU: host-physical reads and writes of a function; false where nothing answers. */
export interface HostBus {
  read(hpa: number, out: Uint8Array): boolean;
  write(source: HardwareFunction, hpa: number, data: Uint8Array): boolean;
  /** Host-physical address of a function's BAR; null: the host has put it nowhere. */
  barAddress(fn: string, bar: number): number | null;
}

export interface DmaCounters {
  /** Requests made, each within a 4 KiB page: reads and writes of memory, and MSIs. */
  transactions: number;
  /** Bytes that got through. */
  bytes: number;
  /** Requests that were terminated: by the IOMMU, or because nothing answers. */
  faults: number;
  /** ATS Translation Requests sent. */
  translationRequests: number;
  /** Requests whose translation came from the function's own cache. */
  cacheHits: number;
  /** MSIs written, whatever became of them. */
  messages: number;
}

/**
 * A PCI Express function: configuration space, a DMA engine and MSI-X in BAR 0, and what the description
 * gives it of ATS and PASID. Everything it sends goes through its IOMMU. BARs other than 0 read as zero.
 */
export class HardwareFunction implements EngineHost, NvmeCarrier {
  /** With which its requests reach the IOMMU: StreamID, or requester id of a VT-d. */
  readonly sourceId: number;
  readonly counters: DmaCounters = { transactions: 0, bytes: 0, faults: 0, translationRequests: 0, cacheHits: 0, messages: 0 };
  /** Whether the function answers Invalidate Requests; one that has fallen off the bus does not (CERROR_ATC_INV_SYNC). */
  answersInvalidations = true;
  private readonly config: FunctionConfig;
  private readonly engine: DmaEngine;
  /** Its registers do nothing. */
  private readonly isInert: boolean;
  /** Where BAR 0 has the engine: behind a controller's registers. */
  private readonly engineOffset: number;
  private readonly nvme: NvmeFunction | null;
  private readonly cache = new DeviceTranslationCache();
  private readonly messages: FunctionMessages;
  private readonly word = new Uint8Array(4);

  constructor(
    readonly description: KnownFunction,
    /** null: nothing translates its DMA. */
    readonly iommu: HardwareIommu | null,
    private readonly bus: HostBus,
  ) {
    this.sourceId = sourceIdOf(description);
    this.config = new FunctionConfig(description);
    this.engine = new DmaEngine(this);
    this.isInert = description.model === "inert";
    this.nvme = description.model === "nvme" ? new NvmeFunction(this, description) : null;
    this.engineOffset = this.nvme === null ? 0 : NVME_ENGINE_OFFSET;
    this.messages = new FunctionMessages(this.config, description, {
      mayRequest: () => this.mastersBus,
      send: (high, low, data) => this.sendMessage(high, low, data),
    });
  }

  /** The SMMU in front of it; null: none, or an IOMMU of another architecture. */
  get smmu(): HardwareSmmu | null {
    return this.iommu instanceof HardwareSmmu ? this.iommu : null;
  }

  /** Entries in the function's own translation cache. */
  get cachedTranslations(): number {
    return this.cache.size;
  }

  /** They themselves, for who looks. */
  heldTranslations(): ReturnType<DeviceTranslationCache["held"]> {
    return this.cache.held();
  }

  /** Reads 1, 2 or 4 bytes of configuration space at an offset in bytes. */
  configRead(offset: number, size: number): number {
    return this.config.read(offset, size);
  }

  /**
   * Writes 1, 2 or 4 bytes of configuration space. Device Control's FLR bit resets the function (PCIe 7.5.3.4), and so
   * does the way from D3hot to D0 where PMCSR.No_Soft_Reset is 0 (PCIe 5.3.1.4).
   */
  configWrite(offset: number, size: number, value: number): void {
    const { offsets } = this.config;
    const atsBefore = this.atsEnabled;
    const power = offsets.powerManagement + 4;
    const stateBefore: number = this.powerState;
    this.config.write(offset, size, value);
    if (this.powerState === 1 || this.powerState === 2) {
      // D1 and D2 are not supported: the write of the state is dropped (PCIe 7.5.2.2).
      this.config.setBit(power, POWER_STATE, false);
      this.config.setBit(power, stateBefore, true);
    }
    if (stateBefore === 3 && this.powerState === 0 && (this.config.read(power, 1) & NO_SOFT_RESET) === 0) {
      this.reset();
      return;
    }
    const control = offsets.express + 8;
    if (this.config.resetsByFlr && covers(offset, size, control + 1) && ((value >>> (8 * (control + 1 - offset))) & (DEVICE_CONTROL_FLR >>> 8)) !== 0) {
      this.reset();
      return;
    }
    if (this.atsEnabled !== atsBefore) {
      this.cache.clear();
    }
    if (offsets.msix !== 0 && covers(offset, size, offsets.msix + 3)) {
      this.messages.sendPending();
    }
  }

  /** Bytes of a VFIO region (VfioRegion); 0 where there is none. */
  regionInfo(index: number): { size: number } {
    const bar = this.description.bars.find((candidate) => candidate.index === index);
    const size = index === VfioRegion.CONFIG ? 4096 : (bar?.size ?? 0);
    return { size };
  }

  barAddress(index: number): number | null {
    return this.bus.barAddress(this.description.address, index);
  }

  /** Reads a region; all ones while the function does not decode memory. Bytes beyond the region read as ones. */
  regionRead(index: number, offset: number, out: Uint8Array): void {
    if (index === VfioRegion.CONFIG) {
      for (let i = 0; i < out.length; i++) {
        out[i] = this.config.read(offset + i, 1);
      }
      return;
    }
    const { size } = this.regionInfo(index);
    if (!this.decodesMemory || offset + out.length > size) {
      out.fill(0xff);
      return;
    }
    out.fill(0);
    if (index !== 0) {
      return;
    }
    if (offset >= MSIX_TABLE_OFFSET && offset < MSIX_PBA_OFFSET + 64) {
      for (let i = 0; i < out.length; i++) {
        out[i] = this.messages.byte(offset + i);
      }
      return;
    }
    if (this.nvme !== null && offset < NVME_ENGINE_OFFSET) {
      this.nvme.read(offset, out);
    } else if (!this.isInert) {
      this.engine.read(offset - this.engineOffset, out);
    }
  }

  /**
   * Writes a region; dropped while the function does not decode memory. The MSI-X table is `setMsi`'s: the
   * host's kernel owns it, and writes to it through a region are dropped.
   */
  regionWrite(index: number, offset: number, data: Uint8Array): void {
    if (index === VfioRegion.CONFIG) {
      const size = data.length === 4 || data.length === 2 ? data.length : 1;
      for (let i = 0; i < data.length; i += size) {
        let value = 0;
        for (let j = size - 1; j >= 0; j--) {
          value = value * 256 + data[i + j];
        }
        this.configWrite(offset + i, size, value);
      }
      return;
    }
    if (index !== 0 || this.isInert || !this.decodesMemory || offset + data.length > this.regionInfo(0).size) {
      return;
    }
    if (this.nvme !== null && offset < NVME_ENGINE_OFFSET) {
      if (offset < MSIX_TABLE_OFFSET) {
        this.nvme.write(offset, data);
      }
    } else {
      this.engine.write(offset - this.engineOffset, data);
    }
  }

  /**
   * What a vector writes, as the host's kernel programs the MSI-X table; null masks it. MSI-X is enabled
   * while any vector has a target. A vector that was raised while it was masked is sent now (PCIe 6.1.4.5).
   */
  setMsi(vector: number, target: MsiTarget | null): void {
    this.messages.set(vector, target);
  }

  /** Switches ATS by its capability; the function forgets its translations (PCIe 10.5.1.3). Nothing without the capability. */
  enableAts(on: boolean): void {
    const { ats } = this.config.offsets;
    if (ats !== 0) {
      this.config.setBit(ats + 6, ATS_CONTROL_ENABLE, on);
      this.cache.clear();
    }
  }

  /** Switches PASIDs by their capability, with execute and privileged requests. Nothing without the capability. */
  enablePasid(on: boolean): void {
    const { pasid } = this.config.offsets;
    if (pasid !== 0) {
      this.config.setBit(pasid + 6, PASID_ENABLE | PASID_EXECUTE | PASID_PRIVILEGED, on);
    }
  }

  get atsEnabled(): boolean {
    const { ats } = this.config.offsets;
    return ats !== 0 && (this.config.read(ats + 6, 2) & ATS_CONTROL_ENABLE) !== 0;
  }

  get pasidEnabled(): boolean {
    const { pasid } = this.config.offsets;
    return pasid !== 0 && (this.config.read(pasid + 6, 2) & PASID_ENABLE) !== 0;
  }

  /**
   * Function level reset (PCIe 6.6.2): configuration registers (BARs, enables of bus mastering, ATS, PASID,
   * MSI-X), MSI-X table, DMA engine and translation cache as after power on. A kernel saves and restores
   * what it needs around it.
   */
  reset(): void {
    this.config.reset();
    this.engine.reset();
    this.nvme?.reset();
    this.cache.clear();
    this.messages.reset();
  }

  /** Gives back what it has of this process: a disk's file. */
  close(): void {
    this.nvme?.close();
  }

  get msixEnabled(): boolean {
    return this.messages.msixEnabled;
  }

  /** Vectors of MSI-X or MSI, whichever is enabled; 0: neither. */
  get messageVectors(): number {
    return this.messages.vectors;
  }

  /** Invalidate Request from the IOMMU; false: no answer. `bits` is log2 of the bytes. */
  invalidateCache(pasid: number, global: boolean, high: number, low: number, bits: number): boolean {
    if (!this.answersInvalidations) {
      return false;
    }
    this.cache.invalidate(pasid, global, high, low, bits);
    return true;
  }

  features(): number {
    return (this.pasidEnabled ? ENGINE_FEATURE_PASID : 0) | (this.atsEnabled ? ENGINE_FEATURE_ATS : 0);
  }

  mayRequest(pasid: number, access: number, ats: boolean): boolean {
    if (!this.mastersBus || (ats && !this.atsEnabled)) {
      return false;
    }
    const wantsPrefix = (access & (ACCESS_EXECUTE | ACCESS_PRIVILEGED)) !== 0;
    if (pasid === NO_PASID) {
      // Only the PASID prefix carries the two (PCIe 6.20.2).
      return !wantsPrefix;
    }
    const control = this.pasidEnabled ? this.config.read(this.config.offsets.pasid + 6, 2) : 0;
    return (
      (control & PASID_ENABLE) !== 0 &&
      pasid >>> 0 < 2 ** this.description.pasidBits &&
      ((access & ACCESS_EXECUTE) === 0 || (control & PASID_EXECUTE) !== 0) &&
      ((access & ACCESS_PRIVILEGED) === 0 || (control & PASID_PRIVILEGED) !== 0)
    );
  }

  readMemory(high: number, low: number, out: Uint8Array, pasid: number, access: number, ats: boolean): boolean {
    if (traceDma.on) {
      traceDma.emit(this.description.address, "read", toBigInt(high, low), pasid, ats ? 1 : 0, out.length);
    }
    const hpa = this.request(high, low, pasid, access, ats);
    if (hpa === DISCARDED) {
      out.fill(0);
      return this.finish(true, 0);
    }
    return this.finish(hpa >= 0 && this.bus.read(hpa, out), out.length);
  }

  writeMemory(high: number, low: number, data: Uint8Array, pasid: number, access: number, ats: boolean): boolean {
    if (traceDma.on) {
      traceDma.emit(this.description.address, "write", toBigInt(high, low), pasid, ats ? 1 : 0, data.length);
    }
    const hpa = this.request(high, low, pasid, access, ats);
    return hpa === DISCARDED ? this.finish(true, 0) : this.finish(hpa >= 0 && this.bus.write(this, hpa, data), data.length);
  }

  /** Sends the vector's message: by MSI-X, where it is masked later; else by MSI; nothing where both are off. */
  raise(vector: number): void {
    this.messages.raise(vector);
  }

  /** A message is a memory write without PASID, not translated by the function (PCIe 6.1.4, 10.1.1). */
  private sendMessage(high: number, low: number, data: number): void {
    this.counters.messages++;
    for (let i = 0; i < 4; i++) {
      this.word[i] = data >>> (8 * i);
    }
    this.writeMemory(high, low, this.word, NO_PASID, ACCESS_WRITE, false);
  }

  /** Takes a request to where it goes: the host-physical address, REFUSED or DISCARDED. */
  private request(high: number, low: number, pasid: number, access: number, ats: boolean): number {
    this.counters.transactions++;
    const { iommu } = this;
    if (iommu === null) {
      return high >>> 20 === 0 ? physical(high, low) : REFUSED;
    }
    if (!ats) {
      if (!iommu.translate(this.sourceId, pasid, high, low, access)) {
        return REFUSED;
      }
      return iommu.outDiscarded ? DISCARDED : physical(iommu.outHigh, iommu.outLow);
    }
    const { cache } = this;
    const kind = access & (ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE);
    const privileged = (access & ACCESS_PRIVILEGED) !== 0;
    if (cache.lookup(pasid, high, low, kind, privileged) === ATC_HIT) {
      this.counters.cacheHits++;
    } else {
      this.counters.translationRequests++;
      const granted = iommu.translationRequest(this.sourceId, pasid, high, low, access);
      if (granted !== 0) {
        cache.insert(pasid, high, low, iommu.outPageBits, iommu.outHigh, iommu.outLow, granted, privileged);
      }
      if (cache.lookup(pasid, high, low, kind, privileged) !== ATC_HIT) {
        return REFUSED;
      }
    }
    return iommu.translated(this.sourceId, pasid, cache.outHigh, cache.outLow, access) ? physical(iommu.outHigh, iommu.outLow) : REFUSED;
  }

  private finish(ok: boolean, bytes: number): boolean {
    if (ok) {
      this.counters.bytes += bytes;
    } else {
      this.counters.faults++;
      if (traceDmaRefused.on) {
        traceDmaRefused.emit(this.description.address);
      }
    }
    return ok;
  }

  /** In D0 and allowed to send requests. */
  private get mastersBus(): boolean {
    return this.isAwake && (this.config.read(COMMAND, 2) & COMMAND_BUS_MASTER) !== 0;
  }

  /** Its BARs answer. */
  get decodesMemory(): boolean {
    return this.isAwake && (this.config.read(COMMAND, 2) & COMMAND_MEMORY) !== 0;
  }

  private get isAwake(): boolean {
    return this.powerState === 0;
  }

  private get powerState(): number {
    return this.config.read(this.config.offsets.powerManagement + 4, 1) & POWER_STATE;
  }
}

function covers(offset: number, size: number, byte: number): boolean {
  return offset <= byte && byte < offset + size;
}

function physical(high: number, low: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}
