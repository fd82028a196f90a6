export { Gicv2mFrame, GITS_TRANSLATER, ItsDoorbell, type InterruptSink } from "./doorbells.js";
export { fixupDoorbell, type InterruptSource, MsiRouter, type MsiRoute } from "./router.js";
