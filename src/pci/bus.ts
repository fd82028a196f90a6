import type { DmaSpace } from "../memory/index.js";
import { Refusal } from "../support/index.js";
import type { IommuOps } from "./iommu.js";
import type { PciFunction } from "./function.js";

/** What a slot of the bus may take, with the refusal in words. */
export interface BusRules {
  /** Throws Refusal. */
  check(bus: PciBus, candidate: PciFunction): void;
}

/** The whole hierarchy that a bus belongs to, as its functions need it. PciRoot implements it. */
export interface PciTopology {
  /** System memory: where DMA goes that no IOMMU covers. */
  readonly systemMemory: DmaSpace;
  /** Command, BARs, windows or power of a function have changed. */
  decodingChanged(fn: PciFunction): void;
  /** A bridge's bus numbers have changed. */
  busNumbersChanged(): void;
  /** A function's INTx has changed. */
  intxChanged(fn: PciFunction, level: boolean): void;
  /** The name of a bus whose bridge has no id: its type in lower case and a number that counts up, from 0 for each type (QEMU's qbus_init_internal). */
  busName(bus: PciBus): string;
  /** An expander has made a root bus. Throws Refusal when the number is taken. */
  addRootBus(bus: PciBus): void;
  removeRootBus(bus: PciBus): void;
  /** Takes a slot for a port. Throws Refusal when another has it. */
  addChassisSlot(port: PciFunction, chassis: number, slot: number): void;
  removeChassisSlot(port: PciFunction): void;
}

/**
 * A PCI bus. Its number is fixed for a root bus and else what the guest wrote into its bridge's secondary
 * bus number register (0 before enumeration).
 */
export class PciBus {
  readonly functions = new Map<number, PciFunction>();
  /** Set by whoever covers the bus; one at most. */
  iommu: IommuOps | null = null;
  bypassIommu = false;
  /** Set on pcie.0 by its PciRoot; other buses find it through their bridges. */
  private ownTopology: PciTopology | null = null;

  constructor(
    /** `pcie.0`, or the id of the bridge that makes it; empty: being plugged gives the bridge's bus a name (PciTopology.busName). */
    public id: string,
    /** The bridge or expander that this bus is behind; null: the host bridge's own. */
    readonly bridge: PciFunction | null,
    readonly options: {
      /** A root bus: pcie.0, or an expander's. */
      readonly isRoot: boolean;
      /** PCI Express: each function has its own requester id. */
      readonly isExpress: boolean;
      /** Number of a root bus. */
      readonly rootNumber?: number;
      /** A port's bus has one slot (device 0). */
      readonly singleSlot?: boolean;
      /** Functions may be plugged and unplugged while the machine runs. */
      readonly hotplug?: boolean;
      readonly numaNode?: number;
      /** Slots below this one are not for devices (default 0). */
      readonly firstSlot?: number;
      /** Of a conventional bus: its bridge is conventional too, and requests have the bridge's own requester id. */
      readonly ownRequester?: boolean;
      readonly rules?: BusRules;
    },
  ) {}

  get isRoot(): boolean {
    return this.options.isRoot;
  }

  get isExpress(): boolean {
    return this.options.isExpress;
  }

  /** QEMU's type of the bus. */
  get typeName(): "PCIE" | "PCI" | "pxb-pcie-bus" {
    return this.isRoot && this.bridge !== null ? "pxb-pcie-bus" : this.isExpress ? "PCIE" : "PCI";
  }

  /** The bus that this one's bridge sits on; null for a root bus. */
  get parentBus(): PciBus | null {
    return this.isRoot ? null : (this.bridge?.bus ?? null);
  }

  /** The hierarchy; null while the bus is not connected to one. */
  get topology(): PciTopology | null {
    return this.ownTopology ?? this.bridge?.bus?.topology ?? null;
  }

  set topology(topology: PciTopology | null) {
    this.ownTopology = topology;
  }

  /** The root bus above (or this one). */
  get rootBus(): PciBus {
    return this.parentBus?.rootBus ?? this;
  }

  get number(): number {
    return this.isRoot ? (this.options.rootNumber ?? 0) : (this.bridge?.secondaryBus ?? 0);
  }

  /** Highest bus number below (and with) this root bus, as the bridges are programmed now. */
  get highestNumber(): number {
    let highest = this.number;
    for (const bus of this.descendants()) {
      highest = Math.max(highest, bus.number, bus.bridge?.subordinateBus ?? 0);
    }
    return highest;
  }

  /** Buses behind bridges of this one, not those of expanders (which are roots of their own). */
  *descendants(): IterableIterator<PciBus> {
    for (const fn of this.functions.values()) {
      for (const child of fn.secondaryBuses) {
        if (!child.isRoot) {
          yield child;
          yield* child.descendants();
        }
      }
    }
  }

  /** This bus's functions by devfn, then those of the buses behind them. */
  *allFunctions(): IterableIterator<PciFunction> {
    for (const devfn of [...this.functions.keys()].sort((a, b) => a - b)) {
      const fn = this.functions.get(devfn)!;
      yield fn;
      for (const child of fn.secondaryBuses) {
        yield* child.allFunctions();
      }
    }
  }

  /** First free slot's devfn, as QEMU chooses it (from slot 1 on pcie.0, whose slot 0 is the host bridge). */
  freeDevfn(): number {
    const slots = this.options.singleSlot === true ? 1 : 32;
    for (let slot = this.options.firstSlot ?? 0; slot < slots; slot++) {
      let used = false;
      for (let fn = 0; fn < 8; fn++) {
        used ||= this.functions.has(slot * 8 + fn);
      }
      if (!used) {
        return slot * 8;
      }
    }
    throw new Refusal(`PCI: no slot/function available for the device, all in use or reserved`, {
      rule: "slot",
      found: `bus ${this.id}, ${this.functions.size} function(s) on ${slots} slot(s)`,
      wouldWork: this.options.singleSlot === true ? "another pcie-root-port" : "another bus",
    });
  }
}
