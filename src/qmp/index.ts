export { QmpMonitor } from "./monitor.js";
export type { ChardevState, MonitorTarget } from "./target.js";
