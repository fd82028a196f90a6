export { VtdAcceleration } from "./acceleration.js";
export { addressBitsOf, checkHostServes, nestingGaps, pasidBitsOf } from "./compatibility.js";
export type { VtdFunctionAccount, VtdFunctionTable } from "./function.js";
export { VtdIommuOps } from "./iommu-ops.js";
