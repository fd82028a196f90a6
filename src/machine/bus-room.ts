/** Whether the buses below each root bus have numbers of their own, before a guest gives them. */
import type { PciBus, PciRoot } from "../pci/index.js";

/** A root bus with more bridges below than there are numbers up to the next root bus. */
export interface CrowdedRootBus {
  readonly words: string;
  readonly found: string;
  readonly wouldWork: string;
  /** A number that would do, and whose: this one's or the next one's. */
  readonly cure: { readonly bus: PciBus; readonly number: number };
}

/**
 * Root buses with more bridges below than there are numbers up to the next root bus. Guests number on into the next
 * one's, and a device tree's iommu-map, which is made of the root buses' numbers, gives their functions to that one's
 * IOMMU.
 * @param busCount buses that configuration space has room for
 */
export function crowdedRootBuses(pci: PciRoot, busCount: number): CrowdedRootBus[] {
  const roots = pci.rootBuses();
  return roots.flatMap((root, index) => {
    const next: PciBus | undefined = roots[index + 1];
    const room = (next?.number ?? busCount) - root.number - 1;
    const buses = [...root.descendants()].length;
    if (buses <= room) {
      return [];
    }
    const own = root.bridge === null ? "pcie.0" : `${root.bridge.label} (bus_nr=${root.number})`;
    const limit = next === undefined ? `configuration space has ${busCount} buses` : `${next.bridge?.label ?? next.id} has bus_nr=${next.number}`;
    const number = next === undefined ? Math.max(busCount - 1 - buses, 1) : root.number + buses + 1;
    return [
      {
        words: `${own} has room for ${room} of the ${buses} buses below it, for ${limit}`,
        found: "a guest may find functions there under another IOMMU, or not at all",
        wouldWork: next === undefined ? `bus_nr=${number} or less for it` : `bus_nr=${number} or more for ${next.bridge?.label ?? next.id}`,
        cure: { bus: next ?? root, number },
      },
    ];
  });
}
