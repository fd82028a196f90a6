/**
 * QEMU's `virt` board out of its parts: system memory, the PCI hierarchy, SMMUs, functions, interrupts. It
 * is built all or not at all; what it has taken of the host is given back in the order of dependence.
 */
import type { Host } from "../iommufd/index.js";
import { AddressSpace, MemoryRegion, RamWordMemory } from "../memory/index.js";
import { Gicv2mFrame, ItsDoorbell, MsiRouter } from "../msi/index.js";
import { plugFunction, PciRoot, type PciBus, type PciFunction, unplugFunction } from "../pci/index.js";
import { type Log, Refusal } from "../support/index.js";
import type { FirmwareTables } from "../port/index.js";
import { MsiAccount } from "./accounts.js";
import type { MachineArguments } from "./arguments.js";
import { type DeviceArgument, deviceLabel, textProperty } from "./device-argument.js";
import { buildTables } from "./firmware-tables.js";
import { DeviceNames } from "./device-names.js";
import { type FunctionParts, makeFunction } from "./functions.js";
import { InterruptLog } from "./interrupt-log.js";
import { type MsiController, resolveGicVersion, resolveMsiController } from "./machine-options.js";
import { MachineObjects } from "./machine-objects.js";
import { nearest } from "./nearest.js";
import { located } from "./option-string.js";
import { allocateRam, type PlacedRam, ramPieces } from "./ram-layout.js";
import { SmmuSet, type MachineSmmu } from "./smmu-set.js";
import { VirtualClock } from "./virtual-clock.js";
import { GITS_TRANSLATER_ADDRESS, layOut, V2M_SETSPI_ADDRESS, VIRT, VIRT_SPI, type VirtMap } from "./virt-map.js";

/** INTID of the first SPI (Arm IHI 0069, 2.2). */
export const FIRST_SPI = 32;

export interface PluggedFunction {
  readonly fn: PciFunction;
  readonly argument: DeviceArgument;
}

export class VirtBoard {
  readonly map: VirtMap;
  readonly gicVersion: 2 | 3 | 4;
  readonly msiController: MsiController;
  readonly memory: AddressSpace;
  readonly words = new RamWordMemory();
  readonly ram: readonly PlacedRam[];
  readonly pci: PciRoot;
  readonly interrupts: InterruptLog;
  readonly router: MsiRouter;
  readonly smmus: SmmuSet;
  readonly objects: MachineObjects;
  readonly msiAccount = new MsiAccount();
  /** Of -accel qtest; null: devices work at once. */
  readonly clock: VirtualClock | null;
  /** QOM paths of what the user asked for. */
  readonly names = new DeviceNames();
  /** Everything that was ever plugged, for the account. */
  readonly everPlugged: PciFunction[] = [];
  /** In the order in which they were plugged. */
  readonly functions: PluggedFunction[] = [];
  /** Where the firmware has put its tables; nowhere before the machine starts. */
  firmware: FirmwareTables = { deviceTree: null, acpiRoot: null };
  private readonly parts: FunctionParts;
  private readonly root = MemoryRegion.container("system", 2 ** 52);

  /** @throws Refusal or HostError, with nothing left of it */
  constructor(
    readonly args: MachineArguments,
    readonly host: Host,
    readonly log: Log,
  ) {
    this.clock = args.machine.accelerator === "qtest" ? new VirtualClock() : null;
    if (this.clock !== null) {
      this.clock.running = !args.control.stopped;
    }
    const accelerated = args.devices.some((device) => device.model.name === "arm-smmuv3" && device.properties.get("accel") === true);
    this.gicVersion = resolveGicVersion(args.machine, accelerated);
    this.msiController = resolveMsiController(args.machine, this.gicVersion);
    const pieces = ramPieces(args);
    const size = pieces.reduce((sum, piece) => sum + piece.size, 0);
    this.map = layOut(args.machine, { size, slots: args.memory.slots, maxSize: args.memory.maxSize }, args.cpu);
    this.ram = allocateRam(host, pieces, this.map.ram.base);
    for (const { block, base } of this.ram) {
      this.root.add(base, MemoryRegion.ram(block.name, block));
      this.words.place(base, block);
    }
    this.memory = new AddressSpace("memory", this.root);
    this.interrupts = new InterruptLog(log);
    this.router = new MsiRouter(this.memory, log);
    this.pci = new PciRoot({ systemMemory: this.memory, bypassIommu: args.machine.bypassIommu });
    this.smmus = new SmmuSet({
      memory: this.memory,
      words: this.words,
      root: this.root,
      interrupts: this.interrupts,
      msiDoorbell: this.msiDoorbell,
      machine: args.machine,
      log,
    });
    const { memoryBackend } = args.machine;
    const mapped = new Set([...args.numa.nodes.map(({ memdev }) => memdev), memoryBackend].filter((id) => id !== null));
    this.objects = new MachineObjects(args.objects, mapped, host, log);
    this.parts = {
      host,
      clock: this.clock,
      iommufds: this.objects.iommufds,
      router: this.router,
      msiAccount: this.msiAccount,
      log,
      numaNodes: args.numa.nodes.length,
      busCount: this.map.busCount,
      systemMemory: this.memory,
      plugged: () => this.functions.map(({ fn }) => fn),
    };
    try {
      this.mapRegisters();
      this.makeDevices();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Guest-physical address that a function's message is to be written to; null: the machine has no MSI controller. */
  get msiDoorbell(): number | null {
    return this.msiController === "its" ? GITS_TRANSLATER_ADDRESS : this.msiController === "gicv2m" ? V2M_SETSPI_ADDRESS : null;
  }

  private mapRegisters(): void {
    const { root, pci, map } = this;
    if (this.msiController === "its") {
      const { base, size } = VIRT.gicItsTranslation;
      root.add(base, MemoryRegion.mmio("its-translation", size, new ItsDoorbell(this.interrupts, this.log)));
    } else if (this.msiController === "gicv2m") {
      const sink = { message: () => {}, spi: (intid: number) => this.interrupts.messageSpi(intid) };
      const frame = new Gicv2mFrame(sink, FIRST_SPI + VIRT_SPI.gicV2m, VIRT_SPI.gicV2mCount);
      root.add(VIRT.gicV2mFrame.base, MemoryRegion.mmio("gicv2m", VIRT.gicV2mFrame.size, frame));
    }
    root.add(map.ecam.base, MemoryRegion.mmio("pcie-ecam", map.ecam.size, pci.ecam));
    root.add(map.mmio32.base, MemoryRegion.alias("pcie-mmio", pci.memory, map.mmio32.base, map.mmio32.size));
    if (map.mmio64 !== null) {
      root.add(map.mmio64.base, MemoryRegion.alias("pcie-mmio-high", pci.memory, map.mmio64.base, map.mmio64.size));
    }
    pci.onInterruptLine = (line, level) => this.interrupts.setLevel(FIRST_SPI + VIRT_SPI.pcie + line, level);
  }

  /**
   * Devices in the order of the command line. An SMMU comes into being with the bus that it covers, since
   * functions get their address space when they are plugged; its number is its place among the SMMUs.
   */
  private makeDevices(): void {
    const { args, smmus } = this;
    if (args.machine.iommu === "smmuv3") {
      smmus.addLegacy(this.pci.bus, args.machine.version, args.globals);
    }
    const requests = args.devices.filter((device) => device.model.name === "arm-smmuv3");
    this.coverBus(this.pci.bus, requests);
    for (const device of args.devices) {
      if (device.model.name === "arm-smmuv3") {
        located(device.where, () => this.addSmmu(device, requests));
        this.names.add(smmus.find(device)!.device, device.id);
      } else {
        const fn = located(device.where, () => this.plug(device, false));
        for (const bus of fn.secondaryBuses.filter((one) => one.isRoot)) {
          this.coverBus(bus, requests);
          smmus.coverExpander(bus);
        }
      }
    }
  }

  /** Makes the SMMU that will cover a bus that has just come to be. */
  private coverBus(bus: PciBus, requests: readonly DeviceArgument[]): void {
    const request = requests.find((one) => textProperty(one, "primary-bus") === bus.id);
    if (request !== undefined && !this.smmus.has(request)) {
      located(request.where, () => this.smmus.add(request, bus, requests.indexOf(request)));
    }
  }

  /** An SMMU at its place in the command line: there already, or not possible. */
  private addSmmu(device: DeviceArgument, requests: readonly DeviceArgument[]): void {
    if (this.smmus.has(device)) {
      const bus = this.smmus.find(device)!.bus;
      const owner = bus.bridge === null ? -1 : this.args.devices.findIndex((one) => one.id === bus.bridge!.id);
      if (owner <= this.args.devices.indexOf(device)) {
        return;
      }
    }
    const id = textProperty(device, "primary-bus");
    if (id === "") {
      throw new Refusal("SMMU is not attached to any PCI bus!", {
        found: `${deviceLabel(device)} without primary-bus`,
        wouldWork: "primary-bus=pcie.0, or the id of a pxb-pcie that stands before it",
      });
    }
    const bus = this.pci.findBus(id);
    if (bus === null) {
      const later = this.args.devices.some((other) => other.id === id);
      throw new Refusal(`Device '${id}' not found`, {
        found: later ? `primary-bus=${id}, which a later -device makes` : `primary-bus=${id}; buses: ${this.busNames().join(", ")}`,
        wouldWork: later ? `-device arm-smmuv3 after the pxb-pcie` : `primary-bus=${nearest(id, this.rootBusNames()) ?? "pcie.0"}`,
      });
    }
    this.smmus.add(device, bus, requests.indexOf(device));
  }

  private busNames(): string[] {
    return [...this.pci.buses()].map((bus) => bus.id);
  }

  private rootBusNames(): string[] {
    return this.pci.rootBuses().map((bus) => bus.id);
  }

  /** Makes and plugs a function. @throws Refusal or HostError, with nothing left of it */
  plug(device: DeviceArgument, hotplugged: boolean): PciFunction {
    const bus = this.findBus(device);
    const fn = makeFunction(device, this.parts);
    plugFunction(fn, bus, device.devfn < 0 ? null : device.devfn, { hotplugged });
    this.functions.push({ fn, argument: device });
    this.names.add(fn, device.id);
    this.everPlugged.push(fn);
    return fn;
  }

  private findBus(device: DeviceArgument): PciBus {
    if (device.bus === null) {
      return this.pci.bus;
    }
    const bus = this.pci.findBus(device.bus);
    if (bus === null) {
      const names = this.busNames();
      const later = this.args.devices.some((other) => other.id === device.bus);
      const near = nearest(device.bus, names);
      throw new Refusal(`Bus '${device.bus}' not found`, {
        found: `${deviceLabel(device)} with bus=${device.bus}${later ? ", which a later -device makes" : near === null ? "" : `; did you mean ${near}?`}`,
        wouldWork: `bus=ID with one of ${names.join(", ")}`,
      });
    }
    return bus;
  }

  /** Writes the firmware's tables into RAM, for the machine as it is; tables that do not fit are left out. */
  writeFirmware(): void {
    const { deviceTree, acpi } = buildTables(this);
    const write = (table: { address: number; bytes: Uint8Array } | null): number | null => {
      const fits = table !== null && table.address + table.bytes.length <= this.map.ram.base + this.ram[0].block.size;
      if (table === null || !fits) {
        return null;
      }
      this.memory.writeBytes(table.address, table.bytes);
      return table.address;
    };
    this.firmware = { deviceTree: write(deviceTree), acpiRoot: write(acpi) };
  }

  find(id: string): PluggedFunction | null {
    return this.functions.find(({ fn }) => id !== "" && fn.id === id) ?? null;
  }

  /** The function has been unplugged: it is the machine's no more. */
  forget(fn: PciFunction): void {
    const index = this.functions.findIndex((plugged) => plugged.fn === fn);
    if (index >= 0) {
      this.functions.splice(index, 1);
      this.names.remove(fn);
    }
    this.router.removeAll(fn);
  }

  /** The SMMU that a function's requests go through; null: none. */
  smmuOf(fn: PciFunction): MachineSmmu | null {
    const ops = fn.bus === null ? null : fn.iommuPath.ops;
    return ops === null ? null : this.smmus.all.find((smmu) => smmu.ops === ops) ?? null;
  }

  /** Unplugs everything in reverse order, then frees what the machine has of the host. */
  dispose(): void {
    for (const { fn } of [...this.functions].reverse()) {
      if (fn.bus !== null) {
        unplugFunction(fn);
      }
      this.router.removeAll(fn);
    }
    this.functions.length = 0;
    this.smmus.dispose();
    this.memory.close();
    for (const { block } of [...this.ram].reverse()) {
      this.host.freeMemory(block);
    }
  }
}
