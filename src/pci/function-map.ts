import type { PciBus } from "./bus.js";

/** Something for each place of a function (bus and devfn), made when it is first asked for and kept as long as the bus. */
export class FunctionMap<T> {
  private readonly byBus = new WeakMap<PciBus, Map<number, T>>();

  constructor(private readonly make: (bus: PciBus, devfn: number) => T) {}

  /** What belongs to (bus, devfn): always the same. */
  at(bus: PciBus, devfn: number): T {
    let ofBus = this.byBus.get(bus);
    if (ofBus === undefined) {
      ofBus = new Map();
      this.byBus.set(bus, ofBus);
    }
    let found = ofBus.get(devfn);
    if (found === undefined) {
      found = this.make(bus, devfn);
      ofBus.set(devfn, found);
    }
    return found;
  }
}
