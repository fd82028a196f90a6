/** A request through a unit of either architecture. */
import { walkSmmu } from "./smmuv3-walk.js";
import type { InspectionSource, UnitState } from "./source.js";
import type { UnitRequest, UnitWalk } from "./unit-walk.js";
import { walkVtd } from "./vtd-walk.js";

export function walkUnit(unit: UnitState, source: InspectionSource, request: UnitRequest): UnitWalk {
  const space = unit.side === "guest" ? "guest-physical" : "host-physical";
  return unit.architecture === "smmuv3" ? walkSmmu(unit, request, space) : walkVtd(unit, source, request, space);
}
