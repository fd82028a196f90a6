export type { HostMemory, PhysicalFunction, PhysicalFunctionDescription, PhysicalHost, PhysicalSmmu } from "./hardware-port.js";
export { SimulatedKernel, type SmmuAccount } from "./kernel.js";
export type { TableAccount } from "./iommufd.js";
