/**
 * `vfio-pci`: a function of the host given to the guest. Its configuration space is the host's with the
 * base addresses, the MSI-X table and the control bits that the kernel keeps for itself emulated here; its
 * registers are the device's own; its DMA goes through the host's IOMMU and never through this process.
 */
import {
  type EventStream,
  type Host,
  HostError,
  HwCapabilities,
  type HostEvent,
  type HwInfo,
  type Iommufd,
  type DirtySource,
  type IommufdDevice,
  type VfioDevice,
  VfioIrq,
  VfioRegion,
} from "../iommufd/index.js";
import { AddressSpace, MemoryRegion, type MmioHandler } from "../memory/index.js";
import {
  addExtendedCapability,
  addPasid,
  CAP_EXPRESS,
  CAP_MSIX,
  EXT_CAP_ATS,
  EXT_CAP_PASID,
  findCapability,
  findExtendedCapability,
  MsixCapability,
  PciFunction,
} from "../pci/index.js";
import { type Log, Refusal } from "../support/index.js";
import type { IommufdContext } from "./context.js";
import { type IoAddressSpace, parentFlags, refusesReadOnlyMappings } from "./io-address-space.js";

/** The KVM side of a vector: a route that stands while the vector is live. */
export interface VectorRouting {
  /** Makes or changes the route of a vector: what signals `event` is delivered by it (KVM_SET_GSI_ROUTING, KVM_IRQFD). */
  route(fn: PciFunction, vector: number, iova: bigint, data: number, event: HostEvent): void;
  /** Takes the route away; the event is its owner's again. */
  remove(fn: PciFunction, vector: number): void;
}

export interface VfioPciOptions {
  readonly id: string;
  /** Host PCI address; `0000:` is added where the domain is left out. */
  readonly hostAddress: string;
  /** Null: no `iommufd=` was given. */
  readonly iommufd: IommufdContext | null;
  /** on: ATS is required; off: hidden from the guest; auto: as the host has it. */
  readonly ats: boolean | "auto";
  /** Offset for the PASID capability in extended configuration space; 0: after the last capability. */
  readonly pasidCapabilityOffset: number;
  /** The function's stage-2 table keeps which pages it has written (IommufdContext.readDirtyPages). Default false. */
  readonly dirtyTracking?: boolean;
  readonly host: Host;
  readonly routing: VectorRouting;
  readonly log: Log;
}

const CONFIG_BYTES = 4096;
/** First byte of extended configuration space. */
const EXTENDED = 0x100;
/** The page request capability (PCIe 10.5.2). */
const EXT_CAP_PRI = 0x13;
/** Bytes of a PASID capability. */
const PASID_BYTES = 8;
/** Device Control in the PCI Express capability: all bits are kept but the one that starts a reset. */
const DEVICE_CONTROL = 8;
const DEVICE_CONTROL_KEPT = 0x7fff;
/** In the upper byte of Device Control. */
const FUNCTION_LEVEL_RESET = 0x80;
/** Registers whose writes reach the device: command; the rest that matters is emulated. */
const COMMAND = 0x04;

export class VfioPci extends PciFunction implements IommufdDevice {
  readonly hostIommu: string | null;
  attachedTo: number | null = null;
  // Set one after the other by `realize`, taken back in the reverse order by `unrealize`.
  private context: IommufdContext | null = null;
  private connection: Iommufd | null = null;
  private device: VfioDevice | null = null;
  private boundId: number | null = null;
  private memory: AddressSpace | null = null;
  private space: IoAddressSpace | null = null;
  private mapsReadOnly = true;
  private parent: number | null = null;
  private information: HwInfo | null = null;
  private joined: (() => void) | null = null;

  private msix: MsixCapability | null = null;
  /** Vectors with a route, and the events that VFIO signals. */
  private readonly routes = new Set<number>();
  private readonly events = new Map<number, HostEvent>();
  private closedCallbacks: Array<() => void> = [];

  /** Throws Refusal where the host has no such function. */
  constructor(private readonly options: VfioPciOptions) {
    const found = options.host.functions().find((fn) => fn.address === fullAddress(options.hostAddress));
    if (found === undefined) {
      const known = options.host.functions().map((fn) => fn.address);
      throw new Refusal(`vfio ${options.hostAddress}: no such host device`, {
        found: `${options.host.description} has ${known.length === 0 ? "no PCI functions" : known.join(", ")}`,
        wouldWork: known.length === 0 ? undefined : `host=${known[0]}`,
      });
    }
    super(
      "vfio-pci",
      options.id,
      "endpoint",
      { vendorId: found.vendorId, deviceId: found.deviceId, classCode: found.classCode },
      CONFIG_BYTES,
    );
    this.hostIommu = found.iommu;
  }

  override get passthrough(): { hostAddress: string; iommufd: string | null } {
    return { hostAddress: this.hostAddress, iommufd: this.options.iommufd?.id ?? null };
  }

  // ---- IommufdDevice ----

  get name(): string {
    return `${this.label} (host ${this.hostAddress})`;
  }

  get hostAddress(): string {
    return fullAddress(this.options.hostAddress);
  }

  get iommufd(): Iommufd {
    return this.realized(this.connection);
  }

  get iommufdName(): string {
    return this.options.iommufd?.id ?? "";
  }

  get devId(): number {
    return this.realized(this.boundId);
  }

  get ioasId(): number {
    return this.realized(this.space).ioasId;
  }

  get parentHwptId(): number {
    return this.realized(this.parent);
  }

  get hwInfo(): HwInfo {
    return this.realized(this.information);
  }

  attach(hwptId: number, pasid?: number): void {
    this.realized(this.device).attach(hwptId, pasid);
    if (pasid === undefined) {
      this.attachedTo = hwptId;
    }
  }

  detach(pasid?: number): void {
    this.realized(this.device).detach(pasid);
    if (pasid === undefined) {
      this.attachedTo = null;
    }
  }

  openVtdFaults(): EventStream | null {
    return this.options.host.vtdFaults?.open(this.iommufd.fd, this.devId) ?? null;
  }

  get tracksDirty(): boolean {
    return this.options.dirtyTracking === true;
  }

  addDirtySource(source: DirtySource): void {
    this.realized(this.space).addDirtySource(source);
  }

  removeDirtySource(source: DirtySource): void {
    this.space?.removeDirtySource(source);
  }

  noteDirty(address: number, bytes: number): void {
    this.space?.noteDirty(address, bytes);
  }

  onClosed(callback: () => void): void {
    this.closedCallbacks.push(callback);
  }

  private realized<T>(part: T | null): T {
    if (part === null) {
      throw new Error(`${this.label} is not realized`);
    }
    return part;
  }

  // ---- life cycle ----

  /** Opens, binds, maps the guest's memory, attaches, joins its vIOMMU. Throws Refusal; undone in order where a step is refused. */
  override realize(): void {
    try {
      this.bring();
    } catch (error) {
      this.unrealize();
      throw this.explain(error);
    }
  }

  private bring(): void {
    const context = this.options.iommufd;
    if (context === null) {
      throw new Refusal("legacy VFIO containers are not available", {
        found: `${this.label} without iommufd=`,
        wouldWork: "-object iommufd,id=iommufd0 and iommufd=iommufd0",
      });
    }
    this.connection = context.connect();
    this.context = context;
    this.device = this.options.host.openDevice(this.hostAddress);
    this.boundId = this.device.bind(this.connection.fd);
    this.information = this.connection.getHwInfo(this.boundId);
    const path = this.iommuPath;
    const flags = path.ops?.getViommuFlags?.() ?? { wantNestingParent: false, pasidSupported: false };
    const memory = this.passthroughMemory();
    prefixing("Failed to set vIOMMU: ", () => path.ops?.checkIommuDevice?.(this));
    this.mapsReadOnly = !(flags.wantNestingParent && refusesReadOnlyMappings(this.information));
    this.space = context.takeSpace(memory, this.mapsReadOnly);
    this.memory = memory;
    this.parent = this.space.attach(this.device, this.boundId, this.hostIommu, parentFlags(flags, this.options.dirtyTracking === true), flags.parentOwner);
    this.attachedTo = this.parent;
    this.readConfiguration(this.device);
    this.offerTranslationServices(this.information, flags.pasidSupported);
    const { bus, devfn } = this;
    if (path.ops?.setIommuDevice !== undefined) {
      prefixing("Failed to set vIOMMU: ", () => path.ops!.setIommuDevice!(bus!, devfn, this));
      this.joined = () => path.ops?.unsetIommuDevice?.(bus!, devfn);
    }
  }

  override unrealize(): void {
    // While it leaves its vIOMMU it is on the parent, which shows it all of the guest's memory.
    this.stopDma();
    this.joined?.();
    this.joined = null;
    for (const vector of [...this.routes]) {
      this.removeRoute(vector);
    }
    this.device?.close();
    this.device = null;
    this.closeEvents();
    this.attachedTo = null;
    for (const callback of this.closedCallbacks.splice(0)) {
      callback();
    }
    if (this.parent !== null) {
      this.space?.release(this.parent);
      this.parent = null;
    }
    if (this.memory !== null) {
      this.context?.releaseSpace(this.memory, this.mapsReadOnly);
      this.memory = null;
    }
    this.space = null;
    this.boundId = null;
    this.information = null;
    this.connection = null;
    this.context?.disconnect();
    this.context = null;
  }

  override reset(): void {
    // The kernel gives the command register back after the reset: it is to have no bus mastering in it.
    this.stopDma();
    super.reset();
    try {
      this.device?.reset();
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.options.log.warn(`${this.name}: ${error.message}; the device keeps its state`);
    }
  }

  /** Bus mastering and decoding off in the device itself. */
  private stopDma(): void {
    if (this.device !== null && this.boundId !== null) {
      this.writeRegion(this.device, VfioRegion.CONFIG, COMMAND, new Uint8Array(2));
    }
  }

  /** Reads a region; all ones where the host refuses, as from a device that does not answer (PCIe 2.3.2). */
  private readRegion(device: VfioDevice, index: number, offset: number, out: Uint8Array): void {
    try {
      device.regionRead(index, offset, out);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      out.fill(0xff);
      this.options.log.warnLimited(`vfio.region ${this.hostAddress}`, `${this.name}: read of region ${index} at 0x${offset.toString(16)}: ${error.message}`);
    }
  }

  private writeRegion(device: VfioDevice, index: number, offset: number, data: Uint8Array): void {
    try {
      device.regionWrite(index, offset, data);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.options.log.warnLimited(`vfio.region ${this.hostAddress}`, `${this.name}: write to region ${index} at 0x${offset.toString(16)} is lost: ${error.message}`);
    }
  }

  /** The address space whose RAM is mapped for the function: system memory, which an accelerated SMMU aliases. */
  private passthroughMemory(): AddressSpace {
    if (this.dma instanceof AddressSpace) {
      return this.dma;
    }
    throw new Refusal(`device ${this.bdfText.replace(":", ".")} requires iommu MAP notifier which is not currently supported`, {
      found: `${this.label}, whose DMA would go through ${this.dma?.name ?? "nothing"} in software`,
      wouldWork: "accel=on on its arm-smmuv3, or a bus without SMMU",
    });
  }

  /** A refused step in the words of QEMU: `vfio 0009:01:00.0: ...`. */
  private explain(error: unknown): unknown {
    if (error instanceof HostError) {
      const wouldWork = error.errno === "EOPNOTSUPP" ? "a function behind a host IOMMU that nests; with an intel-iommu also fsts=off,caching-mode=on" : undefined;
      return new Refusal(`vfio ${this.hostAddress}: ${error.message}`, { found: `${this.label}; ${meaning(error)}`, wouldWork });
    }
    return error instanceof Refusal ? error.prefixed(`vfio ${this.hostAddress}: `) : error;
  }

  // ---- configuration space and registers ----

  private readConfiguration(device: VfioDevice): void {
    const { config } = this;
    const host = new Uint8Array(CONFIG_BYTES);
    device.regionRead(VfioRegion.CONFIG, 0, host);
    // Everything as the host has it, but what this side owns: command, BARs, the MSI-X control.
    config.bytes.set(host);
    config.bytes[COMMAND] = 0;
    config.bytes[COMMAND + 1] = 0;
    config.bytes.fill(0, 0x10, 0x28);
    for (let index = VfioRegion.BAR0; index <= VfioRegion.BAR5; index++) {
      const { size } = device.regionInfo(index);
      if (size === 0) {
        continue;
      }
      const flags = host[0x10 + 4 * index];
      const is64 = (flags & 0x6) === 0x4;
      this.addBar({
        index,
        size,
        is64,
        prefetchable: (flags & 0x8) !== 0,
        region: this.barRegion(device, index, size),
      });
      index += is64 ? 1 : 0;
    }
    this.allowControls();
    config.freezeDefaults();
  }

  /** Control registers that the guest may write: Device Control, which goes to the device too, and ATS. */
  private allowControls(): void {
    const { config } = this;
    const express = findCapability(config, CAP_EXPRESS);
    if (express !== 0) {
      config.allow(express + DEVICE_CONTROL, 2, DEVICE_CONTROL_KEPT);
    }
    const ats = findExtendedCapability(config, EXT_CAP_ATS);
    if (ats !== 0) {
      // The kernel enables ATS by itself where the entry has EATS; the guest's enable bit is kept, not passed on.
      config.set16(ats + 6, 0);
      config.allow(ats + 6, 2, 0x801f);
    }
  }

  private barRegion(device: VfioDevice, index: number, size: number): MemoryRegion {
    const registers: MmioHandler = {
      read: (offset, bytes) => {
        const out = new Uint8Array(bytes);
        this.readRegion(device, index, offset, out);
        return out.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
      },
      write: (offset, bytes, value) => {
        const data = Uint8Array.from({ length: bytes }, (_unused, i) => Number((value >> BigInt(8 * i)) & 0xffn));
        this.writeRegion(device, index, offset, data);
      },
    };
    const region = MemoryRegion.container(`${this.hostAddress} BAR ${index}`, size);
    region.add(0, MemoryRegion.mmio(`${this.hostAddress} BAR ${index} registers`, size, registers));
    this.placeMsixTable(device, index, region);
    return region;
  }

  /** The MSI-X table and pending bits are this side's: they lie over the device's registers (PCIe 7.7.2). */
  private placeMsixTable(device: VfioDevice, index: number, region: MemoryRegion): void {
    const { config } = this;
    const at = findCapability(config, CAP_MSIX);
    if (at === 0) {
      return;
    }
    const table = config.get32(at + 4);
    const pending = config.get32(at + 8);
    if (this.msix === null) {
      this.msix = this.takeOverMsix(at, table, pending, Math.min((config.get16(at + 2) & 0x7ff) + 1, device.irqInfo(VfioIrq.MSIX).count));
    }
    const { msix } = this;
    if (msix !== null && (table & 7) === index) {
      region.add(table & ~7, MemoryRegion.mmio("msix-table", msix.tableBytes, msix.table), 1);
    }
    if (msix !== null && (pending & 7) === index) {
      region.add(pending & ~7, MemoryRegion.mmio("msix-pba", msix.pbaBytes, msix.pba), 1);
    }
  }

  private takeOverMsix(offset: number, table: number, pending: number, vectors: number): MsixCapability | null {
    if (vectors < 1) {
      return null;
    }
    const { config } = this;
    const next = config.bytes[offset + 1];
    const head = config.bytes[0x34];
    const msix = new MsixCapability(this, {
      offset,
      vectors,
      tableBar: table & 7,
      tableOffset: table & ~7,
      pbaBar: pending & 7,
      pbaOffset: pending & ~7,
    });
    // The capability stays where the host has it in the list.
    config.bytes[offset + 1] = next;
    config.bytes[0x34] = head;
    msix.onVectorChanged = (vector, live) => this.setVector(vector, live);
    msix.deliver = (vector) => {
      this.events.get(vector)?.signal();
      return true;
    };
    return msix;
  }

  /**
   * A live vector is a route in KVM and an eventfd in VFIO. A masked one keeps its eventfd: what arrives
   * meanwhile is noted as pending and sent when the mask goes (PCIe 6.1.4.5).
   */
  private setVector(vector: number, live: boolean): void {
    const { device, msix, routes } = this;
    if (device === null || msix === null) {
      return;
    }
    try {
      if (live) {
        const { address, data } = msix.message(vector);
        const known = this.events.get(vector);
        const event = known ?? this.options.host.makeEvent();
        this.options.routing.route(this, vector, address, data, event);
        routes.add(vector);
        if (known === undefined) {
          try {
            device.setIrqs(VfioIrq.MSIX, vector, [event]);
          } catch (error) {
            event.close();
            throw error;
          }
          this.events.set(vector, event);
        }
        return;
      }
      this.removeRoute(vector);
      if (!msix.enabled && routes.size === 0 && this.events.size > 0) {
        device.setIrqs(VfioIrq.MSIX, 0, []);
        this.closeEvents();
      }
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      this.removeRoute(vector);
      this.options.log.warnLimited("vfio.vector", `${this.name}: MSI-X vector ${vector} is not ${live ? "delivered" : "switched off"}: ${error.message}`);
    }
  }

  /** What arrives from then on is noted as pending. */
  private removeRoute(vector: number): void {
    if (this.routes.delete(vector)) {
      this.options.routing.remove(this, vector);
      this.events.get(vector)?.onSignal(() => this.msix?.raise(vector));
    }
  }

  private closeEvents(): void {
    this.events.forEach((event) => event.close());
    this.events.clear();
  }

  /** ATS and PASID capabilities as the guest may see them. */
  private offerTranslationServices(info: HwInfo, pasidOffered: boolean): void {
    const { config } = this;
    const ats = findExtendedCapability(config, EXT_CAP_ATS);
    const unusable = (info.capabilities & HwCapabilities.PCI_ATS_NOT_SUPPORTED) !== 0;
    if (this.options.ats === true && (ats === 0 || unusable)) {
      throw new Refusal("vfio-pci: ATS requested but not supported by kernel", {
        found: `${this.name} ${ats === 0 ? "has no ATS capability" : "is reported as not usable for ATS"}`,
        wouldWork: "ats=auto or ats=off",
      });
    }
    if (ats !== 0 && (this.options.ats === false || (this.options.ats === "auto" && unusable))) {
      hideExtendedCapability(this, EXT_CAP_ATS);
    }
    // The kernel keeps the PASID capability to itself; the guest gets one of its own (PCIe 7.8.9). Page requests
    // have nobody to answer them: the vSMMU shows IDR0.PRI as 0.
    hideExtendedCapability(this, EXT_CAP_PASID);
    hideExtendedCapability(this, EXT_CAP_PRI);
    if (pasidOffered && info.maxPasidLog2 > 0) {
      const at = this.options.pasidCapabilityOffset === 0 ? CONFIG_BYTES - PASID_BYTES : this.options.pasidCapabilityOffset;
      if (!this.isFree(at)) {
        throw new Refusal(`vfio: Placing PASID capability at offset 0x${at.toString(16)} failed`, {
          found: `${this.label}: the offset is not a multiple of 4 from 0x100 to 0xff8, or another capability is there`,
          wouldWork: "x-vpasid-cap-offset=0, the end of configuration space",
        });
      }
      if (at !== EXTENDED && config.get32(EXTENDED) === 0) {
        // The list begins at 0x100 (PCIe 7.6.3): an empty one gets a null head that leads to the capability.
        addExtendedCapability(config, 0, 0, EXTENDED, 4);
      }
      addPasid(
        config,
        at,
        Math.min(info.maxPasidLog2, 20),
        (info.capabilities & HwCapabilities.PCI_PASID_EXEC) !== 0,
        (info.capabilities & HwCapabilities.PCI_PASID_PRIV) !== 0,
      );
    }
    config.freezeDefaults();
  }

  /** Bus mastering, memory decoding and Device Control reach the device; everything else is this side's. */
  override configWrite(offset: number, size: number, value: number): void {
    super.configWrite(offset, size, value);
    const { config, device } = this;
    if (device === null) {
      return;
    }
    if (offset < COMMAND + 2 && offset + size > COMMAND) {
      if (this.busMaster && this.joined !== null) {
        this.iommuPath.ops?.busMasteringEnabled?.(this.bus!, this.devfn);
      }
      this.writeRegion(device, VfioRegion.CONFIG, COMMAND, config.bytes.slice(COMMAND, COMMAND + 2));
    }
    const express = findCapability(config, CAP_EXPRESS);
    const control = express + DEVICE_CONTROL;
    if (express !== 0 && offset < control + 2 && offset + size > control) {
      const data = config.bytes.slice(control, control + 2);
      // The bit that starts a function level reset reads as zero; the kernel does the reset (PCIe 7.5.3.4).
      const byte = control + 1 - offset;
      if (byte < size && ((value >>> (8 * byte)) & FUNCTION_LEVEL_RESET) !== 0) {
        data[1] |= FUNCTION_LEVEL_RESET;
      }
      this.writeRegion(device, VfioRegion.CONFIG, control, data);
    }
  }

  /** Whether the 8 bytes of a PASID capability fit at `at`: within extended space, and nothing is there. */
  private isFree(at: number): boolean {
    return at >= EXTENDED && at % 4 === 0 && at + PASID_BYTES <= CONFIG_BYTES && this.config.bytes.subarray(at, at + PASID_BYTES).every((byte) => byte === 0);
  }
}

/** Takes an extended capability out of the list; the first one, at 0x100, becomes a null capability. */
function hideExtendedCapability(fn: PciFunction, id: number): void {
  const { config } = fn;
  const at = findExtendedCapability(config, id);
  if (at === 0) {
    return;
  }
  const next = config.get32(at) >>> 20;
  if (at === 0x100) {
    config.set32(at, (next << 20) >>> 0);
    return;
  }
  for (let previous = 0x100; previous !== 0; previous = config.get32(previous) >>> 20) {
    const header = config.get32(previous);
    if (header >>> 20 === at) {
      config.set32(previous, ((header & 0xfffff) | (next << 20)) >>> 0);
      return;
    }
  }
}

/** Does a step whose refusals begin with `prefix`. */
function prefixing(prefix: string, step: () => void): void {
  try {
    step();
  } catch (error) {
    if (error instanceof HostError) {
      throw new HostError(error.operation, error.errno, `${prefix}${error.detail}`);
    }
    throw error instanceof Refusal ? error.prefixed(prefix) : error;
  }
}

/** What an errno of a step of `realize` means in practice. */
function meaning(error: HostError): string {
  const inUse = "the function is in use, by another machine or by another vfio-pci of this one";
  if (error.operation === "VFIO_BIND_IOMMUFD" && error.errno === "EINVAL") {
    // So the kernel answers a second open of a character device, and an IOMMU without IOMMU_CAP_CACHE_COHERENCY.
    return `${inUse}; or its IOMMU does not walk tables coherently`;
  }
  if (error.errno === "EBUSY") {
    return inUse;
  }
  switch (error.errno) {
    case "ENODEV":
      return "the host has no such function, or it is not bound to vfio-pci";
    case "EOPNOTSUPP":
      return "the host's IOMMU does not do what was asked: nested translation needs both stages (VT-d: ECAP.NEST) and coherent walks (SMMUv3: IORT CANWBS)";
    case "ENOMEM":
      return "the host is out of memory, or RLIMIT_MEMLOCK is below the guest's RAM";
    default:
      return "see the host's kernel log";
  }
}

/** `01:00.0` is `0000:01:00.0`. */
function fullAddress(address: string): string {
  return (/^[0-9a-f]{1,2}:/i.test(address) && address.split(":").length === 2 ? `0000:${address}` : address).toLowerCase();
}
