/** What an inspector asks (docs/inspector.md): commands of viommu alone. What answers them is loaded when the first is asked. */
import { type CommandContext, query, type QmpCommand } from "../command.js";
import type { Json } from "../json.js";
import type { InspectionSource } from "../../inspect/state/index.js";

async function sourceOf({ target }: CommandContext): Promise<InspectionSource> {
  const { inspectMachine } = await import("../../inspect/machine/index.js");
  return inspectMachine(target.machine);
}

/** A report: an object of names, numbers, texts and lists of them. */
function asJson(report: object): Json {
  return report as Json;
}

export const inspectCommands: readonly QmpCommand[] = [query("x-viommu-map", async (context) => asJson((await sourceOf(context)).map()))];
