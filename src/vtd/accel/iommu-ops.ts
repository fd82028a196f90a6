/** The PCI side of a VT-d unit: it covers all root buses, and any function may sit behind it. */
import type { DmaSpace } from "../../memory/index.js";
import { formatBdf, type HostIommuDevice, type IommuOps, type PciBus, type PciFunction, sharersOf, type ViommuFlags } from "../../pci/index.js";
import { Refusal } from "../../support/index.js";
import type { VtdDevice } from "../device/index.js";
import type { VtdAcceleration } from "./acceleration.js";

export class VtdIommuOps implements IommuOps {
  constructor(
    private readonly unit: VtdDevice,
    private readonly acceleration: VtdAcceleration,
  ) {}

  private get name(): string {
    return `intel-iommu '${this.unit.id}'`;
  }

  /**
   * Emulated and passed-through functions may be side by side. Behind a PCIe-to-PCI bridge all functions have the
   * bridge's source id, and so one context entry, one address space: what cannot be right there is refused.
   */
  supportsAddressSpace(bus: PciBus, devfn: number, candidate: PciFunction): void {
    if (candidate.isBridge) {
      return;
    }
    const { fsts } = this.unit.properties;
    const passthrough = candidate.passthrough !== null;
    if (passthrough && candidate.passthrough.iommufd === null && fsts) {
      throw new Refusal("Need IOMMUFD backend when fsts=on", {
        rule: "no-iommufd",
        found: `${candidate.label} behind ${this.name}, without iommufd=`,
        wouldWork: "-object iommufd,id=iommufd0 and iommufd=iommufd0",
      });
    }
    if (candidate.bus === bus && bus.isExpress) {
      return;
    }
    if (passthrough && fsts) {
      throw new Refusal("Host device downstream to a PCI bridge is unsupported when fsts=on", {
        rule: "shared-bridge",
        found: `${candidate.label} on bus '${candidate.bus?.id ?? bus.id}' behind ${this.name}: its requests carry the bridge's requester id, not the one that its PASID table is for`,
        wouldWork: "a pcie-root-port of its own",
      });
    }
    const other = sharersOf(bus, devfn).find((fn) => fn !== candidate && !fn.isBridge && (fn.passthrough !== null) !== passthrough);
    if (other !== undefined) {
      throw new Refusal("an emulated and a passed-through function cannot share a PCI bridge", {
        rule: "shared-bridge",
        found: `${candidate.label} and ${other.label} on bus '${candidate.bus?.id ?? bus.id}' at ${formatBdf((bus.number << 8) | devfn)} behind ${this.name}: one is translated in software, one by the host, and they have one requester id`,
        wouldWork: "the passed-through function on a pcie-root-port of its own",
      });
    }
  }

  /**
   * Of an emulated function the unit's space of it; a passed-through function gets system memory: what its stage-2
   * table shows.
   */
  getAddressSpace(bus: PciBus, devfn: number): DmaSpace {
    // Behind a PCIe-to-PCI bridge (bus, devfn) is the bridge's requester, whichever function asks.
    if (sharersOf(bus, devfn).some((fn) => fn.passthrough !== null)) {
      return this.unit.memory;
    }
    return this.unit.softwareSpace(bus, devfn);
  }

  checkIommuDevice(device: HostIommuDevice): void {
    this.acceleration.checkFunction(device);
  }

  setIommuDevice(bus: PciBus, devfn: number, device: HostIommuDevice): void {
    this.acceleration.addFunction(bus, devfn, device);
  }

  unsetIommuDevice(bus: PciBus, devfn: number): void {
    this.acceleration.removeFunction(bus, devfn);
  }

  getViommuFlags(): ViommuFlags {
    const { fsts, pasidBits } = this.unit.properties;
    const pasids = fsts && pasidBits > 0;
    return { wantNestingParent: fsts, pasidSupported: pasids, wantPasidAttach: pasids };
  }

  busMasteringEnabled(bus: PciBus, devfn: number): void {
    this.acceleration.busMasteringEnabled(bus, devfn);
  }

  requestUnbound(bus: PciBus, devfn: number, pasid: number | null): void {
    this.acceleration.requestUnbound(bus, devfn, pasid);
  }

  busNumbersChanged(): void {
    this.acceleration.busNumbersChanged();
  }
}
