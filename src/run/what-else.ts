/** What else is wrong with arguments that were refused: with the machine of what could be read of them. */
import { HostError } from "../iommufd/index.js";
import type { MachineArguments } from "../machine/arguments/index.js";
import { Machine } from "../machine/index.js";
import { Log, Refusal, RefusalCollector } from "../support/index.js";
import { argumentsFor, type HostToRun, openHost } from "./open-host.js";

/**
 * Builds the machine of what could be read, and takes it apart again.
 * @param refusal of the arguments
 * @param partial what could be read of them
 * @returns the refusal with what the machine is refused for besides, in the arguments' order
 */
export async function whatElse(refusal: Refusal, partial: MachineArguments, which: HostToRun, descriptors?: ReadonlyMap<string, string>): Promise<Refusal> {
  if (which === "linux") {
    return refusal;
  }
  const all = new RefusalCollector();
  all.attempt(() => {
    throw refusal;
  });
  try {
    const args = argumentsFor(which, partial, descriptors);
    const { host, close } = await openHost(which, args);
    try {
      const machine = new Machine(args, host, new Log());
      machine.shutdown();
    } finally {
      close();
    }
  } catch (error) {
    if (!(error instanceof Refusal) && !(error instanceof HostError)) {
      throw error;
    }
    // A device that is missing lets others have its slot.
    const more = error instanceof Refusal ? error.parts.filter(({ rule, place }) => place !== undefined && (rule !== "slot" || partial.refusedIds === undefined)) : [];
    more.forEach((one) => all.attempt(() => {
      throw one;
    }));
  }
  return Refusal.of(all.parts);
}
