/** query-qmp-schema: the commands and events that there are, with their arguments (QEMU's qapi/introspect.json). What commands return is told as any value. */
import type { ArgumentType, QmpCommand } from "./command.js";
import type { Json } from "./json.js";

const BUILTINS: Record<ArgumentType, { name: string; "json-type": string }> = {
  string: { name: "str", "json-type": "string" },
  boolean: { name: "bool", "json-type": "boolean" },
  integer: { name: "int", "json-type": "int" },
  any: { name: "any", "json-type": "value" },
};

const EVENTS: Readonly<Record<string, ReadonlyArray<readonly [name: string, type: ArgumentType, optional?: boolean]>>> = {
  STOP: [],
  RESUME: [],
  POWERDOWN: [],
  GUEST_PANICKED: [["action", "string"], ["info", "any", true]],
  GUEST_CRASHLOADED: [["action", "string"], ["info", "any", true]],
  GUEST_PVSHUTDOWN: [],
  RESET: [["guest", "boolean"], ["reason", "string"]],
  SHUTDOWN: [["guest", "boolean"], ["reason", "string"]],
  DEVICE_DELETED: [["device", "string", true], ["path", "string"]],
};

type Member = readonly [name: string, type: ArgumentType, optional?: boolean];

export function describeSchema(commands: Iterable<QmpCommand>): Json {
  const types: Json[] = Object.values(BUILTINS).map((builtin) => ({ ...builtin, "meta-type": "builtin" }));
  let next = 0;
  const object = (members: readonly Member[]): string => {
    const name = String(next++);
    types.push({
      name,
      "meta-type": "object",
      members: members.map(([member, type, optional]) => ({ name: member, type: BUILTINS[type].name, ...(optional === true ? { default: null } : {}) })),
    });
    return name;
  };
  const empty = object([]);
  const argument = (members: readonly Member[]): string => (members.length === 0 ? empty : object(members));
  const entries: Json[] = [...commands].map(({ name, parameters }) => ({
    name,
    "meta-type": "command",
    "arg-type": argument(Object.entries(parameters).map(([member, { type, optional }]) => [member, type, optional])),
    "ret-type": "any",
  }));
  const events: Json[] = Object.entries(EVENTS).map(([name, members]) => ({ name, "meta-type": "event", "arg-type": argument(members) }));
  return [...entries, ...events, ...types];
}
