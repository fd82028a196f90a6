/** A running machine as a source of reports. What is asked is read when it is asked: a machine that nobody looks at does nothing for it. */
import type { Machine } from "../../machine/index.js";
import type { InspectionSource } from "../state/index.js";
import { cachedOf } from "./cached.js";
import { mapOf } from "./map.js";
import { unitsOf } from "./units.js";

export function inspectMachine(machine: Machine): InspectionSource {
  const { board, host } = machine;
  return {
    map: () => mapOf(machine),
    units: () => unitsOf(machine),
    hostPlace: (address) => {
      const place = host.inspector?.placeOf(address) ?? null;
      return place === null ? null : { unit: place.unit, streamId: place.sourceId };
    },
    cached: () => cachedOf(machine),
    hostAddressOf: (guestPhysical) => {
      const section = board.memory.find(guestPhysical);
      const ram = section?.region.ram ?? null;
      return ram === null || section === null ? null : (host.inspector?.addressOf(ram, section.region.ramOffset + section.offset + guestPhysical - section.address) ?? null);
    },
  };
}
