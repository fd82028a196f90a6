export type { FunctionDma, MsiRouteEntry } from "./accounts.js";
export type { IommuDescription, InvalidationAccount } from "./iommu-account.js";
export type {
  BusDescription,
  BusFunctionDescription,
  FunctionDescription,
  MachineDescription,
} from "./description.js";
export { type Q35Numbers, q35Numbers } from "./q35/numbers.js";
export { type VirtNumbers, virtNumbers } from "./virt/numbers.js";
export type { Dimm } from "./memory-devices.js";
export { Machine } from "./machine.js";
export { type MachineReport, machineReport } from "./machine-report.js";
export { crowdedRootBuses, type CrowdedRootBus } from "./bus-room.js";
export { roomyWindow, wideBarBytes } from "./pci-windows.js";
export { crowdedBridges, describeFirmware } from "./virt/firmware.js";
export { type MachineEvent, MachineEvents, RunState, type RunStatus } from "./run-state.js";
export { isVtd, type MachineVtd } from "./q35/vtd.js";
export { isSmmu, type MachineSmmu } from "./virt/smmu-set.js";
export { Q35Board } from "./q35/board.js";
export { CONFIG_ADDRESS } from "./q35/io-ports.js";
export { VirtBoard } from "./virt/board.js";
export { Board, type MachineIommu } from "./board.js";
export { HostFiles, type HostFileTaker } from "./host-files.js";
export type { BoardMap } from "./board-map.js";
export type { SerialEnd } from "./serial/end.js";
export { nameDescriptors, type NamedFunctions } from "./given-functions.js";
export { hostFunctionAddress } from "./host-function-name.js";
