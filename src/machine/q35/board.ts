/** QEMU's `q35` board: what is a PC's about it. Chipset functions, IOAPIC and messages, I/O ports, the intel-iommu. */
import { checkAffinity } from "../numa-affinity.js";
import { PvpanicByte } from "../../devices/index.js";
import type { Host } from "../../iommufd/index.js";
import { MemoryRegion, type RamBlock } from "../../memory/index.js";
import { plugFunction, type PciFunction } from "../../pci/index.js";
import type { MemoryMapEntry, PciWindow, PinDevice } from "../../port/index.js";
import { type Log, Refusal } from "../../support/index.js";
import { checkVtdProperties, type DeviceArgument, deviceLabel, type MachineArguments, numberProperty, type Q35Options } from "../arguments/index.js";
import { ACPI_PORTS, AcpiHardware, ResetPort } from "./acpi-hardware.js";
import { ApicInterrupts, type Message, MessageWindow } from "./apic-interrupts.js";
import { Board } from "../board.js";
import type { PlacedTables } from "../firmware/index.js";
import { FW_CFG_DMA_PORT, FW_CFG_PORT, FwCfg } from "./fw-cfg.js";
import { CONFIG_ADDRESS, ConfigPorts, IoPorts } from "./io-ports.js";
import { IOAPIC_PINS, IoApic } from "./ioapic.js";
import { MachineVtd } from "./vtd.js";
import { Q35_RAM_ALIGNMENT, q35Files, q35MemoryMap, q35Tables } from "./firmware.js";
import { Ich9Ahci, Ich9Lpc, Ich9Smbus, Mch } from "./chipset.js";
import { FIRST_PIRQ_PIN, IOAPIC_REQUESTER_ID, layOutQ35, pirqOf, Q35, type Q35Map } from "./map.js";
import { q35Pins } from "./pins.js";
import { SerialPorts } from "./serial-ports.js";
import { wideMemory } from "../pci-windows.js";
import { allocateBlock, ramPieces, totalSize } from "../ram-layout.js";
const RAM_NAME = "pc.ram";
const PIRQS = 8;

export class Q35Board extends Board {
  readonly kind = "q35";
  declare readonly args: MachineArguments<Q35Options>;
  declare readonly map: Q35Map;
  declare readonly interrupts: ApicInterrupts;
  readonly gicVersion = null;
  readonly msiController = "apic";
  readonly msiDoorbell = Q35.messages.base;
  override readonly ports = new IoPorts();
  readonly mch: Mch;
  readonly ioapic: IoApic;
  private readonly built = process.hrtime.bigint();
  readonly serial: SerialPorts;
  readonly acpiHardware: AcpiHardware;
  private readonly resetPort = new ResetPort(() => this.outputs.guestReset());
  /** Null: the machine has no intel-iommu. */
  vtd: MachineVtd | null = null;
  /** At an I/O port; null: none. */
  pvpanic: { readonly byte: PvpanicByte; readonly argument: DeviceArgument; readonly port: number | null } | null = null;
  private readonly configPorts: ConfigPorts;
  private readonly fwCfg: FwCfg;
  private readonly roms: RamBlock[] = [];
  private ecamRegion: MemoryRegion | null = null;

  /** @throws Refusal or HostError, with nothing left of it */
  constructor(args: MachineArguments<Q35Options>, host: Host, log: Log) {
    const map = layOutQ35(args.machine, { size: totalSize(ramPieces(args, RAM_NAME)), slots: args.memory.slots, maxSize: args.memory.maxSize }, args.cpu);
    const mch = new Mch();
    super(args, host, log, {
      map,
      ramName: RAM_NAME,
      ramSpans: map.highRam === null ? [map.lowRam] : [map.lowRam, map.highRam],
      interrupts: new ApicInterrupts(log),
      pci: { hostBridge: mch, interruptLines: PIRQS, lineOf: pirqOf },
    });
    this.mch = mch;
    this.ioapic = new IoApic(this.interrupts, (requesterId, message) => this.remap(requesterId, message));
    this.acpiHardware = new AcpiHardware(
      { setInterrupt: (level) => this.ioapic.setPin(Q35.acpi.sciInterrupt, level ? 1 : 0), powerOff: () => this.outputs.powerOff() },
      () => this.clock?.now ?? process.hrtime.bigint() - this.built,
    );
    this.serial = new SerialPorts(args.boot.serials.length, this.ports, this.ioapic);
    this.configPorts = new ConfigPorts(this.pci);
    this.fwCfg = new FwCfg({ ramSize: this.ramSize, cpus: args.smp.cpus, maxCpus: args.smp.maxCpus, files: () => q35Files(this) }, this.memory);
    this.build(() => {
      this.mapMemory();
      this.mapRegisters();
      this.makeDevices();
      checkAffinity(this);
    });
  }

  get iommus(): readonly MachineVtd[] {
    return this.vtd === null ? [] : [this.vtd];
  }

  private mapMemory(): void {
    const { root, map } = this;
    const whole = MemoryRegion.container(RAM_NAME, Math.max(this.ramSize, Q35_RAM_ALIGNMENT));
    let at = 0;
    for (const block of this.ramBlocks) {
      whole.add(at, MemoryRegion.ram(block.name, block));
      at += block.size;
    }
    root.add(map.lowRam.base, MemoryRegion.alias("ram-below-4g", whole, 0, map.lowRam.size));
    if (map.highRam !== null) {
      root.add(map.highRam.base, MemoryRegion.alias("ram-above-4g", whole, map.lowRam.size, map.highRam.size));
    }
    const rom = (name: string, size: number): RamBlock => {
      const block = allocateBlock(this.host, name, size);
      this.roms.push(block);
      return block;
    };
    // As after a reset, when no firmware has made RAM of the low ranges.
    root.add(Q35.optionRom.base, MemoryRegion.rom("pc.rom", rom("pc.rom", Q35.optionRom.size)), 1);
    const bios = MemoryRegion.rom("pc.bios", rom("pc.bios", Q35.bios.size));
    root.add(Q35.biosShadow.base, MemoryRegion.alias("isa-bios", bios, Q35.bios.size - Q35.biosShadow.size, Q35.biosShadow.size), 1);
    root.add(Q35.bios.base, bios);
    root.add(0, MemoryRegion.alias("pci", this.pci.memory, 0, this.pci.memory.size), -1);
  }

  private mapRegisters(): void {
    const { root, ports, pci, mch } = this;
    root.add(Q35.ioapic.base, MemoryRegion.mmio("ioapic", Q35.ioapic.size, this.ioapic));
    root.add(Q35.messages.base, MemoryRegion.mmio("apic-msi", Q35.messages.size, new MessageWindow(this.interrupts, (requesterId, message) => this.remap(requesterId, message))), 4096);
    ports.add("fwcfg", FW_CFG_PORT, 2, this.fwCfg.ports);
    ports.add("fwcfg.dma", FW_CFG_DMA_PORT, 8, this.fwCfg.dmaPorts);
    ports.add("acpi-pm", Q35.acpi.eventPort, ACPI_PORTS, this.acpiHardware);
    // Before the range that it lies in: a byte there is no configuration address.
    ports.add("reset", Q35.acpi.resetPort, 1, this.resetPort);
    ports.add("pci-conf", CONFIG_ADDRESS, 8, this.configPorts);
    mch.onEcam = (place) => {
      if (this.ecamRegion !== null) {
        root.remove(this.ecamRegion);
        this.ecamRegion = null;
      }
      if (place !== null) {
        this.ecamRegion = MemoryRegion.mmio("pcie-mmcfg-mmio", place.size, pci.ecam);
        root.add(place.base, this.ecamRegion, 2);
      }
    };
    pci.onInterruptLine = (line, level) => this.ioapic.setPin(FIRST_PIRQ_PIN + line, level ? 1 : 0);
  }

  /** The intel-iommu is there before any function, wherever it stands on the command line: functions get their address space when they are plugged. */
  private makeDevices(): void {
    const { args } = this;
    const argument = args.devices.find((device) => device.model.name === "intel-iommu");
    if (argument !== undefined) {
      this.make(argument, () => this.makeVtd(argument));
    }
    this.plugChipset(new Ich9Lpc(), 0xf8);
    if (args.machine.sata) {
      this.plugChipset(new Ich9Ahci(), 0xfa);
    }
    if (args.machine.smbus) {
      this.plugChipset(new Ich9Smbus(), 0xfb);
    }
    for (const device of args.devices) {
      if (device === argument) {
        if (this.vtd !== null) {
          this.names.add(this.vtd.device, device.id);
        }
        continue;
      }
      if (device.model.category === "memory") {
        this.make(device, () => this.plugMemory(device, false));
        continue;
      }
      if (device.model.name === "pvpanic") {
        this.make(device, () => this.makePvpanic(device));
        continue;
      }
      if (device.model.category === "other") {
        this.make(device, () => this.takeOther(device, false));
        continue;
      }
      const fn = this.make(device, () => this.plug(device, false));
      fn?.secondaryBuses.filter((one) => one.isRoot).forEach((bus) => this.vtd?.cover(bus));
    }
  }

  protected override lacksBus(busType: string): boolean {
    return (busType === "IDE" && !this.args.machine.sata) || (busType === "i2c-bus" && !this.args.machine.smbus);
  }

  private makeVtd(argument: DeviceArgument): void {
    const { args, memory, words, root, interrupts, log } = this;
    const request = checkVtdProperties(argument, args.machine, args.numa.nodes.length);
    this.vtd = new MachineVtd({ request, argument, memory, words, root, interrupts, log });
    this.vtd.cover(this.pci.bus);
    this.vtd.device.onInterruptsChanged = () => {
      this.ioapic.onEntry(null);
      this.router.renew();
    };
  }

  private makePvpanic(argument: DeviceArgument): void {
    if (this.pvpanic !== null) {
      throw new Refusal("duplicate fw_cfg file name: etc/pvpanic-port", { found: `${deviceLabel(this.pvpanic.argument)} too` });
    }
    const port = numberProperty(argument, "ioport");
    const byte = new PvpanicByte({ events: numberProperty(argument, "events"), tell: (news) => this.outputs.news(news), log: this.log });
    this.pvpanic = { byte, argument, port: port === 0 ? null : port };
    this.names.add(byte, argument.id);
    if (port !== 0) {
      this.ports.add("pvpanic", port, 1, byte);
    }
  }

  private plugChipset(fn: PciFunction, devfn: number): void {
    plugFunction(fn, this.pci.bus, devfn);
  }

  /** An interrupt of a source as it reaches local APICs. Functions that bypass the IOMMU are not remapped. */
  private remap(requesterId: number, message: Message): Message | null {
    const vtd = this.remapperOf(requesterId);
    return vtd === null ? message : vtd.device.remapInterrupt(requesterId, BigInt(message.address), message.data);
  }

  /** Where a source's message would go, were it sent now; null: nowhere. */
  messageTarget(requesterId: number, message: Message): Message | null {
    const vtd = this.remapperOf(requesterId);
    return vtd === null ? message : vtd.device.interruptTarget(requesterId, BigInt(message.address), message.data);
  }

  private remapperOf(requesterId: number): MachineVtd | null {
    const bus = requesterId === IOAPIC_REQUESTER_ID ? null : (this.pci.busByNumber(requesterId >> 8)?.rootBus ?? null);
    return bus?.bypassIommu === true ? null : this.vtd;
  }

  buildTables(): PlacedTables {
    return q35Tables(this);
  }

  /** Address ranges as firmware tells them, its own tables taken off. */
  memoryMap(): readonly MemoryMapEntry[] {
    return q35MemoryMap(this);
  }

  /**
   * Memory of the host bridges, as firmware settles it: above RAM as much as QEMU's pci-hole64-size, and more where
   * functions have larger BARs or ports reserve it, with room to align them and to plug others of their kind.
   */
  get windows(): readonly PciWindow[] {
    const { mmio32, mmio64 } = this.map;
    return [mmio32, { base: mmio64.base, size: Math.max(mmio64.size, wideMemory(this.pci.rootBuses())) }];
  }

  /** What firmware does: it maps configuration space, unless a socket plays the machine, and then that is its part. */
  override writeFirmware(): void {
    if (this.args.control.qtest === null && this.mch.ecam === null) {
      this.mch.enableEcam();
    }
    super.writeFirmware();
    this.firmware = { ...this.firmware, memoryMap: this.memoryMap(), pciWindows: this.windows };
  }

  override resetBoard(): void {
    this.ioapic.reset();
    this.serial.reset();
    this.acpiHardware.reset();
    this.resetPort.reset();
    this.configPorts.reset();
    this.fwCfg.reset();
  }

  override endOfInterrupt(vector: number): void {
    this.ioapic.end(vector);
  }

  /**
   * What level-triggered pins of the IOAPIC send, by pin, for a kernel that tells of the ends of such interrupts (KVM's
   * split irqchip); null: edges, masked, blocked.
   */
  levelRoutes(): Array<Message | null> {
    return Array.from({ length: IOAPIC_PINS }, (_, pin) => {
      const { masked, levelTriggered, message } = this.ioapic.entry(pin);
      if (masked || !levelTriggered) {
        return null;
      }
      return this.messageTarget(IOAPIC_REQUESTER_ID, message);
    });
  }

  override pressPowerButton(): void {
    this.acpiHardware.pressPowerButton();
  }

  pinPaths(): Map<string, () => PinDevice> {
    return q35Pins(this);
  }

  protected override disposeIommus(): void {
    this.vtd?.dispose();
  }

  override dispose(): void {
    super.dispose();
    this.roms.reverse().forEach((block) => this.host.freeMemory(block));
    this.roms.length = 0;
  }
}
