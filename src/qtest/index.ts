export { QtestClient, QtestError } from "./client.js";
export { QtestLog } from "./log.js";
export { QtestPort, type QtestPortOptions } from "./machine-port.js";
export { type QtestCounters, type QtestPeer, QtestServer } from "./server.js";
export type { QtestTarget } from "./target.js";
