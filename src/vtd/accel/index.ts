export { VtdAcceleration, type VtdFunctionAccount } from "./acceleration.js";
export { checkHostServes } from "./compatibility.js";
export type { VtdFunctionTable } from "./function.js";
export { VtdIommuOps } from "./iommu-ops.js";
