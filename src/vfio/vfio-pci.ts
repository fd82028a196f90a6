/**
 * `vfio-pci`: a function of the host given to the guest. Its configuration space is the host's with the
 * base addresses, the MSI-X table and the control bits that the kernel keeps for itself emulated here; its
 * registers are the device's own; its DMA goes through the host's IOMMU and never through this process.
 */
import { type DirtySource, type EventStream, type Host, HostError, type HwInfo, type Iommufd, type IommufdDevice, type VfioDevice, VfioRegion } from "../iommufd/index.js";
import { AddressSpace } from "../memory/index.js";
import { COMMAND_BUS_MASTER, COMMAND_MEMORY, PciFunction } from "../pci/index.js";
import { type Log, Refusal } from "../support/index.js";
import { ConfigPassage } from "./config-passage.js";
import { COMMAND, CONFIG_BYTES, hideUnserved, offerTranslationServices, placeExpress, powerState, startsReset, takeOver, watchRegisters, type WatchedRegisters } from "./config-space.js";
import type { IommufdContext } from "./context.js";
import { FunctionReset, resetFacts } from "./function-reset.js";
import { HostNotices } from "./host-notices.js";
import { FunctionInterrupts, type VectorRouting } from "./interrupts.js";
import { type IoAddressSpace, parentFlags, refusesReadOnlyMappings } from "./io-address-space.js";
import { meaning, prefixing, ruleOf } from "./refusals.js";
import { FunctionRegions } from "./regions.js";

/** How long registers stay trapped after an INTx: QEMU's default. */
const INTX_TRAP_MS = 1100;

export interface VfioPciOptions {
  readonly id: string;
  /** Host PCI address; `0000:` is added where the domain is left out. */
  readonly hostAddress: string;
  /** An open VFIO device of the function, whose descriptor the process was given; left out: it is opened by the address. */
  readonly given?: VfioDevice;
  /** The UUID (16 bytes) that a virtual function and its physical one are opened with. */
  readonly token?: Uint8Array;
  /** Null: no `iommufd=` was given. */
  readonly iommufd: IommufdContext | null;
  /** on: ATS is required; off: hidden from the guest; auto: as the host has it. */
  readonly ats: boolean | "auto";
  /** Offset for the PASID capability in extended configuration space; 0: after the last capability. */
  readonly pasidCapabilityOffset: number;
  /** The function's stage-2 table keeps which pages it has written (IommufdContext.readDirtyPages). Default false. */
  readonly dirtyTracking?: boolean;
  /** Who is to know of its descriptor while it is open. Left out: nobody. */
  readonly files?: { opened(fd: number): void; closing(fd: number): void };
  /** The function has met an error that it does not get over. Left out: the host is not asked to tell. */
  readonly onError?: (fn: VfioPci) => void;
  /** The host wants the function back: it is to be unplugged. Left out: the host is not asked to tell. */
  readonly onRequest?: (fn: VfioPci) => void;
  /** The guest sees the expansion ROM. Default false. */
  readonly rom?: boolean;
  /** Registers are reached without this process where the host lets them be mapped. Default true. */
  readonly direct?: boolean;
  readonly host: Host;
  readonly routing: VectorRouting;
  readonly log: Log;
}

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

  private regions: FunctionRegions | null = null;
  private interrupts: FunctionInterrupts | null = null;
  /** Runs from the end of an INTx until registers are reached directly again. */
  private intxServed: NodeJS.Timeout | undefined;
  private passage: ConfigPassage | null = null;
  private resets: FunctionReset | null = null;
  private notices: HostNotices | null = null;
  private watched: WatchedRegisters = { resets: [], power: 0 };
  private closedCallbacks: Array<() => void> = [];

  /** Throws Refusal where the host has no such function. */
  constructor(private readonly options: VfioPciOptions) {
    const found = options.host.functions().find((fn) => fn.address === fullAddress(options.hostAddress));
    if (found === undefined && options.given === undefined) {
      const known = options.host.functions().map((fn) => fn.address);
      throw new Refusal(`vfio ${options.hostAddress}: no such host device`, {
        rule: "no-such-function",
        found: `${options.host.description} has ${known.length === 0 ? "no PCI functions" : known.join(", ")}`,
        wouldWork: known.length === 0 ? undefined : `host=${known[0]}`,
      });
    }
    super(
      "vfio-pci",
      options.id,
      "endpoint",
      // Of a function that the host does not list (no sysfs): they come with its configuration space.
      { vendorId: found?.vendorId ?? 0, deviceId: found?.deviceId ?? 0, classCode: found?.classCode ?? 0 },
      CONFIG_BYTES,
    );
    this.hostIommu = found?.iommu ?? null;
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
        rule: "legacy-container",
        found: `${this.label} without iommufd=`,
        wouldWork: "-object iommufd,id=iommufd0 and iommufd=iommufd0",
      });
    }
    this.connection = context.connect();
    this.context = context;
    this.device = this.options.given ?? this.options.host.openDevice(this.hostAddress);
    this.options.files?.opened(this.device.fd);
    this.boundId = this.device.bind(this.connection.fd, this.options.token);
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
    this.readConfiguration(this.device, this.information, flags.pasidSupported);
    const { bus, devfn } = this;
    if (path.ops?.setIommuDevice !== undefined) {
      prefixing("Failed to set vIOMMU: ", () => path.ops!.setIommuDevice!(bus!, devfn, this));
      this.joined = () => path.ops?.unsetIommuDevice?.(bus!, devfn);
    }
    const { host, log, onError, onRequest } = this.options;
    this.notices = new HostNotices({
      device: this.device,
      host,
      name: this.name,
      log,
      onError: onError === undefined ? undefined : () => onError(this),
      onRequest: onRequest === undefined ? undefined : () => onRequest(this),
    });
  }

  override unrealize(): void {
    // While it leaves its vIOMMU it is on the parent, which shows it all of the guest's memory.
    this.stopDma();
    this.joined?.();
    this.joined = null;
    this.interrupts?.stop();
    clearTimeout(this.intxServed);
    this.regions?.close();
    this.regions = null;
    this.passage = null;
    this.resets?.close();
    this.resets = null;
    if (this.device !== null) {
      this.options.files?.closing(this.device.fd);
      this.device.close();
      this.device = null;
    }
    this.notices?.close();
    this.notices = null;
    this.interrupts?.close();
    this.interrupts = null;
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
    // Its BARs leave the guest's memory before the device stops to answer.
    this.options.routing.batch(() => super.reset());
    // The kernel gives the command register back after the reset: it is to have no bus mastering in it.
    this.stopDma();
    this.resets?.run();
    // An INTx that was up is not any more, and the kernel has it masked: the next one would not come (QEMU's vfio_pci_post_reset).
    this.interrupts?.registersAccessed();
  }

  /** Bus mastering and decoding off in the device itself. */
  private stopDma(): void {
    this.regions?.write(VfioRegion.CONFIG, COMMAND, new Uint8Array(2));
  }

  /** The address space whose RAM is mapped for the function: system memory, which an accelerated SMMU aliases. */
  private passthroughMemory(): AddressSpace {
    if (this.dma instanceof AddressSpace) {
      return this.dma;
    }
    throw new Refusal(`device ${this.bdfText.replace(":", ".")} requires iommu MAP notifier which is not currently supported`, {
      rule: "behind-software-iommu",
      found: `${this.label}, whose DMA would go through ${this.dma?.name ?? "nothing"} in software`,
      wouldWork: "accel=on on its arm-smmuv3, or a bus without SMMU",
    });
  }

  /** A refused step in the words of QEMU: `vfio 0009:01:00.0: ...`. */
  private explain(error: unknown): unknown {
    if (error instanceof HostError) {
      const wouldWork = error.errno === "EOPNOTSUPP" ? "a function behind a host IOMMU that nests; with an intel-iommu also fsts=off,caching-mode=on" : undefined;
      return new Refusal(`vfio ${this.hostAddress}: ${error.message}`, { rule: ruleOf(error), found: `${this.label}; ${meaning(error)}`, wouldWork });
    }
    return error instanceof Refusal ? error.prefixed(`vfio ${this.hostAddress}: `) : error;
  }

  // ---- configuration space ----

  private readConfiguration(device: VfioDevice, info: HwInfo, pasids: boolean): void {
    const { config, options } = this;
    const host = new Uint8Array(CONFIG_BYTES);
    // A conventional PCI function has 256 bytes of it: what is beyond reads as no capability.
    const bytes = device.regionInfo(VfioRegion.CONFIG).size;
    device.regionRead(VfioRegion.CONFIG, 0, host.subarray(0, bytes));
    const passage = new ConfigPassage(config, bytes);
    takeOver(config, passage, host);
    this.resets = new FunctionReset(device, this.devId, resetFacts(config), this.options.iommufd!.siblings, this.name, options.log);
    const { host: source, routing, log } = options;
    this.regions = new FunctionRegions({
      device,
      name: this.name,
      log,
      direct: options.direct ?? true,
      pageBytes: source.pageBytes ?? 4096,
      accessed: () => this.interrupts?.registersAccessed(),
    });
    this.interrupts = new FunctionInterrupts({ fn: this, name: this.name, device, host: source, routing, log, intxWaits: (waits) => this.trapRegisters(waits) });
    for (const bar of this.regions.bars(host, this.interrupts.msix)) {
      this.addBar(bar);
    }
    const rom = options.rom === true ? this.regions.rom() : null;
    if (rom !== null) {
      this.addRom(rom.size, rom.region);
    } else if (options.rom === true) {
      log.warn(`${this.name}: rombar=1, and the function has no expansion ROM that the host can read`);
    }
    this.watched = watchRegisters(config);
    placeExpress(config, passage, this.bus!);
    hideUnserved(config, passage);
    offerTranslationServices(config, passage, { info, ats: options.ats, pasids, pasidOffset: options.pasidCapabilityOffset, name: this.name, label: this.label });
    config.freezeDefaults();
    this.passage = passage;
  }

  /** Below D3hot, or with its power off, the function neither answers to its addresses nor sends (PCIe 5.3.1.4.1). */
  override get decodesMemory(): boolean {
    return super.decodesMemory && this.isAwake;
  }

  override get busMaster(): boolean {
    return super.busMaster && this.isAwake;
  }

  private get isAwake(): boolean {
    return powerState(this.config, this.watched.power) === 0;
  }

  override configRead(offset: number, size: number): number {
    return this.regions === null || this.passage === null ? super.configRead(offset, size) : this.passage.read(this.regions, offset, size);
  }

  override configWrite(offset: number, size: number, value: number): void {
    const { config, regions, passage, watched } = this;
    const keep = (): void => this.options.routing.batch(() => super.configWrite(offset, size, value));
    if (regions === null || passage === null) {
      keep();
      return;
    }
    const covers = (at: number, bytes: number): boolean => at !== 0 && offset < at + bytes && offset + size > at;
    if (covers(COMMAND, 2)) {
      this.writeCommand(regions, keep, config.afterWrite(COMMAND, 2, offset, size, value));
    } else {
      keep();
    }
    const pass = (): void => passage.write(regions, offset, size, value);
    if (startsReset(watched, offset, size, value)) {
      // What is mapped of the registers is taken back by it.
      regions.withoutDirect(pass);
    } else if (covers(watched.power, 1)) {
      this.setPowerState(pass);
    } else {
      pass();
    }
  }

  /**
   * Registers are in the guest's memory only while the device answers: it is the first to be told that it does, and the
   * last to be told that it does not. A processor that reaches a mapping of registers that do not answer would end the machine.
   */
  private writeCommand(regions: FunctionRegions, keep: () => void, command: number): void {
    const bytes = Uint8Array.of(command & 0xff, command >>> 8);
    if ((command & COMMAND_BUS_MASTER) !== 0 && this.powered && this.isAwake && this.joined !== null) {
      this.iommuPath.ops?.busMasteringEnabled?.(this.bus!, this.devfn);
    }
    if ((command & COMMAND_BUS_MASTER) !== 0) {
      this.resets?.used();
    }
    const answers = (command & COMMAND_MEMORY) !== 0;
    if (!answers) {
      keep();
    }
    regions.write(VfioRegion.CONFIG, COMMAND, bytes);
    if (answers) {
      keep();
    }
  }

  /**
   * An INTx waits for the guest to look at the registers, which has to be seen: they are trapped, and stay so for a
   * while after the last one (QEMU's x-intx-mmap-timeout-ms).
   */
  private trapRegisters(waits: boolean): void {
    const { regions } = this;
    clearTimeout(this.intxServed);
    if (regions === null) {
      return;
    }
    if (waits) {
      regions.direct = false;
    } else {
      this.intxServed = setTimeout(() => (regions.direct = true), INTX_TRAP_MS).unref();
    }
  }

  /** The state is what the device says that it is: not every function has every one (PCIe 7.5.2.2). */
  private setPowerState(pass: () => void): void {
    if (!this.isAwake) {
      this.decodingChanged();
    }
    pass();
    this.configRead(this.watched.power, 1);
    this.decodingChanged();
  }
}

/** `01:00.0` is `0000:01:00.0`. */
function fullAddress(address: string): string {
  return (/^[0-9a-f]{1,2}:/i.test(address) && address.split(":").length === 2 ? `0000:${address}` : address).toLowerCase();
}
