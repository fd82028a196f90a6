export { SmmuAcceleration } from "./acceleration.js";
export { checkHostServes, featuresOfHost, hostIdRegisters } from "./compatibility.js";
export type { FunctionAccount, FunctionTable } from "./function.js";
export { AcceleratedIommuOps, sharedPassthroughSpace } from "./iommu-ops.js";
export type { AccelerationProperties } from "./offer.js";
