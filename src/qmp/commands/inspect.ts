/** What an inspector asks (docs/inspector.md): commands of viommu alone. What answers them is loaded when the first is asked. */
import { flag, optional, type Parameter, type QmpCommand, text } from "../command.js";
import type { Json } from "../json.js";

/** A command that answers a report of the machine as it is now. */
function ask(name: string, parameters: QmpCommand["parameters"]): QmpCommand {
  return {
    name,
    parameters,
    run: async (args, { target }) => {
      const [{ answer }, { inspectMachine }] = await Promise.all([import("../../inspect/state/index.js"), import("../../inspect/machine/index.js")]);
      return answer(inspectMachine(target.machine), { execute: name, arguments: args }) as Json;
    },
  };
}

const integer: Parameter = { type: "integer" };

export const inspectCommands: readonly QmpCommand[] = [
  ask("x-viommu-map", {}),
  ask("x-viommu-registers", { iommu: text }),
  ask("x-viommu-walk", { function: text, pasid: optional(integer), iova: text, access: optional(text), privileged: optional(flag), kind: optional(text) }),
  ask("x-viommu-queues", { iommu: optional(text) }),
  ask("x-viommu-caches", { iommu: optional(text), function: optional(text) }),
];
