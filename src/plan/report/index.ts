/** A plan as data, and its schema. Types alone load nothing. */
export { type MachinePlan, planJsonSchema, type PlannedCell, type PlannedExpander, type PlannedFunction, type PlannedPort, type PlannedSmmu, type PlannedVtd, type PlannedWindow, planSchema } from "./machine-plan.js";
