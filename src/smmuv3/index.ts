export type { SmmuBackend, SmmuForBackend } from "./backend.js";
