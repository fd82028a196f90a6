/** A machine as data without objects in it: addresses as text, buses in one list. The account and an inspector's map have it. */
import { hex } from "../support/index.js";
import type { BusDescription, FunctionDescription, MachineDescription, OtherDeviceDescription } from "./description.js";
import type { BindingDescription, IommuDescription } from "./iommu-account.js";

/** A bus, without what is on it. */
export interface BusRow extends Omit<BusDescription, "functions"> {
  /** bdf of the bridge or expander that makes it; null: pcie.0. */
  readonly bridge: string | null;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface MachineReport extends Omit<MachineDescription, "iommus" | "functions" | "buses" | "otherDevices"> {
  readonly iommus: Array<Omit<IommuDescription, "base" | "interrupts" | "bindings"> & { base: string; interrupts: number[]; bindings: Array<Mutable<BindingDescription>> }>;
  readonly functions: Array<Omit<FunctionDescription, "secondaryBuses"> & { secondaryBuses: string[] }>;
  readonly buses: BusRow[];
  readonly otherDevices: OtherDeviceDescription[];
}

export function machineReport(machine: MachineDescription): MachineReport {
  const { iommus, buses, functions, otherDevices, ...rest } = machine;
  return {
    ...rest,
    iommus: iommus.map((iommu) => ({ ...iommu, base: hex(iommu.base), interrupts: [...iommu.interrupts], bindings: iommu.bindings.map((one) => ({ ...one })) })),
    functions: functions.map((fn) => ({ ...fn, secondaryBuses: [...fn.secondaryBuses] })),
    buses: buses.flatMap((bus) => flatten(bus, null)),
    otherDevices: otherDevices.map((device) => ({ ...device })),
  };
}

function flatten(bus: BusDescription, bridge: string | null): BusRow[] {
  const { id, number, iommu, bypassIommu, numaNode } = bus;
  return [
    { id, number, iommu, bypassIommu, numaNode, bridge },
    ...bus.functions.flatMap((fn) => fn.buses.flatMap((behind) => flatten(behind, fn.bdf))),
  ];
}
