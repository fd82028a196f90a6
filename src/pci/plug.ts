/** The life of a function on a bus: placed, given its address space, realized; and back, in order. */
import { Refusal } from "../support/index.js";
import type { PciBus } from "./bus.js";
import { checkBusRules, checkPlace, checkSlotTaken } from "./bus-rules.js";
import type { PciFunction } from "./function.js";
import type { IommuOps } from "./iommu.js";

export interface PlugOptions {
  /** The machine is running (device_add). */
  readonly hotplugged?: boolean;
}

/** What a bus with slots does about plugging: HotplugPort. */
interface SlotPort {
  checkPlug(fn: PciFunction): void;
  plugged(fn: PciFunction): void;
}

function slotPort(bus: PciBus): (PciFunction & SlotPort) | null {
  const owner = bus.bridge;
  return owner !== null && "checkPlug" in owner ? (owner as PciFunction & SlotPort) : null;
}

/**
 * Plugs `fn` at `devfn` of `bus`, or into the first free slot (null). In order: the rules of the bus and the
 * place; the slot; the IOMMU is asked whether it takes such a function there, before anything is made; its
 * address space; `fn.realize()`; presence. Throws Refusal or HostError and leaves nothing behind.
 */
export function plugFunction(fn: PciFunction, bus: PciBus, devfn: number | null, options: PlugOptions = {}): void {
  if (fn.bus !== null) {
    throw new Error(`${fn.label} is plugged already`);
  }
  fn.hotplugged = options.hotplugged ?? false;
  if (fn.hotplugged && bus.options.hotplug !== true) {
    throw new Refusal(`Bus '${bus.id}' does not support hotplugging`, {
      found: bus.bridge === null ? "the root complex's own bus" : `the bus of ${bus.bridge.label}`,
      wouldWork: "bus=ID of a pcie-root-port or xio3130-downstream whose slot is empty",
    });
  }
  const port = slotPort(bus);
  checkBusRules(bus, fn);
  if (devfn === null) {
    checkSlotTaken(bus, fn);
  }
  const place = devfn ?? bus.freeDevfn();
  checkPlace(bus, fn, place);
  port?.checkPlug(fn);

  fn.bus = bus;
  fn.devfn = place;
  bus.functions.set(place, fn);
  let realized = false;
  try {
    const path = fn.iommuPath;
    path.ops?.supportsAddressSpace?.(path.bus, path.devfn, fn);
    fn.dma = path.ops?.getAddressSpace(path.bus, path.devfn) ?? bus.topology?.systemMemory ?? null;
    for (const behind of fn.secondaryBuses) {
      if (behind.id === "") {
        behind.id = bus.topology?.busName(behind) ?? "";
      }
    }
    fn.realize();
    realized = true;
    // Header type bit 7 is the slot's in this machine, whatever a host's function has.
    fn.config.bytes[0x0e] = (fn.config.bytes[0x0e] & 0x7f) | (fn.multifunction ? 0x80 : 0);
    fn.config.freezeDefaults();
    fn.powered = true;
    port?.plugged(fn);
    fn.decodingChanged();
  } catch (error) {
    if (realized) {
      fn.unrealize();
    }
    detach(fn, bus);
    throw error;
  }
}

/**
 * Takes `fn` off its bus, with what is behind it: it stops decoding, is unrealized while it still has its
 * place, and leaves the bus.
 */
export function unplugFunction(fn: PciFunction): void {
  const { bus } = fn;
  if (bus === null) {
    return;
  }
  for (const behind of fn.secondaryBuses) {
    for (const other of [...behind.functions.values()]) {
      unplugFunction(other);
    }
  }
  fn.setIntx(false);
  fn.powered = false;
  fn.decodingChanged();
  fn.unrealize();
  detach(fn, bus);
}

function detach(fn: PciFunction, bus: PciBus): void {
  bus.functions.delete(fn.devfn);
  const { topology } = bus;
  fn.bus = null;
  fn.devfn = 0;
  fn.dma = null;
  fn.powered = true;
  if (fn.secondaryBuses.length > 0) {
    topology?.busNumbersChanged();
  }
}

/** Makes `ops` the IOMMU of a bus and of all that is behind it. Throws Refusal when it has one. */
export function setupIommu(bus: PciBus, ops: IommuOps): void {
  if (bus.iommu !== null) {
    throw new Refusal("An iommu is already attached to this bus", { found: `bus '${bus.id}'`, wouldWork: "one IOMMU for each root bus" });
  }
  bus.iommu = ops;
}
