export { checkHost, diagnose, type HostProblem, type Wanted } from "./doctor.js";
export { LinuxHost, type LinuxHostOptions } from "./host.js";
export type { KernelPort } from "./kernel-port.js";
export { type Places, PLACES } from "./sysfs.js";
