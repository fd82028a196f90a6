/** What a command is: a name, the arguments that it takes, what it does. */
import { generic } from "./errors.js";
import type { Json } from "./json.js";
import type { MonitorTarget } from "./target.js";

export type ArgumentType = "string" | "boolean" | "integer" | "any";

export type Arguments = { readonly [name: string]: Json };

export interface Parameter {
  readonly type: ArgumentType;
  readonly optional?: boolean;
}

export interface QmpCommand {
  readonly name: string;
  /** Members of `arguments` by name, in the order in which they are checked. */
  readonly parameters: Readonly<Record<string, Parameter>>;
  /** Further members belong to what the command makes (device_add, object-add). */
  readonly open?: boolean;
  /** @throws QmpError or Refusal */
  run(args: Arguments, context: CommandContext): Json | undefined | Promise<Json | undefined>;
}

export interface CommandContext {
  readonly target: MonitorTarget;
  /** All commands, for query-commands. */
  commands(): Iterable<QmpCommand>;
}

export const text: Parameter = { type: "string" };
export const flag: Parameter = { type: "boolean" };
export const optional = (parameter: Parameter): Parameter => ({ ...parameter, optional: true });

/** A command without arguments. */
export function query(name: string, run: (context: CommandContext) => Json | undefined | Promise<Json | undefined>): QmpCommand {
  return { name, parameters: {}, run: (_args, context) => run(context) };
}

const EXPECTED: Record<ArgumentType, string> = { string: "string", boolean: "boolean", integer: "integer", any: "any" };

/** @throws QmpError in the words of QEMU's input visitor */
export function checkArguments(command: QmpCommand, args: Arguments): void {
  for (const [name, { type, optional: mayMiss }] of Object.entries(command.parameters)) {
    const value = Object.hasOwn(args, name) ? args[name] : undefined;
    if (value === undefined) {
      if (mayMiss !== true) {
        throw generic(`Parameter '${name}' is missing`);
      }
    } else if (!fits(type, value)) {
      throw generic(`Invalid parameter type for '${name}', expected: ${EXPECTED[type]}`);
    }
  }
  if (command.open !== true) {
    const unexpected = Object.keys(args).find((name) => !Object.hasOwn(command.parameters, name));
    if (unexpected !== undefined) {
      throw generic(`Parameter '${unexpected}' is unexpected`);
    }
  }
}

function fits(type: ArgumentType, value: Json): boolean {
  switch (type) {
    case "string":
      return typeof value === "string";
    case "boolean":
      return typeof value === "boolean";
    case "integer":
      return typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value));
    case "any":
      return true;
  }
}
