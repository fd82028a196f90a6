/** A host as its sysfs tells of it: this machine, a copy, or a capture, as what a host file says. */
export { describeSnapshot, type DescribedHost } from "./describe.js";
export { copyOf, describeThisMachine, readCapture } from "./machines.js";
export type { FunctionNotes } from "./pci.js";
