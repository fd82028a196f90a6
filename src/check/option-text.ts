/** The properties in an option's argument, `a=1,b=2` or JSON: where each stands, and how one is set, taken out, renamed. */

export interface PropertyText {
  readonly name: string;
  /** Of all that is said of it, without commas. */
  readonly start: number;
  readonly end: number;
  readonly nameStart: number;
  readonly nameEnd: number;
  /** Of the value alone; both the end where the property is a bare word. */
  readonly valueStart: number;
}

/** A change of an argument: what is between the offsets is replaced. */
export interface Splice {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export type PropertyForm = "keys" | "json";

export function formOf(argument: string): PropertyForm {
  return argument.trimStart().startsWith("{") ? "json" : "keys";
}

/** In their order. @param implied what a first part without `=` is the value of; it has that name */
export function propertiesIn(argument: string, implied: string | null): PropertyText[] {
  return formOf(argument) === "json" ? jsonProperties(argument) : keyProperties(argument, implied);
}

function keyProperties(argument: string, implied: string | null): PropertyText[] {
  const properties: PropertyText[] = [];
  let start = 0;
  for (let at = 0; at <= argument.length; at++) {
    if (at < argument.length && argument[at] !== ",") {
      continue;
    }
    if (argument[at] === "," && argument[at + 1] === ",") {
      at++;
      continue;
    }
    const part = argument.slice(start, at);
    const equals = part.indexOf("=");
    if (start === 0 && implied !== null && (equals < 0 || part.slice(0, equals).includes(","))) {
      properties.push({ name: implied, start, end: at, nameStart: start, nameEnd: start, valueStart: start });
    } else if (part !== "") {
      const nameEnd = start + (equals < 0 ? part.length : equals);
      properties.push({ name: argument.slice(start, nameEnd), start, end: at, nameStart: start, nameEnd, valueStart: equals < 0 ? at : nameEnd + 1 });
    }
    start = at + 1;
  }
  return properties;
}

/** Members of the outermost object. What is no JSON ends the list. */
function jsonProperties(argument: string): PropertyText[] {
  const properties: PropertyText[] = [];
  const string = /"(?:[^"\\]|\\.)*"/y;
  const blank = /[\s,]*/y;
  let at = argument.indexOf("{") + 1;
  const skip = (rule: RegExp): string => {
    rule.lastIndex = at;
    const [found] = rule.exec(argument) ?? [""];
    at += found.length;
    return found;
  };
  for (;;) {
    skip(blank);
    const start = at;
    const key = skip(string);
    if (key === "") {
      return properties;
    }
    const nameEnd = at;
    skip(/\s*:\s*/y);
    const valueStart = at;
    for (let depth = 0; at < argument.length; at++) {
      if (argument[at] === '"') {
        at += Math.max(skipString(argument, at) - 1, 0);
      } else if ("{[".includes(argument[at])) {
        depth++;
      } else if (depth === 0 && ",}".includes(argument[at])) {
        break;
      } else if ("}]".includes(argument[at])) {
        depth--;
      }
    }
    const end = valueStart + argument.slice(valueStart, at).trimEnd().length;
    properties.push({ name: unquote(key), start, end, nameStart: start, nameEnd, valueStart });
  }
}

function skipString(text: string, at: number): number {
  const rule = /"(?:[^"\\]|\\.)*"/y;
  rule.lastIndex = at;
  return rule.exec(text)?.[0].length ?? 1;
}

function unquote(json: string): string {
  try {
    return String(JSON.parse(json));
  } catch {
    return json.slice(1, -1);
  }
}

/** The property that counts: the last of its name. */
export function findProperty(argument: string, implied: string | null, name: string): PropertyText | undefined {
  return propertiesIn(argument, implied).findLast((one) => one.name === name);
}

/** @param json the value as JSON has it */
export function setIn(argument: string, implied: string | null, name: string, value: string, json: string): Splice {
  const found = findProperty(argument, implied, name);
  const isJson = formOf(argument) === "json";
  if (found !== undefined) {
    return found.nameEnd === found.valueStart && !isJson && found.nameStart !== found.nameEnd
      ? { start: found.end, end: found.end, text: `=${value}` }
      : { start: found.valueStart, end: found.end, text: isJson ? json : value };
  }
  if (isJson) {
    const last = jsonProperties(argument).at(-1);
    const at = last?.end ?? argument.indexOf("{") + 1;
    return { start: at, end: at, text: `${last === undefined ? "" : ","}${JSON.stringify(name)}:${json}` };
  }
  const end = argument.length;
  return { start: end, end, text: `${argument === "" || argument.endsWith(",") ? "" : ","}${name}=${value}` };
}

/** Takes out every mention of it, and a comma with each. */
export function unsetIn(argument: string, implied: string | null, name: string): Splice[] {
  const all = propertiesIn(argument, implied);
  return all.flatMap((one, index) => {
    if (one.name !== name) {
      return [];
    }
    const before = all.slice(0, index).findLast((other) => other.name !== name);
    const after = all[index + 1];
    if (before !== undefined) {
      return [{ start: all[index - 1].end, end: one.end, text: "" }];
    }
    return [{ start: one.start, end: after?.start ?? one.end, text: "" }];
  });
}

export function renameIn(argument: string, implied: string | null, name: string, to: string): Splice[] {
  const isJson = formOf(argument) === "json";
  return propertiesIn(argument, implied)
    .filter((one) => one.name === name)
    .map((one) => ({ start: one.nameStart, end: one.nameEnd, text: isJson ? JSON.stringify(to) : to }));
}
