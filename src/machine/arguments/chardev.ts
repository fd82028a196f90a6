/** Character devices among the arguments: `-chardev socket,id=...`, and the short forms `unix:PATH,server=on,wait=off` (QEMU's chardev/char.c). */
import type { ChardevSpec } from "../../chardev/index.js";
import { Refusal } from "../../support/index.js";
import { checkId, type JsonValue, located, parseOptionString, splitCommas } from "./option-string.js";
import { parseBool } from "./property.js";

export interface ChardevArgument {
  readonly id: string;
  /** Null: a kind that is recorded and never opened. */
  readonly spec: ChardevSpec | null;
}

const FORMS = "unix:PATH, unix:PATH,server=on,wait=off, tcp:HOST:PORT, stdio, file:PATH, chardev:ID";

/** Options of a socket that say nothing here. */
const IGNORED = new Set(["id", "path", "host", "port", "server", "wait", "nodelay", "delay", "telnet", "websocket", "tn3270", "reconnect", "reconnect-ms", "mux", "logfile", "logappend", "ipv4", "ipv6", "abstract", "tight", "signal", "backend"]);

/** `-chardev BACKEND,id=ID,...`. @throws Refusal */
export function parseChardev(argument: string): ChardevArgument {
  const { values, where } = parseOptionString("-chardev", argument, "backend");
  return located(where, () => {
    const id = checkId(values.get("id"));
    if (id === "") {
      throw new Refusal("chardev: no id specified", { wouldWork: "-chardev socket,id=NAME,path=PATH" });
    }
    const text = (key: string): string | null => (values.has(key) ? String(values.get(key)) : null);
    switch (values.get("backend")) {
      case "socket": {
        const path = text("path");
        const port = text("port");
        if (values.has("fd")) {
          // A socket that a management program has opened for QEMU: nobody has handed it to this process.
          return { id, spec: null };
        }
        if (path === null && port === null) {
          throw new Refusal("chardev: socket: no host or path given", { wouldWork: "path=PATH, or host=HOST,port=PORT" });
        }
        return { id, spec: path !== null ? { kind: "unix", path, ...serving(values) } : { kind: "tcp", host: text("host") ?? "localhost", port: parsePort(port!), ...serving(values) } };
      }
      case "stdio":
        return { id, spec: { kind: "stdio" } };
      case "null":
        return { id, spec: { kind: "null" } };
      case "file": {
        const path = text("path");
        if (path === null) {
          throw new Refusal("chardev: file: no filename given", { wouldWork: "path=PATH" });
        }
        return { id, spec: { kind: "file", path, append: values.has("append") && parseBool("append", String(values.get("append"))) } };
      }
      default:
        return { id, spec: null };
    }
  });
}

/**
 * The argument of -qtest and -qmp: a short form, or `chardev:ID`.
 * @throws Refusal where it is no form that is here
 */
export function parseChardevShort(option: string, argument: string, chardevs: ReadonlyMap<string, ChardevArgument>): ChardevSpec {
  const [first, ...rest] = splitCommas(argument);
  const values = new Map<string, JsonValue>();
  for (const part of rest) {
    const [, key, value] = /^([^=]*)(?:=(.*))?$/s.exec(part)!;
    if (!IGNORED.has(key) && key !== "nowait") {
      throw new Refusal(`Invalid parameter '${key}'`, { found: `${option} ${argument}`, wouldWork: FORMS });
    }
    values.set(key, value ?? "on");
  }
  const named = /^chardev:(.*)$/s.exec(first);
  if (named !== null) {
    const spec = chardevs.get(named[1])?.spec;
    if (spec === undefined || spec === null) {
      throw new Refusal(`Cannot find character device '${named[1]}'`, {
        found: chardevs.size === 0 ? "no -chardev" : `chardevs: ${[...chardevs.keys()].join(", ")}`,
        wouldWork: `-chardev socket,id=${named[1]},path=PATH,server=on,wait=off`,
      });
    }
    return spec;
  }
  const unix = /^unix:(.+)$/s.exec(first);
  if (unix !== null) {
    return { kind: "unix", path: unix[1], ...serving(values) };
  }
  const tcp = /^tcp:(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/s.exec(first);
  if (tcp !== null) {
    const server = serving(values);
    const host = tcp[1] ?? tcp[2];
    return { kind: "tcp", host: host !== "" ? host : server.server ? "0.0.0.0" : "localhost", port: parsePort(tcp[3]), ...server };
  }
  const file = /^file:(.+)$/s.exec(first);
  if (file !== null) {
    return { kind: "file", path: file[1], append: false };
  }
  if (first === "stdio" || first === "null") {
    return { kind: first };
  }
  throw new Refusal(`'${first}' is not a valid char driver name`, { found: `${option} ${argument}`, wouldWork: FORMS });
}

function serving(values: ReadonlyMap<string, JsonValue>): { server: boolean; wait: boolean } {
  const flag = (key: string, otherwise: boolean): boolean => (values.has(key) ? parseBool(key, String(values.get(key))) : otherwise);
  const server = flag("server", false);
  return { server, wait: server && !values.has("nowait") && flag("wait", true) };
}

function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65535) {
    throw new Refusal(`'${text}' is not a valid port`, { wouldWork: "0 to 65535" });
  }
  return Number(text);
}

/** The ID of `chardev:ID`; null: the device is described where it is used. */
export function chardevId(device: string): string | null {
  return /^chardev:(.*)$/s.exec(device)?.[1] ?? null;
}
