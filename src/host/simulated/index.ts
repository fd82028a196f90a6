/**
 * The simulated host: an in-process kernel above simulated hardware. It needs no hardware and no privilege.
 */
export * from "./file/index.js";
export * from "./hardware/index.js";
export { createSimulatedHost, type SimulatedHost, type SimulatedHostOptions } from "./host/index.js";
export { SimulatedKernel, type SmmuAccount, type TableAccount, type UnclaimedFault, type VtdAccount } from "./kernel/index.js";
export { iommuOf, requesterIdOf, sourceIdOf } from "./names/index.js";
