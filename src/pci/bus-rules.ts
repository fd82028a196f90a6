/** What may sit on which bus. Words are QEMU's where QEMU refuses the same. */
import { Refusal } from "../support/index.js";
import type { PciBus } from "./bus.js";
import type { PciFunction } from "./function.js";

function describe(bus: PciBus, candidate: PciFunction): string {
  const owner = bus.bridge === null ? "the root complex" : bus.bridge.label;
  return `${candidate.label} on bus '${bus.id}' of ${owner}`;
}

/** Rules that follow from the kinds of the bus and the function; the bus's own rules come on top. */
export function checkBusRules(bus: PciBus, candidate: PciFunction): void {
  const owner = bus.bridge;
  const { kind } = candidate;
  if (kind === "expander") {
    if (!bus.isExpress) {
      throw new Refusal(`${candidate.model} devices cannot reside on a PCI bus`, {
        rule: "bus-kind", found: describe(bus, candidate),
        wouldWork: "bus=pcie.0",
      });
    }
    if (owner?.kind !== "expander" && !bus.isRoot) {
      throw new Refusal("PXB devices can be attached only to root bus", { rule: "bus-kind", found: describe(bus, candidate), wouldWork: "bus=pcie.0" });
    }
  }
  if (owner?.kind === "expander" && (!candidate.isBridge || kind === "expander")) {
    throw new Refusal(`PCI: Only PCI/PCIe bridges can be plugged into ${owner.model}`, {
      rule: "bus-kind", found: describe(bus, candidate),
      wouldWork: `a pcie-root-port on bus=${bus.id} and the device on that port`,
    });
  }
  if (kind === "root-port" && !bus.isRoot) {
    throw new Refusal("A root port belongs to a root complex", {
      rule: "bus-kind", found: describe(bus, candidate),
      wouldWork: "bus=pcie.0 or the bus of a pxb-pcie; below another port an x3130-upstream with xio3130-downstream ports",
    });
  }
  if (kind === "upstream-port" && (!bus.isExpress || (owner?.kind !== "root-port" && owner?.kind !== "downstream-port"))) {
    throw new Refusal("An upstream port of a switch belongs below a root port or a downstream port", {
      rule: "bus-kind", found: describe(bus, candidate),
      wouldWork: "the bus of a pcie-root-port or of an xio3130-downstream",
    });
  }
  if (kind === "downstream-port" && owner?.kind !== "upstream-port") {
    throw new Refusal("A downstream port of a switch belongs on the bus of its upstream port", {
      rule: "bus-kind", found: describe(bus, candidate),
      wouldWork: "the bus of an x3130-upstream",
    });
  }
  // PCIe 1.3.3: endpoints do not appear on a switch's internal bus as peers of its downstream ports.
  if (owner?.kind === "upstream-port" && kind !== "downstream-port") {
    throw new Refusal("Only downstream ports can be plugged into a switch's internal bus", {
      rule: "bus-kind", found: describe(bus, candidate),
      wouldWork: "an xio3130-downstream on this bus and the device on that port",
    });
  }
  bus.options.rules?.check(bus, candidate);
}

/** The place on the bus: device and function number within it, free, and at most one multi-function slot's worth. */
export function checkPlace(bus: PciBus, candidate: PciFunction, devfn: number): void {
  const slot = devfn >> 3;
  const fn = devfn & 7;
  const place = { rule: "slot", found: describe(bus, candidate) };
  if (!Number.isInteger(devfn) || devfn < 0 || devfn > 255) {
    throw new Refusal(`Property '${candidate.model}.addr' doesn't take value '${slot.toString(16)}.${fn}'`, place);
  }
  const taken = bus.functions.get(devfn);
  if (taken !== undefined) {
    const id = taken.id === "" ? "(null)" : taken.id;
    throw new Refusal(`PCI: slot ${slot} function ${fn} not available for ${candidate.model}, in use by ${taken.model},id=${id}`, {
      ...place,
      wouldWork: bus.options.singleSlot === true ? "another port" : "another addr=, or none to take a free slot",
    });
  }
  // Only device 0 is behind a link (PCIe 7.3.1).
  if (bus.options.singleSlot === true && slot !== 0) {
    throw new Refusal(`PCI: slot ${slot} is not valid for ${candidate.model}, parent device only allows plugging into slot 0.`, {
      ...place,
      wouldWork: "addr=0",
    });
  }
  if (slot < (bus.options.firstSlot ?? 0)) {
    throw new Refusal(
      `Unsupported PCI slot ${slot} for standard hotplug controller. Valid slots are between ${bus.options.firstSlot} and 31.`,
      { ...place, wouldWork: `addr=${bus.options.firstSlot}` },
    );
  }
  checkMultifunction(bus, candidate, slot, fn);
}

/** A function that is to come into the only slot of a link while the guest knows another one there. @throws Refusal */
export function checkSlotTaken(bus: PciBus, candidate: PciFunction): void {
  const first = bus.functions.get(0);
  if (bus.options.singleSlot === true && candidate.hotplugged && first !== undefined) {
    throw occupied(0, first, candidate, "a port whose slot is empty");
  }
}

function occupied(slot: number, first: PciFunction, candidate: PciFunction, wouldWork: string): Refusal {
  return new Refusal(`PCI: slot ${slot} function 0 already occupied by ${first.model}, new func ${candidate.model} cannot be exposed to guest.`, { rule: "slot", wouldWork });
}

function checkMultifunction(bus: PciBus, candidate: PciFunction, slot: number, fn: number): void {
  const slotText = slot.toString(16);
  const first = bus.functions.get(slot * 8);
  if (fn !== 0) {
    if (candidate.hotplugged && first !== undefined) {
      throw occupied(slot, first, candidate, "function 0 as the last of the slot");
    }
    if (first !== undefined && !first.multifunction) {
      throw new Refusal(`PCI: single function device can't be populated in function ${slotText}.${fn}`, {
        rule: "slot",
        found: `${first.label} in function 0 without multifunction=on`,
        wouldWork: `multifunction=on for ${first.label}`,
      });
    }
    return;
  }
  if (candidate.multifunction) {
    return;
  }
  for (let other = 1; other < 8; other++) {
    if (bus.functions.has(slot * 8 + other)) {
      throw new Refusal(`PCI: ${slotText}.0 indicates single function, but ${slotText}.${other} is already populated.`, {
        rule: "slot",
        found: `${bus.functions.get(slot * 8 + other)!.label} in function ${other}`,
        wouldWork: `multifunction=on for ${candidate.label}`,
      });
    }
  }
}
