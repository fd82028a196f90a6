export { featuresOf, type LookupFeatures } from "./features.js";
export { decodeSte, STE_ILLEGAL, SteView } from "./ste-view.js";
export { CD_ILLEGAL, CD_OK, CdView, decodeCd } from "./cd-view.js";
export { CONTEXT_FOUND, ContextTable } from "./context-table.js";
export { STREAM_FETCH_ABORT, STREAM_FOUND, STREAM_OUT_OF_RANGE, StreamTable } from "./stream-table.js";
export {
  ABORTED,
  ATS_ABORTED,
  ATS_UNSUPPORTED,
  BYPASSED,
  KIND_ATS_REQUEST,
  KIND_ATS_TRANSLATED,
  KIND_TRANSACTION,
  READ_AS_ZERO,
  TRANSLATED,
} from "./answers.js";
export { CommandRules, dropCached } from "./commands.js";
export { heldEntries } from "./held-entries.js";
export { keptCd, keptSte } from "./kept-words.js";
export { StreamTranslator, type StreamTranslatorOptions } from "./stream-translator.js";
export type { UnitCachesOptions } from "./unit-caches.js";
