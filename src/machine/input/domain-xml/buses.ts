/**
 * PCI addresses as libvirt gives them (qemu_domain_address.c, domain_addr.c): functions that want a slot of PCI Express of
 * their own take the first free port, root ports share slots of pcie.0, conventional functions go behind a bridge; ports
 * and bridges that are missing are added, and one port more where the XML names no controller.
 */
import { Refusal } from "../../../support/index.js";
import { attribute, number, userAlias, type XmlElement } from "./xml.js";

export interface PciAddress {
  readonly bus: number;
  readonly slot: number;
  readonly fn: number;
}

/** Where a function goes that has no address. */
export type Want = "express" | "conventional" | "integrated" | "root-port" | "expander" | "upstream" | "downstream" | "bridge";

export type BusModel = "pcie-root" | "pcie-root-port" | "pcie-expander-bus" | "pcie-switch-upstream-port" | "pcie-switch-downstream-port" | "pcie-to-pci-bridge" | "pci-bridge" | "dmi-to-pci-bridge" | "pci-expander-bus";

export interface Bus {
  readonly model: BusModel;
  /** Null: added by libvirt. */
  readonly element: XmlElement | null;
  /** Functions by slot. */
  readonly slots: Map<number, Set<number>>;
  /** Slots of root ports that share them. */
  readonly shared: Set<number>;
  /** Slots that only their owner takes. */
  readonly kept: Set<number>;
}

/** First and last slot of what is behind a controller. */
const SLOTS: Readonly<Record<BusModel, readonly [number, number]>> = {
  "pcie-root": [1, 31],
  "pcie-root-port": [0, 0],
  "pcie-switch-downstream-port": [0, 0],
  "pcie-switch-upstream-port": [0, 31],
  "pcie-expander-bus": [0, 31],
  "pcie-to-pci-bridge": [1, 31],
  "pci-bridge": [1, 31],
  "dmi-to-pci-bridge": [1, 31],
  "pci-expander-bus": [0, 31],
};

const TAKES: Readonly<Record<Want, readonly BusModel[]>> = {
  express: ["pcie-root-port", "pcie-switch-downstream-port"],
  upstream: ["pcie-root-port", "pcie-switch-downstream-port"],
  bridge: ["pcie-root-port", "pcie-switch-downstream-port"],
  conventional: ["pcie-to-pci-bridge", "dmi-to-pci-bridge", "pci-bridge"],
  integrated: ["pcie-root"],
  "root-port": ["pcie-root"],
  expander: ["pcie-root"],
  downstream: ["pcie-switch-upstream-port"],
};

export const WANT_OF_CONTROLLER: Readonly<Record<BusModel, Want>> = {
  "pcie-root": "integrated",
  "pcie-root-port": "root-port",
  "pcie-expander-bus": "expander",
  "pci-expander-bus": "expander",
  "pcie-switch-upstream-port": "upstream",
  "pcie-switch-downstream-port": "downstream",
  "pcie-to-pci-bridge": "bridge",
  "pci-bridge": "conventional",
  "dmi-to-pci-bridge": "integrated",
};

/** The address that an element gives; null: none of PCI's. @throws Refusal */
export function givenAddress(element: XmlElement | null): PciAddress | null {
  const address = element?.children.find(({ name }) => name === "address") ?? null;
  if (address === null || attribute(address, "type") !== "pci" || attribute(address, "bus") === null) {
    return null;
  }
  const part = (name: string): number => number(address, name, attribute(address, name) ?? "0");
  return { bus: part("bus"), slot: part("slot"), fn: part("function") };
}

export const busName = (index: number): string => (index === 0 ? "pcie.0" : `pci.${index}`);

export class Buses {
  readonly list: Bus[] = [];

  add(model: BusModel, element: XmlElement | null): number {
    this.list.push({ model, element, slots: new Map(), shared: new Set(), kept: new Set() });
    return this.list.length - 1;
  }

  /** Ports up to the bus, where an address names one that nobody described. */
  growTo(index: number): void {
    while (this.list.length <= index) {
      this.add("pcie-root-port", null);
    }
  }

  /** What devices on it say as their bus: the controller's id. */
  nameOf(index: number): string {
    return (index === 0 ? null : userAlias(this.list[index]?.element ?? null)) ?? busName(index);
  }

  copy(): Buses {
    const copy = new Buses();
    for (const { model, element, slots, shared, kept } of this.list) {
      copy.list.push({ model, element, slots: new Map([...slots].map(([slot, fns]) => [slot, new Set(fns)])), shared: new Set(shared), kept: new Set(kept) });
    }
    return copy;
  }

  /** @throws Refusal in libvirt's words */
  reserve(address: PciAddress, element: XmlElement | null): void {
    const { bus: index, slot, fn } = address;
    if (index > 255 || slot > 31 || fn > 7) {
      const details = element === null ? {} : { place: element.place, where: element.place.text };
      throw new Refusal(`XML error: Invalid PCI address bus='0x${index.toString(16)}', must be <= 0xFF`, { ...details, rule: "pci-address", wouldWork: "bus up to 0xff, slot up to 0x1f, function up to 7" });
    }
    this.growTo(index);
    const bus = this.list[index];
    const shown = `0000:${index.toString(16).padStart(2, "0")}:${slot.toString(16).padStart(2, "0")}.${fn}`;
    const details = element === null ? {} : { place: element.place, where: element.place.text };
    const [first, last] = SLOTS[bus.model];
    if (slot < first || slot > last) {
      const words = slot < first ? `slot must be >= ${first}` : `slot must be <= ${last}`;
      throw new Refusal(`XML error: Invalid PCI address ${shown}. ${words}`, { ...details, rule: "pci-address", found: `${busName(index)} is a ${bus.model}`, wouldWork: `slot='${first}' to '${last}'` });
    }
    const fns = bus.slots.get(slot) ?? new Set<number>();
    if (fns.has(fn)) {
      throw new Refusal(`XML error: Attempted double use of PCI Address ${shown}`, { ...details, rule: "pci-address-in-use", wouldWork: "another slot or function" });
    }
    fns.add(fn);
    bus.slots.set(slot, fns);
  }

  isFree({ bus, slot, fn }: PciAddress): boolean {
    return this.list[bus]?.slots.get(slot)?.has(fn) !== true;
  }

  /** The first place there is; null: there is none. */
  take(want: Want): PciAddress | null {
    for (const [index, bus] of this.list.entries()) {
      if (!TAKES[want].includes(bus.model)) {
        continue;
      }
      if (want === "root-port") {
        for (const slot of bus.shared) {
          const fns = bus.slots.get(slot)!;
          for (let fn = 0; fn < 8; fn++) {
            if (!fns.has(fn)) {
              fns.add(fn);
              return { bus: index, slot, fn };
            }
          }
        }
      }
      const [first, last] = SLOTS[bus.model];
      for (let slot = first; slot <= last; slot++) {
        if (!bus.slots.has(slot) && !bus.kept.has(slot)) {
          bus.slots.set(slot, new Set([0]));
          if (want === "root-port") {
            bus.shared.add(slot);
          }
          return { bus: index, slot, fn: 0 };
        }
      }
    }
    return null;
  }

  /** As `take`, after what has to be there for it is added. */
  takeOrAdd(want: Want): PciAddress {
    let found = this.take(want);
    if (found === null && want === "conventional") {
      const port = this.list.findIndex(({ model, slots }) => model === "pcie-root-port" && slots.size === 0);
      if (port < 0) {
        this.add("pcie-root-port", null);
      }
      this.take("bridge");
      this.add("pcie-to-pci-bridge", null);
      found = this.take(want);
    } else if (found === null && (want === "express" || want === "upstream" || want === "bridge")) {
      this.add("pcie-root-port", null);
      found = this.take(want);
    }
    if (found === null) {
      throw new Refusal("internal error: No more available PCI slots", { rule: "pci-slots", found: want });
    }
    return found;
  }
}
