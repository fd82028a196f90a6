/**
 * The simulated host: an in-process kernel above simulated hardware. It needs no hardware and no privilege.
 */
import type { Host } from "../../iommufd/index.js";
import { type HostDescription, SimulatedHardware } from "./hardware/index.js";
import { SimulatedKernel } from "./kernel/index.js";

export * from "./hardware/index.js";
export { SimulatedKernel, type SmmuAccount, type TableAccount, type UnclaimedFault, type VtdAccount } from "./kernel/index.js";

/** A simulated host and, for tests and accounts, what lies under its interface. */
export interface SimulatedHost extends Host {
  readonly hardware: SimulatedHardware;
  readonly kernel: SimulatedKernel;
}

/** Builds a host from a description (`loadHostDescription`, `describeHost`). `close` frees all of it. */
export function createSimulatedHost(description: HostDescription): SimulatedHost {
  const hardware = SimulatedHardware.fromDescription(description);
  const kernel = new SimulatedKernel(hardware, description.name, description.kernel);
  return {
    hardware,
    kernel,
    description: kernel.description,
    allocateMemory: (name, bytes) => kernel.allocateMemory(name, bytes),
    freeMemory: (block) => kernel.freeMemory(block),
    openIommufd: () => kernel.openIommufd(),
    openDevice: (address) => kernel.openDevice(address),
    functions: () => kernel.functions(),
    liveObjects: () => kernel.liveObjects(),
    close: () => {
      kernel.close();
      hardware.close();
    },
  };
}
