/** Programs that take QEMU's arguments, as processes: viommu, compiled for the test, and real QEMUs. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openChardev } from "../../src/chardev/index.js";
import { QtestClient } from "../../src/qtest/index.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Bundles the sources of this moment, as the package has them; they find the package's folder above them. `library` is
 * the folder of the rooms' files.
 */
export function compile(): { library: string; command: readonly string[]; remove: () => void } {
  const cache = join(ROOT, "node_modules", ".cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "viommu-"));
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, "bundle.js"), folder], { encoding: "utf8" });
  if (status !== 0) {
    throw new Error(`bundle.js: ${stderr}`);
  }
  const library = join(folder, "lib");
  return { library, command: [process.execPath, join(library, "cli", "main.js")], remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A program under a qtest client. */
export interface Played {
  readonly client: QtestClient;
  readonly process: ChildProcess;
  /** Closes the socket, ends the process by a signal, and tells its exit code. */
  end(): Promise<number | null>;
  readonly out: () => string;
}

/** Starts a program that connects to a client's socket, as libqtest starts QEMU. */
export async function play(command: readonly string[], args: readonly string[]): Promise<Played> {
  const folder = mkdtempSync(join(tmpdir(), "viommu-qtest-"));
  chmodSync(folder, 0o755);
  const path = join(folder, "qtest");
  let come: (client: QtestClient) => void = () => {};
  const connected = new Promise<QtestClient>((resolve) => (come = resolve));
  const listener = await openChardev({ kind: "unix", path, server: true, wait: false }, (peer) => come(new QtestClient(peer)));
  const child = spawn(command[0], [...command.slice(1), "-qtest", `unix:${path}`, "-qtest-log", "/dev/null", "-display", "none", "-audio", "none", ...args, "-accel", "qtest"], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (out += data.toString()));
  const exited = once(child, "close") as Promise<[number | null]>;
  const gone = exited.then(([code]) => Promise.reject(new Error(`ended with ${code}: ${out}`)));
  gone.catch(() => {});
  const client = await Promise.race([connected, gone]);
  return {
    client,
    process: child,
    out: () => out,
    end: async () => {
      client.close();
      listener.close();
      child.kill("SIGTERM");
      const [code] = await exited;
      rmSync(folder, { recursive: true, force: true });
      return code;
    },
  };
}
