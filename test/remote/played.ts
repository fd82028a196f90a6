/** `viommu guest` on a machine in another process, or in this one. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Result, viommu } from "../cli/streams.js";

export interface GuestAccount {
  readonly ok: boolean;
  readonly failure: string | null;
  readonly guest: {
    readonly name: string;
    readonly dmaChecked: number;
    readonly steps: ReadonlyArray<{ readonly name: string; readonly ok: boolean; readonly skipped: string | null; readonly detail: string }>;
  } | null;
  readonly events: ReadonlyArray<{ readonly iommu: string; readonly name: string }>;
}

export interface Played {
  /** Null: the guest had nothing to say. */
  readonly account: GuestAccount | null;
  readonly result: Result;
  /** What the machine's program said. */
  readonly said: string;
}

/** A machine: started with options that make it connect, ended when the guest has. */
export type Starter = (connect: readonly string[], idleFirmware: string) => { end(): Promise<string> };

/** Runs the guest with `options` on the machine. */
export async function playGuest(options: readonly string[], start: Starter, sides: { qmp: boolean } = { qmp: true }): Promise<Played> {
  const folder = mkdtempSync(join(tmpdir(), "viommu-guest-"));
  chmodSync(folder, 0o755);
  const [qtest, qmp, idle] = ["qtest", "qmp", "idle.bin"].map((name) => join(folder, name));
  try {
    const monitor = sides.qmp ? ["--qmp", `unix:${qmp}`] : [];
    const running = viommu("guest", "--json", "--qtest", `unix:${qtest}`, ...monitor, "--idle-firmware", idle, ...options);
    while (!existsSync(sides.qmp ? qmp : qtest)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const machine = start(["-qtest", `unix:${qtest}`, "-qtest-log", "none", ...(sides.qmp ? ["-qmp", `unix:${qmp}`] : [])], idle);
    const result = await running;
    return { account: result.out === "" ? null : (JSON.parse(result.out) as GuestAccount), result, said: await machine.end() };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A program that takes QEMU's options. */
export function program(command: readonly string[], args: readonly string[]): Starter {
  return (connect) => {
    const child = spawn(command[0], [...command.slice(1), "-display", "none", "-nodefaults", ...args, ...connect], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (data: Buffer) => (said += data.toString()));
    const gone = once(child, "close");
    return {
      end: async () => {
        child.kill();
        await gone;
        return said;
      },
    };
  };
}

/** `viommu run` in this process. */
export function ourMachine(args: readonly string[]): Starter {
  return (connect) => {
    const running = viommu("run", "--", "-nodefaults", "-accel", "qtest", ...args, ...connect);
    return {
      end: async () => {
        const { code, out, err } = await running;
        return `${code}\n${out}${err}`;
      },
    };
  };
}
