/** What an inspector asks (docs/inspector.md): commands of viommu alone. What answers them is loaded when the first is asked. */
import { type Arguments, optional, type QmpCommand, text } from "../command.js";
import type { Json } from "../json.js";
import type * as State from "../../inspect/state/index.js";
import type { InspectionSource } from "../../inspect/state/index.js";

/** A command that answers a report of the machine as it is now. */
function ask(name: string, parameters: QmpCommand["parameters"], answer: (state: typeof State, source: InspectionSource, args: Arguments) => object): QmpCommand {
  return {
    name,
    parameters,
    run: async (args, { target }) => {
      const [state, { inspectMachine }] = await Promise.all([import("../../inspect/state/index.js"), import("../../inspect/machine/index.js")]);
      return answer(state, inspectMachine(target.machine), args) as Json;
    },
  };
}

export const inspectCommands: readonly QmpCommand[] = [
  ask("x-viommu-map", {}, (_state, source) => source.map()),
  ask("x-viommu-registers", { iommu: text }, ({ registersReport }, source, { iommu }) => registersReport(source, iommu as string)),
  ask("x-viommu-queues", { iommu: optional(text) }, ({ queuesReport }, source, { iommu }) => queuesReport(source, iommu as string | undefined)),
  ask("x-viommu-caches", { iommu: optional(text), function: optional(text) }, ({ cachesReport }, source, { iommu, function: name }) =>
    cachesReport(source, { ...(iommu === undefined ? {} : { iommu: iommu as string }), ...(name === undefined ? {} : { function: name as string }) }),
  ),
];
