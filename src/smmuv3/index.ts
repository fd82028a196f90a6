export type { AcceleratedFeatures, SmmuBackend, SmmuForBackend } from "./backend.js";
