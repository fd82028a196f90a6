/** A running machine as a source of reports. What is asked is read when it is asked: a machine that nobody looks at does nothing for it. */
import type { Machine } from "../../machine/index.js";
import type { InspectionSource } from "../state/index.js";
import { mapOf } from "./map.js";

export function inspectMachine(machine: Machine): InspectionSource {
  return {
    map: () => mapOf(machine),
    units: () => [],
    hostPlace: (address) => {
      const place = machine.host.inspector?.placeOf(address) ?? null;
      return place === null ? null : { unit: place.unit, streamId: place.sourceId };
    },
    cached: () => [],
    hostAddressOf: () => null,
  };
}
