/**
 * One boot of the guest's operating system: firmware, memory, interrupts, SMMU drivers, PCI, and the devices
 * with their domains. Scripts and the `linux` program are written on top of it.
 */
import type { Tolerance } from "./context.js";
import type { MachinePort } from "../port/index.js";
import { findDmaDevice } from "./devices/find.js";
import type { DmaDevice } from "./devices/dma-device.js";
import { GuestFailure, check } from "./failure.js";
import {
  msiDeviceOf,
  streamOf,
  type AddressRange,
  type FirmwareDescription,
  type HostBridgeDescription,
  type ReservedWindow,
} from "./firmware/description.js";
import { readFirmware } from "./firmware/read.js";
import { InterruptController, type InterruptHandler } from "./interrupts.js";
import { GuestMemory } from "./memory.js";
import { atsControl, disablePasid, enablePasid } from "./pci/ats-pasid.js";
import { enumerateBuses, rescanBelow, type RootBus } from "./pci/enumerate.js";
import { COMMAND_MASTER, COMMAND_MEMORY, type PciFunction } from "./pci/function.js";
import { disableMessages, enableMsi, enableMsix, messageCount } from "./pci/msi.js";
import { ResourceMap } from "./pci/resources.js";
import type { SyncMode } from "./smmu/command-queue.js";
import type { Domain } from "./smmu/domain.js";
import { DomainIds, SmmuDriver } from "./smmu/driver.js";
import type { DecodedEvent } from "./smmu/event-queue.js";
import type { SmmuMaster } from "./smmu/master.js";

export interface KernelOptions {
  /** log2 of the page tables' granule: 12, 14 or 16; an SMMU without it uses its smallest. */
  readonly granule: number;
  readonly firmware?: "dt" | "acpi";
  /** Bus numbers left out below each root bus: another value changes the StreamIDs. */
  readonly skipBuses?: number;
  readonly sync?: SyncMode;
  /** RAM to keep away from besides what firmware occupies: a kernel that is being replaced, for kexec. */
  readonly occupied?: readonly AddressRange[];
  /** Checks that are left out. */
  readonly tolerate?: readonly Tolerance[];
}

export interface HostBridge {
  readonly description: HostBridgeDescription;
  readonly roots: RootBus[];
  readonly resources: ResourceMap;
}

/** A function with what the kernel made for it. */
export interface Device {
  readonly fn: PciFunction;
  readonly bridge: HostBridge;
  /** The SMMU that translates it; null: none, its addresses are physical. */
  readonly smmu: SmmuDriver | null;
  readonly master: SmmuMaster | null;
  /** The StreamID that its transactions carry; null without an SMMU. */
  readonly streamId: number | null;
  /** The driver for its DMA; null for functions without one, bridges among them. */
  readonly dma: DmaDevice | null;
  /** Domain that this kernel made for it. */
  domain: Domain | null;
  /** Data of its messages: event ids at the ITS, or INTIDs of SPIs. */
  messages: number[];
}

export class Kernel {
  readonly interrupts: InterruptController;
  readonly smmus: SmmuDriver[] = [];
  readonly bridges: HostBridge[] = [];
  readonly devices: Device[] = [];
  private readonly ids = new DomainIds();
  private readonly doorbells = new Map<Domain, bigint>();
  /** SPIs of the GICv2m frame that no function has; null before the first is asked for. */
  private freeSpis: number[] | null = null;
  firmware!: FirmwareDescription;
  memory!: GuestMemory;

  constructor(
    readonly port: MachinePort,
    readonly options: KernelOptions,
  ) {
    this.interrupts = new InterruptController(port);
  }

  /** Reads the firmware's tables and takes over RAM. With ACPI the buses get their numbers first, as UEFI gives them. */
  async readFirmware(): Promise<FirmwareDescription> {
    this.firmware = await readFirmware(this.port, this.options.firmware, true);
    if (this.firmware.source === "acpi" || this.options.firmware === "acpi") {
      // IORT's ranges follow the bus numbers: it is read again when they are known.
      await this.numberBuses();
      this.firmware = await readFirmware(this.port, this.options.firmware);
      this.bridges.forEach((bridge, i) => {
        this.bridges[i] = { ...bridge, description: this.firmware.hostBridges[i] ?? bridge.description };
      });
    }
    check(this.firmware.ram.length > 0, "the firmware describes no RAM");
    this.memory = new GuestMemory(this.port, this.firmware.ram, [...this.firmware.occupied, ...(this.options.occupied ?? [])]);
    return this.firmware;
  }

  /** Probes and enables every SMMU. */
  async probeSmmus(): Promise<void> {
    for (const [index, description] of this.firmware.smmus.entries()) {
      const driver = new SmmuDriver(this.port, this.memory, this.interrupts, description, { sync: this.options.sync, ids: this.ids });
      // Only IORT's RMRs name streams whose traffic must go on from the start.
      const rmr = this.firmware.source === "acpi" ? this.firmware.reservedWindows.filter((window) => window.smmu === index && window.identity) : [];
      await driver.probe(rmr);
      this.smmus.push(driver);
    }
  }

  private async numberBuses(): Promise<void> {
    for (const description of this.firmware.hostBridges) {
      const roots = await enumerateBuses(this.port, description, { skipBuses: this.options.skipBuses });
      this.bridges.push({ description, roots, resources: new ResourceMap(description) });
    }
  }

  /** Numbers buses (where that has not been done), places BARs, and takes every function in. */
  async enumerate(): Promise<void> {
    if (this.bridges.length === 0) {
      await this.numberBuses();
    }
    for (const bridge of this.bridges) {
      await bridge.resources.assign(bridge.roots);
      for (const root of bridge.roots) {
        for (const fn of root.functions.flatMap((top) => [...top.walk()])) {
          await this.addDevice(bridge, fn);
        }
      }
    }
  }

  /** Takes a function in: its streams into the stream table, PASID on, its driver found. It is not attached yet. */
  async addDevice(bridge: HostBridge, fn: PciFunction): Promise<Device> {
    const stream = streamOf(bridge.description, fn.requesterId);
    const smmu = stream === null ? null : (this.smmus[stream.smmu] ?? null);
    let master: SmmuMaster | null = null;
    if (smmu !== null && stream !== null) {
      // Functions behind one conventional bridge share its requester id and so its master (an IOMMU group).
      master = smmu.masterOf(stream.streamId);
      if (master === null) {
        // Below a conventional bridge the stream is the bridge's alone, as Linux 7.2 has it.
        const streams = [stream.streamId];
        const pasidBits = await enablePasid(fn);
        master = await smmu.addMaster(fn.name, streams, {
          pasidBits,
          ats: bridge.description.ats ? atsControl(fn) : null,
          requireDirect: this.windowsFor(smmu, streams).some((window) => window.identity),
        });
      }
    }
    const device: Device = {
      fn,
      bridge,
      smmu,
      master,
      streamId: stream?.streamId ?? null,
      dma: fn.isBridgeClass ? null : await findDmaDevice(fn, this.interrupts),
      domain: null,
      messages: [],
    };
    this.devices.push(device);
    return device;
  }

  /** What a function is below: looked for again after a hot-plug event, placed and taken in. */
  async addBelow(bridge: HostBridge, port: PciFunction): Promise<Device[]> {
    const found = await rescanBelow(this.port, bridge.description, port);
    await bridge.resources.assignBelow(port);
    const devices = [];
    for (const fn of found) {
      devices.push(await this.addDevice(bridge, fn));
    }
    return devices;
  }

  /** Lets a device go: interrupts off, DMA off, streams abort. */
  async removeDevice(device: Device): Promise<void> {
    const { fn } = device;
    await disableMessages(fn);
    this.releaseMessages(device);
    await fn.setCommand(0, COMMAND_MASTER | COMMAND_MEMORY);
    const sharers = this.devices.filter((other) => other.master === device.master && other !== device);
    if (device.master !== null && sharers.length === 0) {
      await device.master.release();
      await disablePasid(fn);
      await this.freeDomain(device);
    }
    this.devices.splice(this.devices.indexOf(device), 1);
  }

  private async freeDomain(device: Device): Promise<void> {
    if (device.domain !== null && device.domain.users.length === 0) {
      this.doorbells.delete(device.domain);
      await device.domain.destroy();
    }
    device.domain = null;
  }

  /** Windows that the streams of a device have to take account of. */
  windowsOf(device: Device): ReservedWindow[] {
    return device.smmu === null || device.master === null ? [] : this.windowsFor(device.smmu, device.master.streams);
  }

  private windowsFor(smmu: SmmuDriver, streams: readonly number[]): ReservedWindow[] {
    const index = this.smmus.indexOf(smmu);
    return this.firmware.reservedWindows.filter(
      (window) =>
        (window.smmu === null || window.smmu === index) && streams.some((sid) => sid >= window.streams[0] && sid <= window.streams[1]),
    );
  }

  /**
   * A domain for a device, with the reserved identity windows mapped (unless `identityWindows` is false), not
   * attached yet. IOVAs that the host bridge would route to another function's BAR are not handed out.
   */
  async createDomain(device: Device, options: { identityWindows?: boolean } = {}): Promise<Domain> {
    check(device.smmu !== null, `${device.fn.name} is behind no SMMU`);
    const windows = this.windowsOf(device);
    const bars = device.bridge.description.windows.map((window) => ({ base: window.pciBase, size: window.size }));
    const domain = await device.smmu.createDomain({ granule: this.options.granule, reserved: [...windows, ...bars] });
    if (options.identityWindows !== false) {
      for (const window of windows.filter((candidate) => candidate.identity)) {
        const page = domain.table.pageSizes[0];
        const base = Math.floor(window.base / page) * page;
        const size = Math.ceil((window.base + window.size) / page) * page - base;
        await domain.map(BigInt(base), base, size, { read: true, write: true, device: window.device });
      }
    }
    return domain;
  }

  /** Makes and attaches a device's own domain where it has none; returns it. */
  async useOwnDomain(device: Device): Promise<Domain> {
    check(device.master !== null, `${device.fn.name} is behind no SMMU`);
    const shared = this.devices.find((other) => other.master === device.master && other.domain !== null)?.domain ?? null;
    device.domain ??= shared ?? (await this.createDomain(device));
    if (device.master.domain !== device.domain) {
      await device.master.attach(device.domain);
    }
    return device.domain;
  }

  /** The address to which a device has to send its messages: the doorbell, or an IOVA of it in the device's domain. */
  async doorbellFor(device: Device): Promise<bigint> {
    if (this.firmware.msi === null) {
      throw new GuestFailure("the firmware names no MSI controller");
    }
    const { doorbell } = this.firmware.msi;
    const domain = device.master?.domain;
    if (domain === null || domain === undefined || typeof domain === "string") {
      return BigInt(doorbell);
    }
    let iova = this.doorbells.get(domain);
    if (iova === undefined) {
      const offset = doorbell % domain.table.pageSizes[0];
      iova = (await domain.mapBuffer(doorbell - offset, domain.table.pageSizes[0], { write: true, read: true, device: true, noExecute: true })) + BigInt(offset);
      this.doorbells.set(domain, iova);
    }
    return iova;
  }

  /** The id by which the ITS knows the device. */
  msiDeviceId(device: Device): number {
    return msiDeviceOf(device.bridge.description, device.fn.requesterId);
  }

  /**
   * Sets up one message for each handler, in MSI-X where the function has it, else MSI (one message at most).
   * Returns how many of the handlers have one; 0: the function has no messages, or the MSI controller none left.
   */
  async setUpMessages(device: Device, handlers: readonly InterruptHandler[]): Promise<number> {
    const { fn } = device;
    const { kind, count } = await messageCount(fn);
    if (kind === "none") {
      return 0;
    }
    this.releaseMessages(device);
    const address = await this.doorbellFor(device);
    device.messages = await this.takeMessages(device, handlers.slice(0, kind === "msi" ? 1 : count));
    const messages = device.messages.map((data) => ({ address, data }));
    if (messages.length === 0) {
      return 0;
    }
    if (kind === "msix") {
      await enableMsix(fn, messages);
    } else {
      await enableMsi(fn, messages[0]);
    }
    return messages.length;
  }

  /** The data for as many of the handlers as the MSI controller has interrupts for. */
  private async takeMessages(device: Device, handlers: readonly InterruptHandler[]): Promise<number[]> {
    const controller = this.firmware.msi;
    if (controller?.kind !== "gicv2m") {
      return this.interrupts.onMsi(this.msiDeviceId(device), handlers);
    }
    if (this.freeSpis === null) {
      // MSI_TYPER: first INTID in [25:16], number in [9:0].
      const typer = Number(await this.port.read(controller.doorbell - 0x40 + 8, 4));
      const first = controller.firstSpi || (typer >> 16) & 0x3ff;
      // On QEMU's virt board the frame's SPIs (48 to 111) include those of the machine's own SMMU (74 to 77).
      const wired = new Set<number | undefined>(this.firmware.smmus.flatMap((smmu) => Object.values(smmu.interrupts)));
      this.freeSpis = Array.from({ length: controller.spiCount || typer & 0x3ff }, (_, i) => first + i).filter((intid) => !wired.has(intid));
    }
    const taken = this.freeSpis.splice(0, handlers.length);
    taken.forEach((intid, i) => this.interrupts.onSpi(intid, handlers[i]));
    return taken;
  }

  private releaseMessages(device: Device): void {
    if (this.firmware.msi?.kind === "gicv2m") {
      device.messages.forEach((intid) => this.interrupts.offSpi(intid));
      this.freeSpis?.push(...device.messages);
    } else {
      this.interrupts.offMsi(this.msiDeviceId(device), device.messages);
    }
    device.messages = [];
  }

  /** Events of all SMMUs that were read in this boot. */
  get events(): DecodedEvent[] {
    return this.smmus.flatMap((smmu) => smmu.events);
  }

  /** Waits for an event that matches among those from `from` on of the device's SMMU; null where none comes. */
  async awaitEvent(smmu: SmmuDriver, from: number, matches: (event: DecodedEvent) => boolean): Promise<DecodedEvent | null> {
    await this.interrupts.waitFor(() => smmu.events.slice(from).some(matches));
    return smmu.events.slice(from).find(matches) ?? null;
  }

  /** What a kernel does before another takes over without a reset: functions stop their DMA, the SMMUs stay as they are. */
  async quiesce(): Promise<void> {
    for (const device of this.devices) {
      if (!device.fn.isBridge) {
        await disableMessages(device.fn);
        await device.fn.setCommand(0, COMMAND_MASTER);
      }
    }
    for (const smmu of this.smmus) {
      smmu.abandon();
    }
  }
}
