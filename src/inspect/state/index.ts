/** Reports of a machine's state, made of registers, memory and cached entries alone: of a running one or of a recording. Loads in a browser. */
export type { InspectionSource, UnitState } from "./source.js";
export { decodeFields, type Meanings } from "./fields.js";
export { registersReport, unknownName } from "./registers.js";
export type { RegisterLayout } from "./register-layout.js";
export { SMMU_REGISTERS } from "./smmuv3-registers.js";
export { vtdRegisters } from "./vtd-registers.js";
