export { type AccountOptions, formatAccount, guestLines } from "./account.js";
export { defaultHost } from "./default-host.js";
export { firmwareTables } from "./firmware-tables.js";
export { findGuest } from "./guest-file.js";
export type { GuestToRun } from "./guest.js";
export { type RemoteReport, type RemoteRequest, runRemoteGuest } from "./remote-guest.js";
export type { RunReport } from "./report/index.js";
export { idleOptions, runMachine, type RunRequest, speaksOnStandardOutput } from "./run-machine.js";
export { machineTree } from "./tree.js";
