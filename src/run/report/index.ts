/** The account of a run as data, and its schema. Types alone load nothing. */
export { accountJsonSchema, type BusReport, type FunctionReport, type IommuReport, reportSchema, type RunReport } from "./report.js";
