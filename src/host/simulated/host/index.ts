/** A simulated host: a kernel on hardware. */
import type { Host } from "../../../iommufd/index.js";
import type { MakeMemory } from "../../../memory/index.js";
import { describedFacts } from "./facts.js";
import { inspectHardware } from "./inspector.js";
import type { HostDescription } from "../file/index.js";
import { SimulatedHardware } from "../hardware/index.js";
import { SimulatedKernel } from "../kernel/index.js";

/** A simulated host and, for tests and accounts, what lies under its interface. */
export interface SimulatedHost extends Host {
  readonly hardware: SimulatedHardware;
  readonly kernel: SimulatedKernel;
  /** Objects that live in this host's kernel on behalf of this process; empty after everything is closed. */
  liveObjects(): Array<{ id: number; type: string }>;
}

export interface SimulatedHostOptions {
  /** Runs listeners of events and queues in a turn of their own; default queueMicrotask. */
  readonly later?: (task: () => void) => void;
  /** Where the memory comes from that the host's process is given (`allocateMemory`); default zeroed memory of this process. */
  readonly makeMemory?: MakeMemory;
}

/** Builds a host from a description (`loadHostDescription`, `describeHost`). `close` frees all of it. */
export function createSimulatedHost(description: HostDescription, options: SimulatedHostOptions = {}): SimulatedHost {
  const hardware = SimulatedHardware.fromDescription(description, options.makeMemory);
  const kernel = new SimulatedKernel(hardware, description.name, { version: description.kernel, config: description.kernelConfig }, options.later);
  return {
    hardware,
    kernel,
    description: kernel.description,
    allocateMemory: (name, bytes) => kernel.allocateMemory(name, bytes),
    freeMemory: (block) => kernel.freeMemory(block),
    makeEvent: () => kernel.makeEvent(),
    openIommufd: (given) => kernel.openIommufd(given),
    openDevice: (device) => kernel.openDevice(device),
    vtdFaults: kernel.vtdFaults,
    rawIoctl: kernel.rawIoctl,
    functions: () => kernel.functions(),
    facts: describedFacts(hardware, kernel),
    inspector: inspectHardware(hardware),
    liveObjects: () => kernel.liveObjects(),
    close: () => {
      kernel.close();
      hardware.close();
    },
  };
}
