/**
 * One boot of the guest's operating system: firmware, memory, interrupts, IOMMU drivers, PCI, and the devices
 * with their domains. Scripts and the `linux` program are written on top of it.
 */
import type { Tolerance } from "./choices/index.js";
import type { GuestFunction } from "./context.js";
import type { Device, HostBridge } from "./device.js";
import type { MachinePort } from "../port/index.js";
import { NVME_CLASS } from "./devices/nvme.js";
import { findDmaDevice } from "./devices/find.js";
import { GuestFailure, check } from "./failure.js";
import { msiDeviceOf, type FirmwareDescription, type ReservedWindow } from "./firmware/description.js";
import type { AddressRange } from "./firmware/dmar.js";
import { readFirmware } from "./firmware/read.js";
import { InterruptController, type InterruptHandler } from "./interrupts.js";
import type { Domain } from "./iommu/domain.js";
import type { IommuDriver, IommuMaster } from "./iommu/driver.js";
import type { DecodedEvent } from "./iommu/events.js";
import { IommuSet } from "./iommus.js";
import { GuestMemory } from "./memory.js";
import { FIRST_VECTOR, messageController, type MessageController, type TakenMessages } from "./messages.js";
import { atsControl, atsQueueDepth, disablePasid, enablePasid } from "./pci/ats-pasid.js";
import { configAccess } from "./pci/config-access.js";
import { enumerateBuses, rescanBelow } from "./pci/enumerate.js";
import { COMMAND_MASTER, COMMAND_MEMORY, type PciFunction } from "./pci/function.js";
import { disableMessages, enableMsi, enableMsix, messageCount } from "./pci/msi.js";
import { ResourceMap } from "./pci/resources.js";
import type { SyncMode } from "./smmu/command-queue.js";
import type { SmmuDriver } from "./smmu/driver.js";
import type { VtdChoice } from "./vtd/features.js";

export interface KernelOptions {
  /** log2 of the page tables' granule: 12, 14 or 16; an SMMU without it uses its smallest. */
  readonly granule: number;
  readonly firmware?: "dt" | "acpi";
  /** Bus numbers left out below each root bus: another value changes the source ids. */
  readonly skipBuses?: number;
  readonly sync?: SyncMode;
  /** RAM to keep away from besides what firmware occupies: a kernel that is being replaced, for kexec. */
  readonly occupied?: readonly AddressRange[];
  /** VT-d: what is not to be used although it is there. */
  readonly vtd?: VtdChoice;
  /** x86: the first vector for messages. Another kernel's vectors may still be pending. */
  readonly firstVector?: number;
  /** Checks that are left out. */
  readonly tolerate?: readonly Tolerance[];
}

export class Kernel {
  readonly interrupts: InterruptController;
  private readonly iommuSet: IommuSet;
  readonly bridges: HostBridge[] = [];
  readonly devices: Device[] = [];
  private readonly doorbells = new Map<Domain, bigint>();
  private messageController: MessageController | null = null;
  firmware!: FirmwareDescription;
  memory!: GuestMemory;

  constructor(
    readonly port: MachinePort,
    readonly options: KernelOptions,
  ) {
    this.interrupts = new InterruptController(port);
    this.iommuSet = new IommuSet({
      port,
      options,
      interrupts: this.interrupts,
      memory: () => this.memory,
      firmware: () => this.firmware,
      useOwnDomain: (device) => this.useOwnDomain(device),
      ownMessage: (handler) => this.ownMessage(handler),
    });
  }

  /** Drivers of the IOMMUs, in the firmware's order. */
  get iommus(): readonly IommuDriver[] {
    return this.iommuSet.drivers;
  }

  /** Those of the SMMUs. */
  get smmus(): SmmuDriver[] {
    return this.iommuSet.smmus;
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

  /** Probes and enables every IOMMU. */
  async probeIommus(): Promise<void> {
    await this.iommuSet.probe();
  }

  private async numberBuses(): Promise<void> {
    for (const description of this.firmware.hostBridges) {
      const config = configAccess(this.port, description);
      const roots = await enumerateBuses(config, description, { skipBuses: this.options.skipBuses });
      this.bridges.push({ description, config, roots, resources: new ResourceMap(description) });
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
    await this.iommuSet.start(this.devices);
    for (const device of this.devices) {
      await device.fn.setCommand(COMMAND_MASTER);
    }
  }

  /** Takes a function in: its ids into the IOMMU's tables, PASID on, its driver found. It is not attached yet. */
  async addDevice(bridge: HostBridge, fn: PciFunction, plugged = false): Promise<Device> {
    const source = this.iommuSet.sourceOf(bridge, fn);
    const iommu = source?.driver ?? null;
    let master: IommuMaster | null = null;
    if (source !== null) {
      // Functions behind one conventional bridge share its requester id and so its master (an IOMMU group).
      master = source.driver.masterOf(source.sourceId);
      if (master === null) {
        // Below a conventional bridge the id is the bridge's alone, as Linux 7.2 has it.
        const pasidBits = await enablePasid(fn);
        master = await source.driver.addMaster(fn.name, [source.sourceId], {
          pasidBits,
          ats: source.ats ? atsControl(fn) : null,
          atsQueueDepth: await atsQueueDepth(fn),
          requireDirect: this.iommuSet.windowsFor(source.driver, [source.sourceId], fn).some((window) => window.identity),
        });
      }
    }
    const device: Device = {
      fn,
      bridge,
      iommu,
      master,
      streamId: source?.sourceId ?? null,
      dma: fn.isBridgeClass ? null : await findDmaDevice(fn, this.interrupts),
      domain: null,
      messages: null,
      plugged,
    };
    this.devices.push(device);
    return device;
  }

  /**
   * What a function is below: looked for again after a hot-plug event, placed and taken in. As with Linux each has
   * its domain before a driver lets it master the bus (iommu_probe_device, pci_set_master).
   */
  async addBelow(bridge: HostBridge, port: PciFunction): Promise<Device[]> {
    const found = await rescanBelow(bridge.config, port);
    await bridge.resources.assignBelow(port);
    const devices = [];
    for (const fn of found) {
      const device = await this.addDevice(bridge, fn, true);
      if (device.master?.domain === null) {
        await this.useOwnDomain(device);
      }
      await fn.setCommand(COMMAND_MASTER);
      devices.push(device);
    }
    return devices;
  }

  /** The functions that are there now and are no bridges. */
  describeFunctions(): GuestFunction[] {
    return this.devices
      .filter(({ fn }) => !fn.isBridgeClass)
      .map(({ fn, bridge, dma, plugged }) => ({
        path: fn.path,
        plugged,
        used: dma !== null || fn.classCode === NVME_CLASS,
        unplaced: bridge.resources.unplaced.filter((one) => one.fn === fn).map(({ bar, size, prefetchable64 }) => ({ bar, size, prefetchable64 })),
      }));
  }

  /** Lets a device go: interrupts off, DMA off, nothing is translated for it. */
  async removeDevice(device: Device): Promise<void> {
    const { fn } = device;
    await disableMessages(fn);
    await this.releaseMessages(device);
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

  /** Windows that a device's domains have to take account of. */
  windowsOf(device: Device): ReservedWindow[] {
    return device.iommu === null || device.master === null ? [] : this.iommuSet.windowsFor(device.iommu, device.master.sourceIds, device.fn);
  }

  /**
   * A domain for a device, with the reserved identity windows mapped (unless `identityWindows` is false), not
   * attached yet. IOVAs that the host bridge would route to another function's BAR are not handed out.
   */
  async createDomain(device: Device, options: { identityWindows?: boolean } = {}): Promise<Domain> {
    check(device.iommu !== null, `${device.fn.name} is behind no IOMMU`);
    const windows = this.windowsOf(device);
    const bars = device.bridge.description.windows.map((window) => ({ base: window.pciBase, size: window.size }));
    const domain = await device.iommu.createDomain({ granule: this.options.granule, reserved: [...windows, ...bars] });
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
    check(device.master !== null, `${device.fn.name} is behind no IOMMU`);
    const shared = this.devices.find((other) => other.master === device.master && other.domain !== null)?.domain ?? null;
    device.domain ??= shared ?? (await this.createDomain(device));
    if (device.master.domain !== device.domain) {
      await device.master.attach(device.domain);
    }
    return device.domain;
  }

  private get controller(): MessageController {
    if (this.firmware.msi === null) {
      throw new GuestFailure("the firmware names no MSI controller");
    }
    const wired = new Set(this.firmware.smmus.flatMap((smmu) => Object.values(smmu.interrupts) as Array<number | undefined>).filter((intid) => intid !== undefined));
    this.messageController ??= messageController(this.port, this.interrupts, this.firmware.msi, { wired, firstVector: this.options.firstVector ?? FIRST_VECTOR });
    return this.messageController;
  }

  /** The address to which a device has to send its messages: the doorbell, or an IOVA of it in the device's domain. */
  async doorbellFor(device: Device): Promise<bigint> {
    const { doorbell } = this.controller;
    if (doorbell === null) {
      return 0n;
    }
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
    await this.releaseMessages(device);
    const address = await this.doorbellFor(device);
    const source = { deviceId: this.msiDeviceId(device), requesterId: fn.requesterId, remapper: this.iommuSet.remapperOf(device.bridge, fn) };
    device.messages = await this.controller.take(source, address, handlers.slice(0, kind === "msi" ? 1 : count));
    const { messages } = device.messages;
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

  /** One vector for an IOMMU's own events, which nobody remaps; null where no message is seen. */
  private async ownMessage(handler: InterruptHandler): Promise<TakenMessages | null> {
    if (this.firmware.msi?.kind !== "apic") {
      return null;
    }
    return await this.controller.take({ deviceId: 0, requesterId: 0, remapper: null }, 0n, [handler]);
  }

  private async releaseMessages(device: Device): Promise<void> {
    await device.messages?.release();
    device.messages = null;
  }

  /** Events of all IOMMUs that were read in this boot. */
  get events(): DecodedEvent[] {
    return this.iommus.flatMap((iommu) => iommu.events);
  }

  /** Waits for an event that matches among those from `from` on of the device's IOMMU; null where none comes. */
  async awaitEvent(iommu: IommuDriver, from: number, matches: (event: DecodedEvent) => boolean): Promise<DecodedEvent | null> {
    await this.interrupts.waitFor(async () => {
      await iommu.pollEvents();
      return iommu.events.slice(from).some(matches);
    });
    return iommu.events.slice(from).find(matches) ?? null;
  }

  /** What a kernel does before another takes over without a reset: functions stop their DMA, the IOMMUs stay as they are. */
  async quiesce(): Promise<void> {
    for (const device of this.devices) {
      if (!device.fn.isBridge) {
        await disableMessages(device.fn);
        await device.fn.setCommand(0, COMMAND_MASTER);
      }
    }
    for (const iommu of this.iommus) {
      iommu.abandon();
    }
  }
}
