export { Gicv2mFrame, GITS_TRANSLATER, ItsDoorbell, type InterruptSink } from "./doorbells.js";
export { type DoorbellWrite, fixupDoorbell, type InterruptSource, type KernelRoutes, type LevelSource, MsiRouter, type MsiRoute } from "./router.js";
