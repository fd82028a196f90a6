/** What a machine needs on a host: which function behind which IOMMU, with its reasons. */
export { type AmdFacts, type FunctionFacts, HostFacts, type IommuFacts, type Offered, type SmmuFacts, type SmmuOffer, type VtdFacts, type VtdOffer } from "./host-facts.js";
export { planMachine, type PlanRequest, QEMU_VERSIONS, qemuVersion, type QemuVersion } from "./design.js";
export type { MachinePlan, PlannedCell, PlannedExpander, PlannedFunction, PlannedPort, PlannedSmmu, PlannedVtd, PlannedWindow } from "./report/index.js";
export { functionsOf, portsOf } from "./machine-plan.js";
export { LIBVIRT_VERSIONS, type LibvirtVersion, PLAN_FORMATS, type PlanFormat, writePlan, type WriteOptions } from "./formats/index.js";
