/** Reports of a machine's state, made of registers, memory and cached entries alone: of a running one or of a recording. Loads in a browser. */
export type { InspectionSource, UnitState } from "./source.js";
