/** The PCI functions of a domain, whatever element they come from: where each wants to go, and where it comes. */
import { Refusal } from "../../../support/index.js";
import { type Bus, Buses, type BusModel, busName, givenAddress, type PciAddress, type Want, WANT_OF_CONTROLLER } from "./buses.js";
import type { DomainWords, JsonObject } from "./words.js";
import { all, attribute, find, isOn, number, type XmlElement, userAlias } from "./xml.js";

export interface DomainFunction {
  readonly element: XmlElement;
  readonly want: Want;
  /** Where it is put if that is free, before others are asked. */
  readonly usual?: PciAddress;
  /** Known after `assign`. */
  address: PciAddress | null;
}

const MODELS: readonly string[] = Object.keys(WANT_OF_CONTROLLER);
/** How libvirt goes through the elements of a domain when it gives addresses. */
const ORDER = ["filesystem", "interface", "sound", "controller", "disk", "hostdev", "memballoon", "rng", "watchdog", "video", "shmem", "input", "serial", "memory", "vsock", "crypto", "iommu"];

export class PciFunctions {
  buses = new Buses();
  private readonly list: DomainFunction[] = [];
  /** Of controllers, by the index of their bus. */
  readonly ofBus = new Map<number, PciAddress>();
  /** Indexes of controllers of the XML, in the order that libvirt keeps. */
  private readonly described: number[] = [];

  constructor(
    private readonly words: DomainWords,
    private readonly isQ35: boolean,
  ) {}

  /** Takes the PCI controllers of a domain. */
  addControllers(devices: XmlElement | null): void {
    const { words } = this;
    const controllers = all(devices, "controller").filter((one) => attribute(one, "type") === "pci");
    const byIndex = new Map<number, { model: BusModel; element: XmlElement }>();
    const add = (index: number, element: XmlElement): void =>
      void words.at(element, () => {
        const model = attribute(element, "model") ?? (index === 0 ? "pcie-root" : "pcie-root-port");
        if (!MODELS.includes(model)) {
          throw new Refusal(model === "pci-root" ? `XML error: The PCI controller with index='0' must be model='pcie-root' for this machine type, but model='pci-root' was found instead` : `XML error: Invalid value for attribute 'model' in element 'controller': '${model}'`, { rule: "pci-controller", wouldWork: MODELS.join(", ") });
        }
        if ((index === 0) !== (model === "pcie-root")) {
          throw new Refusal(
            index === 0
              ? `XML error: The PCI controller with index='0' must be model='pcie-root' for this machine type, but model='${model}' was found instead`
              : `XML error: pcie-root controller should have index 0`,
            { rule: "pci-controller", wouldWork: index === 0 ? "<controller type='pci' index='0' model='pcie-root'/> before it, or an index" : "index='0'" },
          );
        }
        if (index > 255) {
          throw new Refusal(`unsupported configuration: PCI controller index ${index} too high`, { rule: "pci-controller", wouldWork: "0 to 255" });
        }
        if (byIndex.has(index)) {
          throw new Refusal(`XML error: Multiple 'pci' controllers with index '${index}'`, { rule: "pci-controller", wouldWork: "an index of its own for each" });
        }
        byIndex.set(index, { model: model as BusModel, element });
      });
    controllers.filter((one) => attribute(one, "index") !== null).forEach((one) => {
      const index = words.at(one, () => number(one, "index", attribute(one, "index")!));
      if (index !== undefined) {
        add(index, one);
      }
    });
    for (const one of controllers.filter((controller) => attribute(controller, "index") === null)) {
      let index = 0;
      while (byIndex.has(index)) {
        index++;
      }
      add(index, one);
    }
    const indexOf = new Map([...byIndex].map(([index, { element }]) => [element, index]));
    const indexed = new Set<number>();
    for (const one of controllers) {
      const index = indexOf.get(one) ?? 0;
      if (index === 0) {
        continue;
      }
      const given = attribute(one, "index") !== null;
      insertBefore(this.described, index, (other) => given && indexed.has(other) && other > index);
      if (given) {
        indexed.add(index);
      }
    }
    const last = Math.max(0, ...byIndex.keys());
    for (let index = 0; index <= last; index++) {
      const found = byIndex.get(index);
      this.buses.add(found?.model ?? (index === 0 ? "pcie-root" : "pcie-root-port"), found?.element ?? null);
    }
  }

  add(element: XmlElement, want: Want, usual?: PciAddress): DomainFunction {
    const fn: DomainFunction = { element, want, address: null, ...(usual === undefined ? {} : { usual }) };
    this.list.push(fn);
    return fn;
  }

  /** Gives all of them addresses: once for trial, which adds what is missing, and once in earnest. */
  assign(): void {
    const { words } = this;
    const given = new Map<DomainFunction, PciAddress>();
    const described = this.buses.list.length;
    // A PC's own functions.
    if (this.isQ35) {
      [0, 2, 3].forEach((fn) => this.buses.reserve({ bus: 0, slot: 31, fn }, null));
    }
    for (const [index, { element }] of [...this.buses.list.entries()]) {
      const address = element === null ? null : words.at(element, () => givenAddress(element));
      if (address !== null && address !== undefined && index > 0) {
        words.at(element!, () => {
          this.buses.reserve(address, element);
          this.ofBus.set(index, address);
        });
      }
    }
    for (const fn of this.list) {
      const address = words.at(fn.element, () => givenAddress(fn.element)) ?? null;
      if (address !== null) {
        words.at(fn.element, () => {
          this.buses.reserve(address, fn.element);
          given.set(fn, address);
        });
      }
    }
    for (const fn of this.list) {
      if (!given.has(fn) && fn.usual !== undefined && this.buses.isFree(fn.usual)) {
        this.buses.reserve(fn.usual, null);
        given.set(fn, fn.usual);
      }
    }
    const rest = this.list.filter((fn) => !given.has(fn)).sort((a, b) => ORDER.indexOf(a.element.name) - ORDER.indexOf(b.element.name));
    const trial = this.buses.copy();
    const before = trial.list.length;
    this.pass(trial, rest, () => {});
    if (described === 1 && trial.list.length > described && trial.list.length > before) {
      trial.takeOrAdd("express");
    }
    for (const { model } of trial.list.slice(before)) {
      this.buses.add(model, null);
    }
    given.forEach((address, fn) => (fn.address = address));
    this.pass(this.buses, rest, (fn, address) => (fn.address = address));
    const added = this.buses.list.slice(1).filter(({ element }) => element === null);
    if (added.length > 0) {
      const names = this.buses.list.flatMap(({ element, model }, index) => (index > 0 && element === null ? [`${busName(index)}${model === "pcie-root-port" ? "" : ` (${model})`}`] : []));
      const first = this.list[0]?.element ?? added[0].element;
      if (first !== null) {
        words.note(first, "added-controllers", `libvirt adds ${names.length === 1 ? "a controller" : `${names.length} controllers`} for what has no place: ${names.join(", ")}`);
      }
    }
  }

  /** @param tell of each function of `list` that has a place */
  private pass(buses: Buses, list: readonly DomainFunction[], tell: (fn: DomainFunction, address: PciAddress) => void): void {
    const real = buses === this.buses;
    for (const index of this.inOrder(buses)) {
      if (!this.ofBus.has(index)) {
        const { model, element } = buses.list[index];
        const place = (): PciAddress => buses.takeOrAdd(WANT_OF_CONTROLLER[model]);
        const address = element === null ? place() : this.words.at(element, place);
        if (real && address !== undefined) {
          this.ofBus.set(index, address);
        }
      }
    }
    for (const fn of list) {
      const address = this.words.at(fn.element, () => buses.takeOrAdd(fn.want));
      if (address !== undefined) {
        tell(fn, address);
      }
    }
  }

  /** Indexes of controllers but the root's, in libvirt's order: that of the XML, each one that has an index before the first with a larger one. */
  private inOrder(buses: Buses): number[] {
    const order = [...this.described];
    for (let index = 1; index < buses.list.length; index++) {
      if (!order.includes(index)) {
        insertBefore(order, index, (other) => other > index);
      }
    }
    return order;
  }

  /** `bus` and `addr` of QEMU, with `multifunction` where others share the slot. */
  placeOf(fn: DomainFunction): JsonObject {
    return fn.address === null ? {} : this.addressed(fn.address, attribute(find(fn.element, "address"), "multifunction"));
  }

  private addressed({ bus, slot, fn }: PciAddress, multifunction: string | null): JsonObject {
    const many = multifunction === null ? fn === 0 && (this.buses.list[bus].slots.get(slot)?.size ?? 0) > 1 : isOn(multifunction);
    return { bus: this.buses.nameOf(bus), ...(many ? { multifunction: true } : {}), addr: `0x${slot.toString(16)}${fn === 0 ? "" : `.0x${fn.toString(16)}`}` };
  }

  /** The controllers' -device words. @param domain element of those that libvirt adds */
  writeControllers(domain: XmlElement): void {
    for (const index of this.inOrder(this.buses)) {
      const bus = this.buses.list[index];
      const address = this.ofBus.get(index);
      if (address !== undefined) {
        this.words.option(bus.element ?? domain, "device", { ...controllerDevice(bus, index, address), ...this.addressed(address, bus.element === null ? null : attribute(find(bus.element, "address"), "multifunction")) });
      }
    }
  }
}

function insertBefore(list: number[], value: number, isAfter: (other: number) => boolean): void {
  const at = list.findIndex(isAfter);
  list.splice(at < 0 ? list.length : at, 0, value);
}

function controllerDevice({ model, element }: Bus, index: number, { slot, fn }: PciAddress): JsonObject {
  const target = find(element, "target");
  const told = (name: string, otherwise: number): number => (attribute(target, name) === null ? otherwise : number(target!, name, attribute(target, name)!));
  const id = userAlias(element) ?? busName(index);
  const hotplug = attribute(target, "hotplug") === "off" ? { hotplug: false } : {};
  const io = attribute(target, "ioReserve");
  switch (model) {
    case "pcie-root-port": {
      const driver = attribute(find(element, "model"), "name") ?? "pcie-root-port";
      const reserved = Object.fromEntries([["io-reserve", io]].filter(([, value]) => value !== null));
      return { driver, port: told("port", slot * 8 + fn), chassis: told("chassis", index), id, ...hotplug, ...reserved };
    }
    case "pcie-switch-upstream-port":
      return { driver: "x3130-upstream", id };
    case "pcie-switch-downstream-port":
      return { driver: "xio3130-downstream", port: told("port", slot), chassis: told("chassis", index), id, ...hotplug };
    case "pcie-expander-bus":
    case "pci-expander-bus": {
      const node = find(target, "node");
      const busNumber = attribute(target, "busNr");
      return {
        driver: model === "pcie-expander-bus" ? "pxb-pcie" : "pxb",
        ...(busNumber === null ? {} : { bus_nr: number(target!, "busNr", busNumber) }),
        id,
        ...(node === null ? {} : { numa_node: number(node, "node", node.text) }),
      };
    }
    case "pcie-to-pci-bridge":
      return { driver: "pcie-pci-bridge", id };
    case "dmi-to-pci-bridge":
      return { driver: "i82801b11-bridge", id };
    case "pci-bridge":
      return { driver: "pci-bridge", chassis_nr: index, id };
    case "pcie-root":
      return {};
  }
}
