/** A PCI hierarchy of one segment: pcie.0 with its host bridge, the expanders' root buses, configuration access, BAR placement, INTx. */
import { MemoryRegion, type DmaSpace, type MmioHandler } from "../memory/index.js";
import { Refusal } from "../support/index.js";
import { BarMapper } from "./bar-mapper.js";
import { PciBus, type PciTopology } from "./bus.js";
import { GpexHostBridge } from "./expander.js";
import type { PciFunction } from "./function.js";
import { plugFunction } from "./plug.js";

export interface PciRootOptions {
  /** System memory: where DMA goes that no IOMMU covers. */
  readonly systemMemory: DmaSpace;
  /** default_bus_bypass_iommu of the machine: pcie.0 has no IOMMU whatever is attached. */
  readonly bypassIommu?: boolean;
  readonly numaNode?: number;
  /** The function at 00.0; default QEMU's generic one. */
  readonly hostBridge?: PciFunction;
  /** Interrupt lines of the root complex, and which of them a device's pin (0: INTA) on pcie.0 reaches; default four, turned by the device number. */
  readonly interruptLines?: number;
  readonly lineOf?: (device: number, pin: number) => number;
}

/** Bytes of ECAM for 256 buses. */
export const ECAM_BYTES = 0x1000_0000;

export class PciRoot implements PciTopology {
  readonly systemMemory: DmaSpace;
  readonly bus: PciBus;
  readonly hostBridge: PciFunction;
  /** PCI memory space, byte n being PCI address n: the machine makes its windows aliases of it. */
  readonly memory = MemoryRegion.container("pci-memory", 2 ** 52);
  readonly mapper: BarMapper;
  /** Level of an interrupt line of the root complex. */
  onInterruptLine: (line: number, level: boolean) => void = () => {};
  private readonly expanders: PciBus[] = [];
  private readonly chassisSlots = new Map<PciFunction, string>();
  private readonly listeners: Array<() => void> = [];
  private readonly lineCounts: number[];
  private readonly lineOf: (device: number, pin: number) => number;
  private readonly namedBuses = new Map<string, number>();
  private readonly routed = new Map<PciFunction, number>();
  private busCache = new Map<number, PciBus | null>();

  constructor(options: PciRootOptions) {
    this.systemMemory = options.systemMemory;
    this.bus = new PciBus("pcie.0", null, {
      isRoot: true,
      isExpress: true,
      rootNumber: 0,
      numaNode: options.numaNode,
    });
    this.bus.bypassIommu = options.bypassIommu ?? false;
    this.bus.topology = this;
    this.mapper = new BarMapper(this.memory);
    this.lineCounts = new Array<number>(options.interruptLines ?? 4).fill(0);
    this.lineOf = options.lineOf ?? ((device, pin) => (pin + device) & 3);
    this.hostBridge = options.hostBridge ?? new GpexHostBridge();
    plugFunction(this.hostBridge, this.bus, 0);
  }

  /** pcie.0, then the expanders' by number. */
  rootBuses(): PciBus[] {
    return [this.bus, ...[...this.expanders].sort((a, b) => a.number - b.number)];
  }

  /** All buses: each root bus, then what is behind it. */
  *buses(): IterableIterator<PciBus> {
    for (const root of this.rootBuses()) {
      yield root;
      yield* root.descendants();
    }
  }

  /** All functions, those of expanders' buses after their expander. */
  *allFunctions(): IterableIterator<PciFunction> {
    yield* this.bus.allFunctions();
  }

  findBus(id: string): PciBus | null {
    for (const bus of this.buses()) {
      if (bus.id === id) {
        return bus;
      }
    }
    return null;
  }

  /** The bus that configuration cycles for `number` reach as the bridges are programmed now; null: none. */
  busByNumber(number: number): PciBus | null {
    let bus = this.busCache.get(number);
    if (bus === undefined) {
      bus = this.routeTo(number);
      this.busCache.set(number, bus);
    }
    return bus;
  }

  /** The function that answers at bus number and devfn; null: none, or it is not reachable. */
  functionAt(busNumber: number, devfn: number): PciFunction | null {
    const fn = this.busByNumber(busNumber)?.functions.get(devfn) ?? null;
    return fn === null || !fn.powered ? null : fn;
  }

  /**
   * ECAM (PCIe 7.2.2): bus 27:20, devfn 19:12, register 11:0. Absent functions read all ones. It is the host's
   * way to configuration space: a device's DMA does not get there.
   */
  readonly ecam: MmioHandler = {
    read: (offset, size, attributes) => {
      if (attributes !== undefined) {
        return (1n << BigInt(8 * size)) - 1n;
      }
      if (size === 8) {
        return this.ecamRead(offset, 4) | (this.ecamRead(offset + 4, 4) << 32n);
      }
      return this.ecamRead(offset, size);
    },
    write: (offset, size, value, attributes) => {
      if (attributes !== undefined) {
        return;
      }
      if (size === 8) {
        this.configWrite(Math.floor(offset / 4096), offset % 4096, 4, Number(value & 0xffff_ffffn));
        this.configWrite(Math.floor(offset / 4096), (offset % 4096) + 4, 4, Number((value >> 32n) & 0xffff_ffffn));
      } else {
        this.configWrite(Math.floor(offset / 4096), offset % 4096, size, Number(value & 0xffff_ffffn));
      }
    },
  };

  /** One configuration read; bdf as configuration cycles have it, size 1, 2 or 4, naturally aligned. */
  configRead(bdf: number, offset: number, size: number): number {
    const fn = this.functionAt(bdf >> 8, bdf & 0xff);
    return fn === null || offset + size > reachable(fn) ? allOnes(size) : fn.configRead(offset, size) >>> 0;
  }

  configWrite(bdf: number, offset: number, size: number, value: number): void {
    const fn = this.functionAt(bdf >> 8, bdf & 0xff);
    if (fn !== null && offset + size <= reachable(fn)) {
      fn.configWrite(offset, size, value);
    }
  }

  /** Called after the guest changed bus numbers, after the IOMMUs have been told. */
  onBusNumbersChanged(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** Reset of every function: pcie.0 downwards. Nothing decodes afterwards, so that the memory is taken off once, not BAR by BAR. */
  reset(): void {
    this.memory.enabled = false;
    try {
      for (const fn of [...this.allFunctions()]) {
        fn.reset();
      }
    } finally {
      this.memory.enabled = true;
    }
  }

  decodingChanged(fn: PciFunction): void {
    this.mapper.update(fn);
  }

  busNumbersChanged(): void {
    this.busCache = new Map();
    const told = new Set<object>();
    for (const bus of this.buses()) {
      if (bus.iommu !== null && !told.has(bus.iommu)) {
        told.add(bus.iommu);
        bus.iommu.busNumbersChanged?.();
      }
    }
    for (const listener of this.listeners) {
      listener();
    }
  }

  /** INTx as wires: each bridge turns the pin by its device number (PCIe 2.2.8.1, table 2-21), the root complex too. */
  intxChanged(fn: PciFunction, level: boolean): void {
    let line = this.routed.get(fn);
    if (level) {
      line = this.interruptLine(fn);
      this.routed.set(fn, line);
      if (this.lineCounts[line]++ === 0) {
        this.onInterruptLine(line, true);
      }
    } else if (line !== undefined) {
      this.routed.delete(fn);
      if (--this.lineCounts[line] === 0) {
        this.onInterruptLine(line, false);
      }
    }
  }

  /** Line at the root complex that a function's INTx pin reaches. An expander's bus is as device 0 of pcie.0 to its pins. */
  interruptLine(fn: PciFunction): number {
    let pin = Math.max(fn.config.bytes[0x3d], 1) - 1;
    for (let at: PciFunction = fn; ; ) {
      const bus: PciBus | null = at.bus;
      if (bus === this.bus) {
        return this.lineOf(at.devfn >> 3, pin);
      }
      pin = (pin + (at.devfn >> 3)) & 3;
      if (bus === null || bus.isRoot || bus.bridge === null) {
        return this.lineOf(0, pin);
      }
      at = bus.bridge;
    }
  }

  busName(bus: PciBus): string {
    const type = bus.typeName.toLowerCase();
    const count = this.namedBuses.get(type) ?? 0;
    this.namedBuses.set(type, count + 1);
    return `${type}.${count}`;
  }

  addRootBus(bus: PciBus): void {
    if (this.rootBuses().some((other) => other.number === bus.number)) {
      throw new Refusal(`Bus ${bus.number} is already in use`, {
        rule: "bus-number-collision",
        found: `${bus.bridge?.label ?? bus.id} with bus_nr=${bus.number}`,
        wouldWork: "another bus_nr (0 is pcie.0's), with room for the buses below",
      });
    }
    this.expanders.push(bus);
    this.busCache = new Map();
  }

  removeRootBus(bus: PciBus): void {
    this.expanders.splice(this.expanders.indexOf(bus), 1);
    this.busCache = new Map();
  }

  addChassisSlot(port: PciFunction, chassis: number, slot: number): void {
    const key = `${chassis}.${slot}`;
    for (const [other, taken] of this.chassisSlots) {
      if (taken === key) {
        throw new Refusal("Can't add chassis slot, error -16", {
          rule: "chassis-collision",
          found: `${port.label} and ${other.label} with chassis=${chassis},slot=${slot}`,
          wouldWork: `chassis=${this.freeChassis()} for one of them`,
        });
      }
    }
    this.chassisSlots.set(port, key);
  }

  removeChassisSlot(port: PciFunction): void {
    this.chassisSlots.delete(port);
  }

  private freeChassis(): number {
    const used = new Set([...this.chassisSlots.values()].map((key) => Number(key.split(".")[0])));
    let chassis = 1;
    while (used.has(chassis)) {
      chassis++;
    }
    return chassis;
  }

  /** From the root bus whose range it is in down through the bridges whose secondary to subordinate range covers it. */
  private routeTo(number: number): PciBus | null {
    for (const root of this.rootBuses()) {
      const found = root.number === number ? root : below(root, number);
      if (found !== null) {
        return found;
      }
    }
    return null;
  }

  private ecamRead(offset: number, size: number): bigint {
    return BigInt(this.configRead(Math.floor(offset / 4096), offset % 4096, size));
  }
}

function below(bus: PciBus, number: number): PciBus | null {
  for (const fn of bus.functions.values()) {
    for (const child of fn.secondaryBuses) {
      if (child.isRoot || fn.secondaryBus === 0 || number < fn.secondaryBus || number > fn.subordinateBus) {
        continue;
      }
      const found = number === fn.secondaryBus ? child : below(child, number);
      if (found !== null) {
        return found;
      }
    }
  }
  return null;
}

/** Bytes of configuration space that get through: conventional PCI has no extended registers (PCIe 7.2.1). */
function reachable(fn: PciFunction): number {
  return fn.bus?.isExpress === true ? fn.config.size : Math.min(fn.config.size, 256);
}

function allOnes(size: number): number {
  return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
}

