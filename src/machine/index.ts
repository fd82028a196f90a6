export { type ChardevArgument, parseChardevShort } from "./chardev-argument.js";
export type { FunctionDma, InvalidationAccount, MsiRouteEntry } from "./accounts.js";
export { dropProgram, splitWords } from "./argument-file.js";
export { type MachineArguments, parseArguments } from "./arguments.js";
export type {
  BusDescription,
  BusFunctionDescription,
  FunctionDescription,
  IommuDescription,
  MachineDescription,
} from "./description.js";
export type { ControlArguments, MonitorArgument } from "./control-arguments.js";
export { type BoardNumbers, boardNumbers, q35Numbers } from "./device-names.js";
export { type DeviceCategory, type DeviceModel, deviceModels, type PropertyDescription } from "./device-table.js";
export type { Dimm } from "./memory-devices.js";
export { Machine } from "./machine.js";
export { describeFirmware, type PlacedTables } from "./firmware-tables.js";
export { type DeviceArgument } from "./device-argument.js";
export { modelName } from "./qemu-devices.js";
export { type PropertyType, type PropertyValue, typeName } from "./property.js";
export { type MachineEvent, MachineEvents, RunState, type RunStatus } from "./run-state.js";
export type { MachineVtd } from "./machine-vtd.js";
export type { MachineSmmu } from "./smmu-set.js";
export { Q35Board } from "./q35.js";
export { VirtBoard } from "./virt.js";
export { Board, type BoardMap, type MachineIommu } from "./board.js";
export { parseTrace, type TraceArguments, traceFilePatterns, type TraceRequest } from "./trace-argument.js";
