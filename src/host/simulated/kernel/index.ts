export type { HostMemory, PhysicalFunction, PhysicalFunctionDescription, PhysicalHost, PhysicalSmmu } from "./hardware-port.js";
export { SimulatedKernel } from "./kernel.js";
export type { KernelVersion } from "./kernel-rules.js";
export type { VtdAccount } from "./vtd/driver.js";
export type { SmmuAccount } from "./smmu/driver.js";
export type { UnclaimedFault, UnclaimedFaultListener } from "./unclaimed-fault.js";
export type { TableAccount } from "./iommufd.js";
