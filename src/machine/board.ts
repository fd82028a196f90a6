/**
 * What every board has: system memory, the PCI hierarchy with its functions, objects, names, message routes. A
 * board is built all or not at all; what it has taken of the host is given back in the order of dependence.
 */
import type { GuestNews } from "../devices/index.js";
import type { BatchAccount, Host, ObjectAccount, TableAccount } from "../iommufd/index.js";
import { AddressSpace, MemoryRegion, type RamBlock, RamWordMemory } from "../memory/index.js";
import { MsiRouter } from "../msi/index.js";
import { type IommuOps, type PciBus, type PciFunction, PciRoot, type PciRootOptions, plugFunction, unplugFunction } from "../pci/index.js";
import type { FirmwareTables, PinDevice } from "../port/index.js";
import { hex, type Log, Refusal, RefusalCollector } from "../support/index.js";
import { type PortSpace, ProcessorAccesses } from "./accesses.js";
import { MsiAccount } from "./accounts.js";
import type { PlacedTables } from "./firmware/index.js";
import { type BoardKind, type DeviceArgument, deviceLabel, located, type MachineArguments, type MsiController, nearest, textProperty } from "./arguments/index.js";
import type { IommuDescription, InvalidationAccount } from "./iommu-account.js";
import type { BoardMap } from "./board-map.js";
import { DeviceNames } from "./qom-names.js";
import { MachineDrives } from "./drives.js";
import { type FunctionParts, makeFunction } from "./function-maker.js";
import { HostFiles } from "./host-files.js";
import type { InterruptLog } from "./interrupt-log.js";
import { MachineObjects } from "./machine-objects.js";
import { type OtherDevice, OtherDevices } from "./other-devices.js";
import { type Dimm, MemoryDevices } from "./memory-devices.js";
import { allocateRam, type PlacedRam, type Range, ramPieces } from "./ram-layout.js";
import { VirtualClock } from "./virtual-clock.js";

/** An IOMMU of a machine, whatever its architecture. */
export interface MachineIommu {
  readonly kind: "smmuv3" | "vtd";
  readonly id: string;
  /** Null: the machine made it of itself. */
  readonly argument: DeviceArgument | null;
  readonly ops: IommuOps;
  /** What its QOM path is of. */
  readonly device: object;
  /** Passed-through functions behind it use the host's IOMMU by the guest's tables. */
  readonly accelerated: boolean;
  /** Everything is plugged. @param elsewhere passed-through functions that no accelerated IOMMU covers, in words. @throws Refusal */
  start(elsewhere: readonly string[]): void;
  reset(): void;
  describe(): IommuDescription;
  invalidation(): InvalidationAccount;
  /** Which tables of the host passed-through functions behind it are on, and why. */
  tables(): TableAccount[];
  /** What it has made on the host. */
  hostObjects(): ObjectAccount[];
  /** The last batch of its queue that went to the host; null: none yet. */
  lastBatch(): BatchAccount | null;
}

export interface PluggedFunction {
  readonly fn: PciFunction;
  readonly argument: DeviceArgument;
}

/** What a board decides before it is built. */
export interface BoardPlan {
  readonly map: BoardMap;
  /** Name of RAM without a backend. */
  readonly ramName: string;
  /** Where RAM goes, in order: the pieces fill one span after the other. */
  readonly ramSpans: readonly Range[];
  readonly interrupts: InterruptLog;
  readonly pci: Omit<PciRootOptions, "systemMemory" | "bypassIommu">;
}

/** What a guest does to its machine as a whole. */
export interface BoardOutputs {
  guestReset: () => void;
  powerOff: () => void;
  /** It tells by a pvpanic. */
  news: (news: GuestNews) => void;
  /** A function of the host has met an error that it does not get over. */
  functionFailed: (fn: PciFunction) => void;
  /** The host wants a function back. */
  functionWanted: (fn: PciFunction) => void;
}

export abstract class Board {
  abstract readonly kind: BoardKind;
  /** In the order in which people are told of them. */
  abstract readonly iommus: readonly MachineIommu[];
  /** Guest-physical address that a function's message is to be written to; null: the machine has no MSI controller. */
  abstract readonly msiDoorbell: number | null;
  /** Who takes messages. */
  abstract readonly msiController: MsiController | "apic";
  /** Null: no machine of Arm's. */
  abstract readonly gicVersion: number | null;
  readonly map: BoardMap;
  readonly memory: AddressSpace;
  readonly words = new RamWordMemory();
  /** Of RAM without a backend. */
  readonly ramName: string;
  readonly ram: readonly PlacedRam[];
  readonly pci: PciRoot;
  readonly interrupts: InterruptLog;
  readonly router: MsiRouter;
  /** Functions of a host that has descriptors. */
  readonly hostFiles = new HostFiles();
  readonly objects: MachineObjects;
  readonly memoryDevices: MemoryDevices;
  readonly msiAccount = new MsiAccount();
  /** Of -accel qtest; null: devices work at once. */
  readonly clock: VirtualClock | null;
  /** QOM paths of what the user asked for. */
  readonly names = new DeviceNames();
  /** Everything that was ever plugged, for the account. */
  readonly everPlugged: PciFunction[] = [];
  /** In the order in which they were plugged. */
  readonly functions: PluggedFunction[] = [];
  /** Devices of buses that are not modelled. */
  readonly otherDevices: OtherDevices = new OtherDevices(
    () => this.kind,
    () => this.functions,
    () => this.busNames(),
    (busType) => this.lacksBus(busType),
  );
  /** I/O ports; null: the architecture has none. */
  readonly ports: PortSpace | null = null;
  /** What a processor's accesses meet, answered at once. */
  readonly accesses = new ProcessorAccesses(this);
  /** Where the firmware has put its tables; nowhere before the machine starts. */
  firmware: FirmwareTables = { deviceTree: null, acpiRoot: null };
  protected readonly root = MemoryRegion.container("system", 2 ** 52);
  private readonly parts: FunctionParts;
  private readonly refusals = new RefusalCollector();
  private readonly refused = new Set<DeviceArgument>();
  private toldMissing = false;

  /** @throws Refusal or HostError, with nothing left of it */
  protected constructor(
    readonly args: MachineArguments,
    readonly host: Host,
    readonly log: Log,
    plan: BoardPlan,
  ) {
    this.clock = args.machine.accelerator === "qtest" ? new VirtualClock() : null;
    if (this.clock !== null) {
      this.clock.running = !args.control.stopped;
    }
    this.map = plan.map;
    this.ramName = plan.ramName;
    this.ram = allocateRam(host, ramPieces(args, plan.ramName), plan.ramSpans);
    try {
      for (const { block, base, offset, size } of this.ram) {
        this.words.place(base, block, offset, size);
      }
      this.memory = new AddressSpace("memory", this.root);
      this.interrupts = plan.interrupts;
      this.router = new MsiRouter(this.memory, log, (fn) => this.pci.interruptLine(fn));
      this.pci = new PciRoot({ ...plan.pci, systemMemory: this.memory, bypassIommu: args.machine.bypassIommu });
      // The requester id is a part of a message where the interrupt controller tells sources apart.
      this.pci.onBusNumbersChanged(() => this.router.renew());
      const { memoryBackend } = args.machine;
      const mapped = new Set([...args.numa.nodes.map(({ memdev }) => memdev), memoryBackend].filter((id) => id !== null));
      this.objects = new MachineObjects(args.objects, mapped, host, log);
      this.memoryDevices = new MemoryDevices({
        host,
        root: this.root,
        words: this.words,
        objects: this.objects,
        memory: args.memory,
        ramSize: this.ramSize,
        place: plan.map.deviceMemory,
        numaNodes: args.numa.nodes.length,
      });
      this.parts = {
        host,
        drives: new MachineDrives(args.drives, log),
        clock: this.clock,
        iommufds: this.objects.iommufds,
        outputs: this.outputs,
        hostFiles: this.hostFiles,
        router: this.router,
        msiAccount: this.msiAccount,
        log,
        board: args.machine.board,
        numaNodes: args.numa.nodes.length,
        map: this.map,
        systemMemory: this.memory,
        kernel: args.boot.kernel !== null,
        tell: (news) => this.outputs.news(news),
        plugged: () => this.functions.map(({ fn }) => fn),
      };
    } catch (error) {
      this.freeRam();
      throw error;
    }
  }

  /** Where the machine's tables are, and what they hold, for buses as they are numbered now. */
  abstract buildTables(): PlacedTables;
  /** Devices with interrupt lines by their QOM paths. */
  abstract pinPaths(): Map<string, () => PinDevice>;

  /** Bytes of RAM. */
  get ramSize(): number {
    return this.ram.reduce((sum, { size }) => sum + size, 0);
  }

  /** The blocks that RAM is made of, each once. */
  get ramBlocks(): RamBlock[] {
    return [...new Set(this.ram.map(({ block }) => block))];
  }

  /** Runs what makes the rest of the board; when it throws, or a device was refused, nothing is left. @throws Refusal of all that was refused */
  protected build(make: () => void): void {
    try {
      this.refusals.attempt(make);
      this.refusals.throwAll();
    } catch (error) {
      this.dispose();
      this.refusals.throwAll();
      throw error;
    }
  }

  /**
   * Runs what makes a device of the command line. A refusal is gathered, and the others are made all the same, but
   * those on a bus of what was refused, of which there is no more to tell.
   */
  protected make<T>(device: DeviceArgument, body: () => T): T | undefined {
    const needs = [device.bus, textProperty(device, "primary-bus")];
    if (needs.some((id) => id !== null && id !== "" && this.args.refusedIds?.has(id) === true) || this.refused.has(device) || [...this.refused].some(({ id }) => id !== "" && needs.includes(id))) {
      this.refused.add(device);
      return undefined;
    }
    const place = device.place === undefined ? {} : { place: device.place };
    return this.refusals.attempt(() => {
      this.refused.add(device);
      const made = located(device.where, body);
      this.refused.delete(device);
      return made;
    }, { rule: "device-refused", ...place });
  }

  protected busNames(): string[] {
    return [...this.pci.buses()].map((bus) => bus.id);
  }

  /** Makes and plugs a function. @throws Refusal or HostError, with nothing left of it */
  plug(device: DeviceArgument, hotplugged: boolean): PciFunction {
    const bus = this.findBus(device);
    const fn = makeFunction(device, this.parts, bus);
    plugFunction(fn, bus, device.devfn < 0 ? null : device.devfn, { hotplugged });
    this.functions.push({ fn, argument: device });
    this.names.add(fn, device.id);
    this.everPlugged.push(fn);
    return fn;
  }

  /** Makes and plugs a memory device. @throws Refusal or HostError, with nothing left of it */
  plugMemory(device: DeviceArgument, hotplugged: boolean): Dimm {
    const dimm = this.memoryDevices.plug(device, hotplugged);
    this.names.add(dimm, device.id);
    return dimm;
  }

  /** Takes a device of a bus that is not modelled. @throws Refusal */
  takeOther(device: DeviceArgument, hotplugged: boolean): OtherDevice {
    const other = this.otherDevices.take(device, hotplugged);
    this.names.add(other, device.id);
    return other;
  }

  /** A device of a bus that is not modelled goes, and those on its buses before it. @returns them in that order */
  removeOther(device: OtherDevice): OtherDevice[] {
    return this.otherDevices.remove(device);
  }

  /** A chipset function that makes buses of that type was left out. */
  protected lacksBus(_busType: string): boolean {
    return false;
  }

  unplugMemory(dimm: Dimm): void {
    this.memoryDevices.unplug(dimm);
    this.names.remove(dimm);
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
        rule: "no-such-bus",
        found: `${deviceLabel(device)} with bus=${device.bus}${later ? ", which a later -device makes" : near === null ? "" : `; did you mean ${near}?`}`,
        wouldWork: `bus=ID with one of ${names.join(", ")}`,
      });
    }
    return bus;
  }

  /** Writes the firmware's tables into RAM, for the machine as it is; tables that do not fit are left out, which is told once. */
  writeFirmware(): void {
    const { deviceTree, acpi, efi, missing: untold } = this.buildTables();
    let missing = untold;
    const write = (table: { address: number; bytes: Uint8Array } | null, name: string): number | null => {
      if (table === null) {
        return null;
      }
      const last = table.address + table.bytes.length;
      if (!this.ram.some(({ base, size }) => table.address >= base && last <= base + size)) {
        missing ??= `${name} of ${table.bytes.length} bytes at ${hex(table.address)} have no room in RAM: -m ${Math.ceil((last - this.ram[0].base) / 2 ** 20)}M would do`;
        return null;
      }
      this.memory.writeBytes(table.address, table.bytes);
      return table.address;
    };
    write(efi ?? null, "EFI's tables");
    const firmware = { deviceTree: write(deviceTree, "the device tree"), acpiRoot: write(acpi, "ACPI's tables") };
    this.firmware = missing === undefined ? firmware : { ...firmware, missing };
    if (missing !== undefined && !this.toldMissing) {
      this.toldMissing = true;
      this.log.warn(`the guest misses tables of its firmware: ${missing}`);
    }
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

  /** The IOMMU that a function's requests go through; null: none. */
  iommuOf(fn: PciFunction): MachineIommu | null {
    const ops = fn.bus === null ? null : fn.iommuPath.ops;
    return ops === null ? null : (this.iommus.find((iommu) => iommu.ops === ops) ?? null);
  }

  /** What the guest does to the machine as a whole; the machine sets it. */
  readonly outputs: BoardOutputs = { guestReset: () => {}, powerOff: () => {}, news: () => {}, functionFailed: () => {}, functionWanted: () => {} };

  /** The power button: a guest that listens to it may shut itself down. */
  pressPowerButton(): void {}

  /** A processor has finished with a level-triggered vector, where the board has interrupts whose ends processors tell. */
  endOfInterrupt(_vector: number): void {}

  /** A reset's part that the board has besides functions, IOMMUs and pending interrupts. */
  resetBoard(): void {}

  protected disposeIommus(): void {}

  /** Unplugs everything in reverse order, then frees what the machine has of the host. */
  dispose(): void {
    for (const { fn } of [...this.functions].reverse()) {
      if (fn.bus !== null) {
        unplugFunction(fn);
      }
      this.router.removeAll(fn);
    }
    this.functions.length = 0;
    this.disposeIommus();
    this.memory.close();
    this.memoryDevices.dispose();
    this.freeRam();
  }

  private freeRam(): void {
    this.ramBlocks.reverse().forEach((block) => this.host.freeMemory(block));
  }
}
