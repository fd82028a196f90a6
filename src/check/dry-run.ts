/** Building a machine without a guest, for what it refuses: the surest witness of what would not start. */
import { createSimulatedHost, type SimulatedHost } from "../host/simulated/host/index.js";
import type { HostDescription } from "../host/simulated/file/index.js";
import { HostError } from "../iommufd/index.js";
import type { MachineArguments } from "../machine/arguments/index.js";
import { Machine } from "../machine/index.js";
import { type MakeMemory, processMemory } from "../memory/index.js";
import { Log, Refusal } from "../support/index.js";

/** Memory of machines that are built one after the other: it is taken once, and what is in it matters to none of them. */
export class SharedMemory {
  private readonly windows = new Map<string, ArrayBufferLike>();

  readonly make: MakeMemory = (name) => ({
    ...processMemory,
    window: (offset, bytes) => {
      const key = `${name} ${offset} ${bytes}`;
      const window = this.windows.get(key) ?? processMemory.window(offset, bytes);
      this.windows.set(key, window);
      return window;
    },
  });
}

/** What came of it. */
export type DryRun<T> = { readonly refusal: Refusal } | { readonly refusal: null; readonly seen: T };

/**
 * Builds the machine on a simulated host and starts it, looks at it, and takes all apart again.
 * @param look is given the machine, complete and started
 */
export function dryRun<T>(args: MachineArguments, description: HostDescription, memory: SharedMemory, look: (machine: Machine) => T): DryRun<T> {
  let host: SimulatedHost | null = null;
  let machine: Machine | null = null;
  try {
    host = createSimulatedHost(description, { makeMemory: memory.make });
    machine = new Machine(args, host, new Log());
    machine.start();
    return { refusal: null, seen: look(machine) };
  } catch (error) {
    if (error instanceof HostError) {
      return { refusal: new Refusal(error.message, { rule: "host-call-refused", found: "a host call that building the machine needs" }) };
    }
    if (error instanceof Refusal) {
      return { refusal: error };
    }
    throw error;
  } finally {
    machine?.shutdown();
    host?.close();
  }
}
