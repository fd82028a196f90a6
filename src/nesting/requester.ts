import { iommuPath, type PciBus } from "../pci/index.js";

/**
 * The requester id that an IOMMU sees of a function: bus number and devfn, those of a bridge where that takes the
 * requests over (PCIe 2.2.4.1; PCIe-to-PCI bridge 2.3). Null while the guest has given the bus no number.
 */
export function requesterId(bus: PciBus, devfn: number): number | null {
  const path = iommuPath(bus, devfn);
  if (!path.bus.isRoot && path.bus.number === 0) {
    return null;
  }
  return (path.bus.number << 8) | path.devfn;
}
