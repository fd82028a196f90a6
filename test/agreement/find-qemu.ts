/** Which QEMUs there are to agree with. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { QemuVersion } from "./driver.js";

export interface QemuProgram {
  /** "QEMU 11.1", for messages and test names. */
  readonly name: string;
  readonly version: QemuVersion;
  readonly command: readonly string[];
  readonly architecture: Architecture;
  /** Whether it has `-accel qtest`, which distributions leave out of some versions. */
  readonly qtestAccelerator: boolean;
}

export type Architecture = "aarch64" | "x86_64";

export interface QemuSearch {
  readonly programs: readonly QemuProgram[];
  /** What was looked for and not found, in words. */
  readonly missing: readonly string[];
  /** What a variable names and does not run, in words. */
  readonly wrong: readonly string[];
}

const VARIABLE: Record<Architecture, string> = { aarch64: "QEMU_AARCH64", x86_64: "QEMU_X86_64" };

/**
 * The QEMUs for an architecture: the one that QEMU_AARCH64 or QEMU_X86_64 names (else the one on PATH), and
 * that of the chroot VIOMMU_QEMU_CHROOT, whose `run` starts a program in it. Each version once.
 */
export function findQemus(architecture: Architecture): QemuSearch {
  const program = `qemu-system-${architecture}`;
  const named = process.env[VARIABLE[architecture]];
  const chroot = process.env.VIOMMU_QEMU_CHROOT;
  const candidates: Array<{ command: string[]; by: string | null }> = [
    named === undefined || named === "" ? { command: [program], by: null } : { command: named.split(" "), by: VARIABLE[architecture] },
  ];
  if (chroot !== undefined && chroot !== "") {
    candidates.push({ command: [join(chroot, "run"), program], by: "VIOMMU_QEMU_CHROOT" });
  }
  const programs: QemuProgram[] = [];
  const missing: string[] = [];
  const wrong: string[] = [];
  for (const { command, by } of candidates) {
    const version = versionOf(command);
    if (version === null) {
      if (by === null) {
        missing.push(`${program} is not on PATH, and ${VARIABLE[architecture]} is not set`);
      } else {
        wrong.push(`${by}: ${command.join(" ")} does not run`);
      }
    } else if (!programs.some((other) => String(other.version) === String(version))) {
      programs.push({ name: `QEMU ${version.join(".")}`, version, command, architecture, qtestAccelerator: hasQtest(command) });
    }
  }
  if (chroot === undefined || chroot === "") {
    missing.push("VIOMMU_QEMU_CHROOT is not set");
  }
  return { programs, missing, wrong };
}

function versionOf(command: readonly string[]): QemuVersion | null {
  if (command[0].includes("/") && !existsSync(command[0])) {
    return null;
  }
  const found = /version (\d+)\.(\d+)/.exec(run(command, "--version"));
  return found === null ? null : [Number(found[1]), Number(found[2])];
}

/** `-accel help` leaves qtest out, so it is tried. */
function hasQtest(command: readonly string[]): boolean {
  const words = ["-accel", "qtest", "-machine", "none", "-display", "none", "-nodefaults", "-monitor", "stdio"];
  return spawnSync(command[0], [...command.slice(1), ...words], { input: "quit\n", stdio: ["pipe", "ignore", "ignore"] }).status === 0;
}

/** What it prints; empty where it cannot be run. */
function run(command: readonly string[], ...args: string[]): string {
  return spawnSync(command[0], [...command.slice(1), ...args], { encoding: "utf8" }).stdout ?? "";
}

export function atLeast(version: QemuVersion, major: number, minor: number): boolean {
  return version[0] > major || (version[0] === major && version[1] >= minor);
}
