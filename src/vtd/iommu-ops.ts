/** The PCI side of a VT-d unit: it covers all root buses, and any function may sit behind it. */
import type { DmaSpace } from "../memory/index.js";
import type { IommuOps, PciBus } from "../pci/index.js";

/** Makes the space of an emulated function. */
export type SpaceMaker = (name: string) => DmaSpace;

export class VtdIommuOps implements IommuOps {
  private readonly spaces = new WeakMap<PciBus, Map<number, DmaSpace>>();

  constructor(private readonly makeSpace: SpaceMaker) {}

  /**
   * One space per (bus, devfn), the same at every call. Source ids come with the accesses, so nothing has to
   * follow when the guest renumbers buses.
   */
  getAddressSpace(bus: PciBus, devfn: number): DmaSpace {
    let ofBus = this.spaces.get(bus);
    if (ofBus === undefined) {
      ofBus = new Map();
      this.spaces.set(bus, ofBus);
    }
    let space = ofBus.get(devfn);
    if (space === undefined) {
      // As QEMU names it: vtd-SLOT.FUNCTION.
      space = this.makeSpace(`vtd-${(devfn >> 3).toString(16).padStart(2, "0")}.${(devfn & 7).toString(16)}`);
      ofBus.set(devfn, space);
    }
    return space;
  }
}
