export { loadAcpiTables } from "./acpi-loader.js";
export { AbsentOperator, QmpOperator, type RemoteCandidate } from "./operator.js";
export { QmpClient } from "./qmp-client.js";
export { openVirt, type VirtOptions } from "./virt.js";
