export { type ChardevArgument, parseChardevShort } from "./arguments/chardev.js";
export type { FunctionDma, InvalidationAccount, MsiRouteEntry } from "./accounts.js";
export { dropProgram, splitWords } from "./arguments/argument-file.js";
export { type MachineArguments, parseArguments } from "./arguments/arguments.js";
export type {
  BusDescription,
  BusFunctionDescription,
  FunctionDescription,
  IommuDescription,
  MachineDescription,
} from "./description.js";
export type { ControlArguments, MonitorArgument } from "./arguments/control.js";
export { type BoardNumbers, boardNumbers, q35Numbers } from "./qom-names.js";
export { type DeviceCategory, type DeviceModel, deviceModels, type PropertyDescription } from "./arguments/device-table.js";
export type { Dimm } from "./memory-devices.js";
export { Machine } from "./machine.js";
export { describeFirmware, type PlacedTables } from "./virt/firmware.js";
export { type DeviceArgument } from "./arguments/device.js";
export { modelName } from "./arguments/unknown-devices.js";
export { type PropertyType, type PropertyValue, typeName } from "./arguments/property.js";
export { type MachineEvent, MachineEvents, RunState, type RunStatus } from "./run-state.js";
export type { MachineVtd } from "./q35/vtd.js";
export type { MachineSmmu } from "./virt/smmu-set.js";
export { Q35Board } from "./q35/board.js";
export { VirtBoard } from "./virt/board.js";
export { Board, type BoardMap, type MachineIommu } from "./board.js";
export { parseTrace, type TraceArguments, traceFilePatterns, type TraceRequest } from "./arguments/trace.js";
