export type { FunctionDma, InvalidationAccount, MsiRouteEntry } from "./accounts.js";
export type {
  BusDescription,
  BusFunctionDescription,
  FunctionDescription,
  IommuDescription,
  MachineDescription,
} from "./description.js";
export { type BoardNumbers, boardNumbers, q35Numbers } from "./qom-names.js";
export type { Dimm } from "./memory-devices.js";
export { Machine } from "./machine.js";
export { describeFirmware, type PlacedTables } from "./virt/firmware.js";
export { type MachineEvent, MachineEvents, RunState, type RunStatus } from "./run-state.js";
export type { MachineVtd } from "./q35/vtd.js";
export type { MachineSmmu } from "./virt/smmu-set.js";
export { Q35Board } from "./q35/board.js";
export { VirtBoard } from "./virt/board.js";
export { Board, type BoardMap, type MachineIommu } from "./board.js";
