/** The PCI side of an accelerated SMMU: who may sit behind it, and which address space it gets. */
import { AddressSpace, type DmaSpace, MemoryRegion } from "../../memory/index.js";
import { type HostIommuDevice, type IommuOps, type PciBus, type PciFunction, formatBdf, sharersOf, type ViommuFlags } from "../../pci/index.js";
import { Refusal } from "../../support/index.js";
import type { SmmuAcceleration } from "./acceleration.js";

const sharedSpaces = new WeakMap<AddressSpace, AddressSpace>();

/**
 * The one address space that passed-through functions of all accelerated SMMUs of a machine get: system
 * memory under another name, so that their stage-2 tables are shared.
 */
export function sharedPassthroughSpace(system: AddressSpace): AddressSpace {
  let space = sharedSpaces.get(system);
  if (space === undefined) {
    const alias = MemoryRegion.alias("smmuv3-accel-sysmem", system.root, 0, system.root.size);
    space = new AddressSpace("smmuv3-accel-as-sysmem", alias);
    sharedSpaces.set(system, space);
  }
  return space;
}

export class AcceleratedIommuOps implements IommuOps {
  constructor(
    /** `arm-smmuv3 'smmu0'`. */
    private readonly name: string,
    private readonly acceleration: SmmuAcceleration,
    private readonly system: AddressSpace,
    /** The SMMU's own, software-translated space, for bridges and ports. */
    private readonly bridgeSpace: (bus: PciBus, devfn: number) => DmaSpace,
    /** Guest-physical address of the MSI doorbell; null: the machine has none. */
    private readonly msiDoorbell: number | null,
  ) {}

  supportsAddressSpace(bus: PciBus, devfn: number, candidate: PciFunction): void {
    if (candidate.isBridge) {
      return;
    }
    const where = `${candidate.label} at ${formatBdf((bus.number << 8) | devfn)} on bus '${bus.id}', behind ${this.name} (accel=on)`;
    if (candidate.passthrough === null) {
      throw new Refusal("Emulated endpoint devices are not allowed when using arm-smmuv3,accel=on", {
        rule: "emulated-behind-accel",
        found: where,
        wouldWork: "a bus that no accelerated SMMU covers, an arm-smmuv3 without accel=on, or a vfio-pci function with iommufd=",
      });
    }
    if (candidate.passthrough.iommufd === null) {
      throw new Refusal("vfio-pci endpoint devices without an iommufd backend not allowed when using arm-smmuv3,accel=on", {
        rule: "no-iommufd",
        found: `${where}, without iommufd=`,
        wouldWork: "-object iommufd,id=iommufd0 and iommufd=iommufd0",
      });
    }
  }

  getAddressSpace(bus: PciBus, devfn: number): DmaSpace {
    // Below a PCIe-to-PCI bridge (bus, devfn) is the bridge's requester, whichever function asks.
    return sharersOf(bus, devfn).some((fn) => fn.passthrough !== null)
      ? sharedPassthroughSpace(this.system)
      : this.bridgeSpace(bus, devfn);
  }

  checkIommuDevice(device: HostIommuDevice): void {
    this.acceleration.checkHost(device);
  }

  setIommuDevice(bus: PciBus, devfn: number, device: HostIommuDevice): void {
    this.acceleration.addFunction(bus, devfn, device);
  }

  unsetIommuDevice(bus: PciBus, devfn: number): void {
    this.acceleration.removeFunction(bus, devfn);
  }

  getMsiDirectGpa(): number | null {
    return this.msiDoorbell;
  }

  getViommuFlags(): ViommuFlags {
    // A vIOMMU's VMID is its parent's (Linux arm_vsmmu_init), and each SMMU's guest counts ASIDs of its own.
    return { wantNestingParent: true, pasidSupported: this.acceleration.pasidOffered, parentOwner: this.acceleration };
  }

  busNumbersChanged(): void {
    this.acceleration.busNumbersChanged();
  }
}
