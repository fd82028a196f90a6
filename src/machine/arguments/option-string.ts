/**
 * QEMU's option arguments: `value,key=value,...` with `,,` for a comma in a value, and the JSON form
 * `{"key": value, ...}` (QEMU's qapi/qobject-input-visitor and util/keyval.c, util/qemu-option.c).
 */
import { Refusal } from "../../support/index.js";

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export interface OptionString {
  /** The whole argument as the user wrote it, with its option: `-device edu,addr=1`. */
  readonly where: string;
  /** In the order given; a key given twice keeps the last, and `id` the first, as in QEMU. The key=value form gives strings, the JSON form what JSON has. */
  readonly values: ReadonlyMap<string, JsonValue>;
  readonly form: "keys" | "json";
}

/** Longest piece of an argument that messages repeat. */
const SHOWN = 160;

/** `-option argument` for messages, shortened where it is very long. */
export function describeArgument(option: string, argument: string): string {
  const text = argument.length > SHOWN ? `${argument.slice(0, SHOWN)}...` : argument;
  return option === "" ? text : `${option} ${text}`;
}

/** The refusal with the argument that it is about. */
export function locate(refusal: Refusal, where: string): Refusal {
  return Refusal.of(
    refusal.parts.map((one) => {
      const found = one.found === undefined ? where : one.found.includes(where) ? one.found : `${one.found}, in ${where}`;
      return new Refusal(one.words, { ...one, found, where: one.where ?? where });
    }),
  );
}

/** Runs `body`; what it refuses is told with the argument that it is about. */
export function located<T>(where: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw error instanceof Refusal ? locate(error, where) : error;
  }
}

/** Splits at single commas; `,,` is a comma of the value. */
export function splitCommas(text: string): string[] {
  const parts: string[] = [];
  let part = "";
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== ",") {
      part += text[i];
    } else if (text[i + 1] === ",") {
      part += ",";
      i++;
    } else {
      parts.push(part);
      part = "";
    }
  }
  parts.push(part);
  return parts;
}

/**
 * Parses an option's argument.
 * @param impliedKey what a first part without `=` is the value of (`driver` for -device)
 * @throws Refusal in QEMU's words
 */
export function parseOptionString(option: string, argument: string, impliedKey: string | null): OptionString {
  const where = describeArgument(option, argument);
  return located(where, () =>
    argument.trimStart().startsWith("{")
      ? { where, values: parseJsonObject(argument), form: "json" }
      : { where, values: parseKeys(argument, impliedKey), form: "keys" },
  );
}

function parseKeys(argument: string, impliedKey: string | null): Map<string, JsonValue> {
  const values = new Map<string, JsonValue>();
  splitCommas(argument).forEach((part, index, parts) => {
    // A name has no comma: what has one before its `=` is a value.
    const equals = index === 0 && impliedKey !== null && part.slice(0, part.indexOf("=")).includes(",") ? -1 : part.indexOf("=");
    if (equals > 0) {
      const key = part.slice(0, equals);
      // The id is searched for before the options are parsed (util/qemu-option.c, opts_parse_id).
      if (key !== "id" || !values.has(key)) {
        values.set(key, part.slice(equals + 1));
      }
    } else if (equals === 0) {
      throw new Refusal("Invalid parameter ''", { found: `'${part}'`, wouldWork: "name=value" });
    } else if (index === 0 && impliedKey !== null) {
      values.set(impliedKey, part);
    } else if (part === "") {
      // A comma at the end is nothing, as in QEMU.
      if (argument === "" || (index > 0 && index < parts.length - 1)) {
        throw new Refusal("Expected parameter before ','", { found: "nothing between two commas", wouldWork: "name=value, with ,, for a comma in a value" });
      }
    } else {
      // A bare word is a switch: QEMU's short form, deprecated there, still in many command lines.
      values.set(part, "on");
    }
  });
  return values;
}

function parseJsonObject(argument: string): Map<string, JsonValue> {
  let parsed: JsonValue;
  try {
    parsed = JSON.parse(argument) as JsonValue;
  } catch (error) {
    throw new Refusal(`JSON parse error, ${error instanceof Error ? error.message : String(error)}`, {
      wouldWork: `{"driver": "...", "id": "...", ...} in single quotes`,
    });
  }
  const twice = repeatedName(argument);
  if (twice !== null) {
    throw new Refusal("JSON parse error, duplicate key", { found: `"${twice}" twice in one object`, wouldWork: "each name once" });
  }
  return new Map(Object.entries(parsed as Record<string, JsonValue>));
}

/** A name that an object of valid JSON has twice; null: none has. */
function repeatedName(json: string): string | null {
  const objects: Array<Set<string>> = [];
  for (const [token, name] of json.matchAll(/"((?:[^"\\]|\\.)*)"\s*:|"(?:[^"\\]|\\.)*"|[{}]/gs)) {
    if (token === "{") {
      objects.push(new Set());
    } else if (token === "}") {
      objects.pop();
    } else if (name !== undefined) {
      const names = objects.at(-1)!;
      if (names.has(name)) {
        return name;
      }
      names.add(name);
    }
  }
  return null;
}

/**
 * QEMU's rule for ids: letters, digits, '-', '.', '_', starting with a letter.
 * @param words QEMU's for what is none
 */
export function checkId(id: JsonValue | undefined, words = "Parameter 'id' expects an identifier"): string {
  if (id === undefined) {
    return "";
  }
  if (typeof id !== "string") {
    throw new Refusal("Invalid parameter type for 'id', expected: string", { found: JSON.stringify(id) });
  }
  if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) {
    throw new Refusal(words, {
      found: `id=${id}`,
      wouldWork: "letters, digits, '-', '.', '_', starting with a letter",
    });
  }
  return id;
}

/** A value as text, as if it had been said in QEMU's plain syntax. @throws Refusal where it has parts */
export function scalar(key: string, value: JsonValue): string {
  if (typeof value === "string" || typeof value === "number") {
    return String(value);
  }
  if (typeof value === "boolean") {
    return value ? "on" : "off";
  }
  throw new Refusal(`Invalid parameter type for '${key}', expected: string`, { found: JSON.stringify(value) });
}
