/** What an inspector asks (docs/inspector.md): commands of viommu alone. What answers them is loaded when the first is asked. */
import { type Arguments, flag, optional, type Parameter, type QmpCommand, text } from "../command.js";
import { generic } from "../errors.js";
import type { Json } from "../json.js";
import type { WalkQuestion } from "../../inspect/report/index.js";
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

const integer: Parameter = { type: "integer" };
const ACCESSES = ["read", "write", "execute"] as const;
const KINDS = ["untranslated", "ats-request", "ats-translated"] as const;

/** What is left out is a read without PASID, untranslated and unprivileged. */
function questionOf({ function: name, pasid, iova, access, privileged, kind }: Arguments): WalkQuestion {
  return {
    function: name as string,
    pasid: pasid === undefined ? null : Number(pasid),
    iova: iova as string,
    access: oneOf("access", access, ACCESSES),
    privileged: privileged === true,
    kind: oneOf("kind", kind, KINDS),
  };
}

/** The value of an enumeration, the first where it is left out. @throws QmpError in the words of QEMU's input visitor, and what it accepts */
function oneOf<T extends string>(parameter: string, value: Json | undefined, values: readonly T[]): T {
  const found = value === undefined ? values[0] : values.find((one) => one === value);
  if (found === undefined) {
    throw generic(`Parameter '${parameter}' does not accept value '${String(value)}'; it accepts ${values.join(", ")}`);
  }
  return found;
}

export const inspectCommands: readonly QmpCommand[] = [
  ask("x-viommu-map", {}, (_state, source) => source.map()),
  ask("x-viommu-registers", { iommu: text }, ({ registersReport }, source, { iommu }) => registersReport(source, iommu as string)),
  ask("x-viommu-walk", { function: text, pasid: optional(integer), iova: text, access: optional(text), privileged: optional(flag), kind: optional(text) }, ({ walkReport }, source, args) => walkReport(source, questionOf(args))),
  ask("x-viommu-queues", { iommu: optional(text) }, ({ queuesReport }, source, { iommu }) => queuesReport(source, iommu as string | undefined)),
  ask("x-viommu-caches", { iommu: optional(text), function: optional(text) }, ({ cachesReport }, source, { iommu, function: name }) =>
    cachesReport(source, { ...(iommu === undefined ? {} : { iommu: iommu as string }), ...(name === undefined ? {} : { function: name as string }) }),
  ),
];
