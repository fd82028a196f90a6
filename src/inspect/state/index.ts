/** Reports of a machine's state, made of registers, memory and cached entries alone: of a running one or of a recording. Loads in a browser. */
export type { InspectionSource, UnitState } from "./source.js";
export { cachesReport, type CachesQuestion } from "./caches.js";
export { decodeFields, type Meanings } from "./fields.js";
export { queuesReport } from "./queues.js";
export { describeCommand, describeEvent, type EntryText } from "./smmuv3-entries.js";
export { describeDescriptor, describeFault } from "./vtd-entries.js";
export { registersReport, unknownName } from "./registers.js";
export type { RegisterLayout } from "./register-layout.js";
export { SMMU_REGISTERS } from "./smmuv3-registers.js";
export { vtdRegisters } from "./vtd-registers.js";
export { decodeStructure, halves, type StructureLayout } from "./structure-layout.js";
export { CD_LAYOUT, eventLayout, L1CD_LAYOUT, L1STD_LAYOUT, STE_LAYOUT } from "./smmuv3-fields.js";
export { type DescriptorKind, descriptorKind, descriptorLayout } from "./vmsa-fields.js";
export { CONTEXT_LAYOUT, entryKind, entryLayout, FAULT_RECORD_LAYOUT, PASID_DIRECTORY_LAYOUT, PASID_ENTRY_LAYOUT, ROOT_LAYOUT, SM_CONTEXT_LAYOUT, SM_ROOT_LAYOUT } from "./vtd-fields.js";
export { faultWords } from "./vtd-fault-words.js";
export { TAKEN_OF_PASID_ENTRY, TAKEN_OF_STE } from "./compare.js";
export { walkReport } from "./walk.js";
