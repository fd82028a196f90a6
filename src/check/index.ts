/** What would fail or be slow of a command line, before it is run: rules, findings with their places, mends. */
export { check, type CheckedFinding, type CheckReport, type CheckRequest } from "./check.js";
export { formatJson } from "./json.js";
export { type Rule, type RuleId, rules } from "./rules.js";
export { formatSarif } from "./sarif.js";
export { formatFindings } from "./text.js";
