export { GICV2M_BYTES, Gicv2mFrame, GITS_TRANSLATER, ITS_TRANSLATION_BYTES, ItsDoorbell, type InterruptSink } from "./doorbells.js";
export { fixupDoorbell, MsiRouter, type MsiRoute, type MsiRouteAccount } from "./router.js";
