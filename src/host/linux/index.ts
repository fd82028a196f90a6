export { LinuxHost, type LinuxHostOptions } from "./host.js";
export type { KernelPort } from "./kernel-port.js";
export { readHwInfo } from "./hw-info.js";
export { type Places, PLACES } from "../sysfs/index.js";
