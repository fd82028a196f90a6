export { IommufdContext } from "./context.js";
export type { VectorRouting } from "./interrupts.js";
export { VfioPci, type VfioPciOptions } from "./vfio-pci.js";
