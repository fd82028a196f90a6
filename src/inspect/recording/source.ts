/** A state of a recording as a source of reports. Loads in a browser. */
import { type InspectionSource, PagedMemory, type UnitState } from "../state/index.js";
import type { RecordedState } from "./changes.js";

export function sourceOf(state: RecordedState): InspectionSource {
  const memory = { guest: new PagedMemory((page) => state.pages.guest.get(page) ?? null), host: new PagedMemory((page) => state.pages.host.get(page) ?? null) };
  const units = state.units.map((unit): UnitState => ({ ...unit, memory: memory[unit.side] }));
  return {
    map: () => state.map!,
    units: () => units,
    hostPlace: (address) => (Object.hasOwn(state.places, address) ? state.places[address] : null),
    cached: () => state.cached,
    hostAddressOf: (guestPhysical) => {
      const { ram } = state;
      for (let at = 0; at + 2 < ram.length; at += 3) {
        if (guestPhysical >= ram[at] && guestPhysical < ram[at] + ram[at + 1]) {
          return ram[at + 2] + guestPhysical - ram[at];
        }
      }
      return null;
    },
  };
}
