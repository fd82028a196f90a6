/** QEMU's command line as a description of a machine: nothing of a machine is made here. */
export { dropProgram, splitWords } from "./argument-file.js";
export { type MachineArguments, parseArguments } from "./arguments.js";
export { BOARD_KINDS, type BoardKind, type BoardTraits, boardTraits } from "./boards.js";
export { type ChardevArgument, parseChardevShort } from "./chardev.js";
export type { ControlArguments, MonitorArgument } from "./control.js";
export { type DeviceCategory, type DeviceModel, deviceModels, type FunctionModel, type PropertyDescription } from "./device-table.js";
export { booleanProperty, type DeviceArgument, deviceLabel, type GlobalProperty, numberProperty, parseDevice, textProperty } from "./device.js";
export { type MachineOptions, type MsiController, resolveGicVersion, resolveMsiController } from "./machine-options.js";
export { DEFAULT_RAM, type MemoryArguments } from "./memory.js";
export { listed, nearest } from "./nearest.js";
export { type ObjectArgument, objectTypes, parseObject } from "./object.js";
export { optionRules } from "./other-options.js";
export { located } from "./option-string.js";
export { type PropertyType, type PropertyValue, typeName } from "./property.js";
export { checkSmmuProperties, type SmmuRequest } from "./smmu.js";
export { parseTrace, type TraceArguments, traceFilePatterns, type TraceRequest } from "./trace.js";
export { modelName } from "./unknown-devices.js";
export { checkVtdProperties, type VtdRequest } from "./vtd.js";
