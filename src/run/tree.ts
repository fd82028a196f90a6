/** The machine as a tree of text. */
import { drawTree, indented, type TreeNode } from "../support/index.js";
import type { BusReport, FunctionReport, RunReport } from "./report/index.js";

/** Lines of at most `width` columns; what does not fit goes to lines of its own below. */
export function machineTree(machine: RunReport["machine"], width = 80): string[] {
  const [root] = machine.buses;
  return root === undefined ? [] : [...indented(busTitle(machine, root), width), ...drawTree(behind(machine, root), width)];
}

function behind(machine: RunReport["machine"], bus: BusReport): TreeNode[] {
  return machine.functions
    .filter((fn) => fn.bus === bus.id)
    .map((fn) => ({
      title: functionTitle(machine, fn),
      sections: machine.buses.filter((one) => fn.secondaryBuses.includes(one.id)).map((below) => ({ title: busTitle(machine, below), children: behind(machine, below) })),
    }));
}

function busTitle(machine: RunReport["machine"], bus: BusReport): string {
  const number = `bus ${bus.number.toString(16).padStart(2, "0")}`;
  const numa = bus.numaNode === null ? "" : `, NUMA node ${bus.numaNode}`;
  if (bus.bypassIommu) {
    return `${bus.id} (${number}${numa}) bypasses the IOMMU`;
  }
  if (bus.iommu === null) {
    return `${bus.id} (${number}${numa})`;
  }
  const iommu = machine.iommus.find((one) => one.id === bus.iommu);
  const served = iommu?.accel === true ? ` accel, ${iommu.hostIommu === null ? "no function yet" : `on host ${iommu.hostIommu}`}` : "";
  return `${bus.id} (${number}${numa}) behind ${bus.iommu}${served}`;
}

function functionTitle(machine: RunReport["machine"], fn: FunctionReport): string {
  const label = machine.gicVersion === null ? "source id" : "StreamID";
  const name = fn.id === "" ? fn.model : `${fn.model} ${fn.id}`;
  const host = fn.host === null ? "" : ` = host ${fn.host}`;
  const stream = fn.streamId === null ? "" : ` ${label} 0x${fn.streamId.toString(16).padStart(4, "0")}`;
  const space = fn.secondaryBuses.length > 0 ? "" : fn.modelled ? ` -> ${fn.addressSpace}` : " (placed, not modelled)";
  return `${fn.bdf} ${name}${host}${stream}${space}`;
}
