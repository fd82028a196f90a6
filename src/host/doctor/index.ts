/** What of a Linux keeps a machine from its functions, each with its cure: before anything is made of it, or because somebody asks. */
export { checkHost, diagnose, examine, type Question } from "./examine.js";
export { formatProblems } from "./report.js";
export type { HostProblem, Wanted } from "./wanted.js";
