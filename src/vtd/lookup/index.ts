export { featuresOf, type VtdFeatures } from "./features.js";
export {
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BLOCKED,
  BYPASSED,
  INTERRUPT,
  KIND_TRANSLATED,
  KIND_TRANSLATION_REQUEST,
  KIND_UNTRANSLATED,
  NO_PASID,
  TRANSLATED,
} from "./answers.js";
export { ContextView, decodeContext, decodeRoot, decodeScalableContext, RootView } from "./context-entry.js";
export {
  classifyPasidEntry,
  decodeDirectory,
  DirectoryView,
  PASID_FIRST_STAGE,
  PASID_INVALID,
  PASID_NESTED,
  PASID_NOT_PRESENT,
  PASID_PASS_THROUGH,
  PASID_SECOND_STAGE,
  PasidView,
} from "./pasid-entry.js";
export { StructureReader, type RootPointer } from "./structures.js";
export { VtdTranslator, type VtdTranslatorOptions } from "./vtd-translator.js";
export {
  decodeIrte,
  INTERRUPT_BLOCKED,
  INTERRUPT_REMAPPED,
  INTERRUPT_UNCHANGED,
  InterruptRemapper,
  IrteView,
  isSourceAllowed,
} from "./interrupt-remapper.js";
export { heldEntries } from "./held-entries.js";
export { keptContext, keptPasid } from "./kept-words.js";
export { GuestTables } from "./guest-tables.js";
export {
  DESCRIPTOR_PROBLEMS,
  DescriptorRules,
  descriptorTypeName,
  deviceRangeBits,
  dropCached,
} from "./commands.js";
export { hiddenFunctionBits } from "./unit-caches.js";
export { isQualified, pasidReasonOf } from "./conditions.js";
export { FaultRecords } from "./fault-records.js";
