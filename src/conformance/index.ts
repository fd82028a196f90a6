export type { Answer } from "./answer.js";
export { type Comparison, compare, type Difference, type GroupComparison } from "./compare.js";
export { type ConformanceRecord, judgesCommands, type KernelFacts, loadRecord, makeRecord, packagedRecords, RECORD_FORMAT, recordFor } from "./record.js";
export { formatReport } from "./report.js";
export { type GroupResult, groups, runSuite, type SuiteRequest, type SuiteRun } from "./suite.js";
export type { Facts, IommuKind } from "./survey.js";
export { runningKernel } from "./system.js";
