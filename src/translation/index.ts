export * from "./types.js";
export { BoundedCache } from "./bounded-cache.js";
export { type HeldEntry, type HeldTranslation, heldTranslations, permissionText, wideWords } from "./held-entry.js";
export { levelShift, selectStage1Range, stage1StartLevel, stage2StartLevel, type GranuleBits } from "./geometry.js";
export { permits, REQUIRED_PERMISSIONS } from "./permissions.js";
export { LoopWalker } from "./loop-walker.js";
export { PageWalker } from "./page-walker.js";
export { ANY_ASID, NO_ASID, Tlb, TLB_MISS, type TlbEntry } from "./tlb.js";
export { Translator } from "./translator.js";
