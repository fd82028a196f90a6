export { loadAcpiTables } from "./acpi-loader.js";
export { idleFirmware } from "./idle-firmware.js";
export { AbsentOperator, QmpOperator, type RemoteCandidate } from "./operator.js";
export { QmpClient, QmpRefusal } from "./qmp-client.js";
export { openQ35, type Q35Options } from "./q35.js";
export { openVirt, type VirtOptions } from "./virt.js";
