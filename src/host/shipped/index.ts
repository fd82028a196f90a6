/** The hosts that a machine can be run on: files that describe one, and those that come with the package. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { packageFolder, readTextFile, Refusal } from "../../support/index.js";
import type { HostDescription } from "../simulated/file/index.js";

/** The hosts where none is named, by board. */
export const DEFAULT_HOSTS = { virt: "grace", q35: "two-socket-spr" } as const;

/** The same for help texts. */
export const DEFAULT_HOSTS_TEXT = Object.entries(DEFAULT_HOSTS)
  .map(([board, host]) => `${host} for ${board}`)
  .join(", ");

/** Names of the hosts that come with the package. */
export function shippedHosts(): string[] {
  return readdirSync(join(packageFolder(), "hosts"))
    .filter((file) => file.endsWith(".json"))
    .map((file) => file.slice(0, -".json".length))
    .sort();
}

/**
 * Reads a host: a file, a capture (`.tar`, `.tar.gz`, `.tar.zst`), or the name of one that comes with the package.
 * @throws Refusal that names the file and the path in it
 */
export async function loadHost(name: string): Promise<HostDescription> {
  const read = readHost(name);
  if (read !== null) {
    return read;
  }
  if (isCaptureName(name)) {
    const { describeSnapshot, readCapture } = await import("../described/index.js");
    return describeSnapshot(await readCapture(name)).description;
  }
  const path = hostPath(name);
  const text = readTextFile(path, "a host file");
  // What checks a file costs as much to load as the rest: it is loaded where there is a file to check.
  const { loadHostDescription } = await import("../simulated/file/index.js");
  return loadHostDescription(text, path);
}

/** The JSON Schema of host files (draft 7). */
export async function hostFileSchema(): Promise<object> {
  const { hostFileJsonSchema } = await import("../simulated/file/index.js");
  return hostFileJsonSchema();
}

/**
 * A host of the package that the build has read (bundle.js), beside the bundle that this module is in then; null:
 * it is no such host, or these are the sources.
 */
function readHost(name: string): HostDescription | null {
  if (!/^[\w-]+$/.test(name)) {
    return null;
  }
  const path = fileURLToPath(new URL(`../hosts/${name}.json`, import.meta.url));
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as HostDescription) : null;
}

/** Whether a name is that of a capture (viommu host --capture) rather than of a host file. */
function isCaptureName(name: string): boolean {
  return /\.tar(?:\.gz|\.zst)?$|\.tgz$/.test(name);
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
