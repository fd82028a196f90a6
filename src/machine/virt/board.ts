/** QEMU's `virt` board: what is Arm's about it. Interrupt controller, SMMUs, device tree. */
import { checkAffinity } from "../numa-affinity.js";
import type { Host } from "../../iommufd/index.js";
import { MemoryRegion } from "../../memory/index.js";
import { Gicv2mFrame, ItsDoorbell } from "../../msi/index.js";
import { GpexHostBridge, type PciBus } from "../../pci/index.js";
import type { PinDevice } from "../../port/index.js";
import { type Log, Refusal } from "../../support/index.js";
import { type DeviceArgument, deviceLabel, type MachineArguments, type MsiController, nearest, resolveGicVersion, resolveMsiController, textProperty, type VirtOptions } from "../arguments/index.js";
import { Board } from "../board.js";
import type { KernelBoot, PlacedTables } from "../firmware/index.js";
import { buildVirtTables, crowdedBridges } from "./firmware.js";
import { GicInterrupts } from "./gic-interrupts.js";
import { ramPieces, totalSize } from "../ram-layout.js";
import { type MachineSmmu, SmmuSet } from "./smmu-set.js";
import { FIRST_SPI, GITS_TRANSLATER_ADDRESS, layOut, REDISTRIBUTOR_BYTES, SPI_COUNT, V2M_SETSPI_ADDRESS, VIRT, VIRT_SPI, type VirtMap } from "./map.js";
import { virtPins } from "./pins.js";
import { PlatformDevices } from "./platform-devices.js";

const RAM_NAME = "mach-virt.ram";

export class VirtBoard extends Board {
  readonly kind = "virt";
  declare readonly args: MachineArguments<VirtOptions>;
  declare readonly map: VirtMap;
  declare readonly interrupts: GicInterrupts;
  readonly gicVersion: 2 | 3 | 4;
  readonly msiController: MsiController;
  readonly smmus: SmmuSet;
  /** A kernel that is started without firmware, and what it is told: the tables are for it then. */
  kernelBoot: KernelBoot | null = null;
  /** Serial ports, clock, power button. */
  readonly platform: PlatformDevices;

  /** @throws Refusal or HostError, with nothing left of it */
  constructor(args: MachineArguments<VirtOptions>, host: Host, log: Log) {
    const accelerated = args.devices.some((device) => device.model.name === "arm-smmuv3" && device.properties.get("accel") === true);
    const gicVersion = resolveGicVersion(args.machine, accelerated);
    const msiController = resolveMsiController(args.machine, gicVersion);
    const map = layOut(args.machine, { size: totalSize(ramPieces(args, RAM_NAME)), slots: args.memory.slots, maxSize: args.memory.maxSize }, args.cpu);
    super(args, host, log, { map, ramName: RAM_NAME, ramSpans: [map.ram], interrupts: new GicInterrupts(log), pci: { hostBridge: new GpexHostBridge() } });
    this.gicVersion = gicVersion;
    this.msiController = msiController;
    this.smmus = new SmmuSet({
      memory: this.memory,
      words: this.words,
      root: this.root,
      interrupts: this.interrupts,
      msiDoorbell: this.msiDoorbell,
      machine: args.machine,
      kernel: args.boot.kernel !== null,
      log,
    });
    this.platform = new PlatformDevices(this.root, this.interrupts, args.boot.serials.length);
    this.build(() => {
      this.mapRegisters();
      this.makeDevices();
      checkAffinity(this);
    });
  }

  get iommus(): readonly MachineSmmu[] {
    return this.smmus.all;
  }

  get msiDoorbell(): number | null {
    return this.msiController === "its" ? GITS_TRANSLATER_ADDRESS : this.msiController === "gicv2m" ? V2M_SETSPI_ADDRESS : null;
  }

  /** Places of a GICv3, which KVM is to have, and how many processors it serves; null: the machine has a GICv2. */
  get gic(): { readonly distributor: number; readonly redistributors: number; readonly its: number | null; readonly lines: number; readonly mostCpus: number } | null {
    if (this.gicVersion === 2) {
      return null;
    }
    const { gicDistributor, gicRedistributors, gicIts } = VIRT;
    return {
      distributor: gicDistributor.base,
      redistributors: gicRedistributors.base,
      its: this.msiController === "its" ? gicIts.base : null,
      lines: FIRST_SPI + SPI_COUNT,
      mostCpus: Math.floor(gicRedistributors.size / REDISTRIBUTOR_BYTES),
    };
  }

  /** Shared peripheral interrupt (0: INTID 32) of a line of the root complex. */
  spiOfLine(line: number): number {
    return VIRT_SPI.pcie + line;
  }

  /** Bits of the highest guest-physical address that something is at. */
  get addressBits(): number {
    const { ram, ecam, mmio64, deviceMemory } = this.map;
    const end = Math.max(...[ram, ecam, mmio64, deviceMemory].map((range) => (range === null ? 0 : range.base + range.size)));
    return Math.max(32, Math.ceil(Math.log2(end)));
  }

  buildTables(): PlacedTables {
    return buildVirtTables(this);
  }

  /** What a kernel will find too small, a line each. */
  get crowdedBridges(): string[] {
    return crowdedBridges(this);
  }

  pinPaths(): Map<string, () => PinDevice> {
    return virtPins(this);
  }

  override pressPowerButton(): void {
    this.platform.pressPowerButton();
  }

  override resetBoard(): void {
    this.platform.reset();
  }

  protected override disposeIommus(): void {
    this.smmus.dispose();
    this.platform.dispose();
  }

  private mapRegisters(): void {
    const { root, pci, map } = this;
    for (const { block, base } of this.ram) {
      root.add(base, MemoryRegion.ram(block.name, block));
    }
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
    pci.onInterruptLine = (line, level) => {
      if (level) {
        this.router.lineDriven(line);
      }
      this.interrupts.setLevel(FIRST_SPI + VIRT_SPI.pcie + line, level);
    };
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
        this.make(device, () => {
          this.addSmmu(device, requests);
          this.names.add(smmus.find(device)!.device, device.id);
        });
      } else if (device.model.category === "memory") {
        this.make(device, () => this.plugMemory(device, false));
      } else if (device.model.category === "other") {
        this.make(device, () => this.takeOther(device, false));
      } else {
        const fn = this.make(device, () => this.plug(device, false));
        for (const bus of (fn?.secondaryBuses ?? []).filter((one) => one.isRoot)) {
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
      this.make(request, () => this.smmus.add(request, bus, requests.indexOf(request)));
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
        rule: "smmu-bus",
        found: `${deviceLabel(device)} without primary-bus`,
        wouldWork: "primary-bus=pcie.0, or the id of a pxb-pcie that stands before it",
      });
    }
    const bus = this.pci.findBus(id);
    if (bus === null) {
      const later = this.args.devices.some((other) => other.id === id);
      throw new Refusal(`Device '${id}' not found`, {
        rule: "smmu-bus",
        found: later ? `primary-bus=${id}, which a later -device makes` : `primary-bus=${id}; buses: ${this.busNames().join(", ")}`,
        wouldWork: later ? `-device arm-smmuv3 after the pxb-pcie` : `primary-bus=${nearest(id, this.rootBusNames()) ?? "pcie.0"}`,
      });
    }
    this.smmus.add(device, bus, requests.indexOf(device));
  }

  private rootBusNames(): string[] {
    return this.pci.rootBuses().map((bus) => bus.id);
  }
}
