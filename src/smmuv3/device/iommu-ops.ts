/** The PCI side of an SMMU without acceleration: any function may sit behind it, each with an address space of its own. */
import type { DmaSpace } from "../../memory/index.js";
import type { IommuOps, PciBus } from "../../pci/index.js";
import type { SmmuV3 } from "./device.js";

export class SoftwareIommuOps implements IommuOps {
  constructor(private readonly smmu: SmmuV3) {}

  /**
   * One space per (bus, devfn), the same at every call. StreamIDs come with the accesses, so nothing has to
   * follow when the guest renumbers buses.
   */
  getAddressSpace(bus: PciBus, devfn: number): DmaSpace {
    return this.smmu.softwareSpace(bus, devfn);
  }
}
