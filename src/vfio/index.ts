export { IommufdContext } from "./context.js";
export { VfioPci, type VectorRouting, type VfioPciOptions } from "./vfio-pci.js";
