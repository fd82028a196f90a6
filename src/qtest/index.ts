export { QtestLog } from "./log.js";
export { type QtestCounters, type QtestPeer, QtestServer } from "./server.js";
export type { QtestTarget } from "./target.js";
