/** The questions that a monitor, a recording and a page answer alike. */
import { Refusal } from "../../support/index.js";
import { cachesReport } from "./caches.js";
import { queuesReport } from "./queues.js";
import { registersReport } from "./registers.js";
import type { InspectionSource } from "./source.js";
import { walkReport } from "./walk.js";

type Given = Readonly<Record<string, unknown>>;

/** `x-viommu-*` with its arguments, as QMP has them. */
export interface Question {
  readonly execute: string;
  readonly arguments?: Given;
}

const ANSWERS: Readonly<Record<string, (source: InspectionSource, given: Given) => object>> = {
  "x-viommu-map": (source) => source.map(),
  "x-viommu-registers": (source, given) => registersReport(source, text(given, "iommu")),
  "x-viommu-walk": (source, given) =>
    walkReport(source, {
      function: text(given, "function"),
      pasid: optional(given, "pasid", number) ?? null,
      iova: text(given, "iova"),
      access: choice(given, "access", ["read", "write", "execute"]),
      privileged: optional(given, "privileged", flag) ?? false,
      kind: choice(given, "kind", ["untranslated", "ats-request", "ats-translated"]),
    }),
  "x-viommu-queues": (source, given) => queuesReport(source, optional(given, "iommu", text)),
  "x-viommu-caches": (source, given) => {
    const [iommu, name] = [optional(given, "iommu", text), optional(given, "function", text)];
    return cachesReport(source, { ...(iommu === undefined ? {} : { iommu }), ...(name === undefined ? {} : { function: name }) });
  },
};

/** @throws Refusal where there is no such question, or its arguments are none */
export function answer(source: InspectionSource, { execute, arguments: given = {} }: Question): object {
  if (!Object.hasOwn(ANSWERS, execute)) {
    throw new Refusal(`The command ${execute} has not been found`, { found: execute, wouldWork: Object.keys(ANSWERS).join(", ") });
  }
  return ANSWERS[execute](source, given);
}

function optional<T>(given: Given, name: string, read: (given: Given, name: string) => T): T | undefined {
  return given[name] === undefined ? undefined : read(given, name);
}

function text(given: Given, name: string): string {
  const value = Object.hasOwn(given, name) ? given[name] : undefined;
  if (typeof value !== "string") {
    throw wrong(name, value, "string");
  }
  return value;
}

function flag(given: Given, name: string): boolean {
  const value = given[name];
  if (typeof value !== "boolean") {
    throw wrong(name, value, "boolean");
  }
  return value;
}

function number(given: Given, name: string): number | null {
  const value = given[name];
  if (value === null) {
    return null;
  }
  if (typeof value !== "bigint" && !(typeof value === "number" && Number.isInteger(value))) {
    throw wrong(name, value, "integer");
  }
  return Number(value);
}

/** The first where nothing is said. */
function choice<T extends string>(given: Given, name: string, choices: readonly T[]): T {
  const value = optional(given, name, text) ?? choices[0];
  const found = choices.find((one) => one === value);
  if (found === undefined) {
    throw new Refusal(`Parameter '${name}' does not accept value '${value}'; it accepts ${choices.join(", ")}`);
  }
  return found;
}

/** In the words of QEMU's input visitor. */
function wrong(name: string, value: unknown, expected: string): Refusal {
  return new Refusal(value === undefined ? `Parameter '${name}' is missing` : `Invalid parameter type for '${name}', expected: ${expected}`);
}
