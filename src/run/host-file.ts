/** The hosts that a machine can be run on: files that describe one, and those that come with the package. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type HostDescription, loadHostDescription } from "../host/simulated/index.js";
import type { BoardKind, MachineArguments } from "../machine/arguments/index.js";
import { Refusal } from "../support/index.js";
import { packageFolder } from "./package-files.js";
import { readTextFile } from "./text-file.js";

/** The hosts where none is named, by board. */
const DEFAULT_HOSTS: Readonly<Record<BoardKind, string>> = { virt: "grace", q35: "two-socket-spr" };

/** For help texts. */
export const DEFAULT_HOSTS_TEXT = Object.entries(DEFAULT_HOSTS)
  .map(([board, host]) => `${host} for ${board}`)
  .join(", ");

/** The host of a machine for which none is named: one with its architecture's IOMMUs. */
export function defaultHost({ machine }: MachineArguments): string {
  return DEFAULT_HOSTS[machine.board];
}

/** Names of the hosts that come with the package. */
export function shippedHosts(): string[] {
  return readdirSync(join(packageFolder(), "hosts"))
    .filter((file) => file.endsWith(".json"))
    .map((file) => file.slice(0, -".json".length))
    .sort();
}

/**
 * Reads a host: a file, or the name of one that comes with the package.
 * @throws Refusal that names the file and the path in it
 */
export function loadHost(name: string): HostDescription {
  const path = hostPath(name);
  return loadHostDescription(readTextFile(path, "a host file"), path);
}

function hostPath(name: string): string {
  if (/[/\\]|\.json$/.test(name)) {
    return name;
  }
  const shipped = join(packageFolder(), "hosts", `${name}.json`);
  if (existsSync(shipped)) {
    return shipped;
  }
  if (existsSync(name)) {
    return name;
  }
  throw new Refusal(`Could not open '${name}': No such file or directory`, {
    found: `--host ${name}`,
    wouldWork: `a file, or one of ${shippedHosts().join(", ")}`,
  });
}
