#!/usr/bin/env node
/** The command line: one file for each command. Wrong input ends with 2, a run that failed with 1. */
import { Command, CommanderError } from "commander";
import { Refusal } from "../support/index.js";
import { devicesCommand } from "./devices.js";
import { guestCommand } from "./guest.js";
import { hostsCommand } from "./hosts.js";
import { runCommand } from "./run.js";
import { outputIsBroken, StandardStreams, type Streams } from "./streams.js";
import { tablesCommand } from "./tables.js";
import { packageVersion } from "./version.js";

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_WRONG_INPUT = 2;

/**
 * Runs one command line.
 * @param words without the program's name
 * @returns the exit code; never throws for wrong input
 */
export async function main(words: readonly string[], streams: Streams): Promise<number> {
  const program = new Command("viommu")
    .description("Virtual IOMMUs whose translation is done by the host's IOMMU hardware")
    .version(packageVersion(), "--version", "print the version")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => streams.out(text),
      writeErr: (text) => streams.err(text.replace(/^error: /, "viommu: ")),
    })
    .showHelpAfterError("(viommu --help lists the commands; QEMU's arguments stand after --)");
  let code = EXIT_OK;
  const finish = (result: number): void => {
    code = result;
  };
  for (const add of [runCommand, guestCommand, tablesCommand, devicesCommand, hostsCommand]) {
    const command = add(program, streams, finish);
    // Subcommands do not inherit these where they are made on their own.
    command.copyInheritedSettings(program);
  }
  if (words.length === 0) {
    streams.err(program.helpInformation());
    return EXIT_WRONG_INPUT;
  }
  try {
    await program.parseAsync(separate(words), { from: "user" });
    return code;
  } catch (error) {
    return explain(error, streams);
  }
}

/** QEMU's options that may stand before the `--`, among those of `viommu run`, with how many arguments they have. */
const QEMU_OPTIONS: ReadonlyMap<string, number> = new Map([
  ...["qtest", "qtest-log", "qmp", "qmp-pretty", "chardev", "mon", "monitor", "serial", "display", "audio", "accel"].map((name) => [name, 1] as const),
  ...["S", "nodefaults", "no-shutdown"].map((name) => [name, 0] as const),
]);
/** Those that `viommu guest` has itself. */
const GUEST_OPTIONS = new Set(["-qtest", "-qmp"]);

/**
 * Puts the `--` before a pasted command line where it was left out (`viommu run qemu-system-aarch64 -M virt`),
 * and options of QEMU that stand before it to the others.
 */
function separate(words: readonly string[]): string[] {
  const found = words.findIndex((word) => word === "--" || word === "-M" || word === "-machine" || /(?:^|\/)qemu-(?:system-[^/]*|kvm)$/.test(word));
  const at = found < 0 ? words.length : found;
  const own: string[] = [];
  const moved: string[] = [];
  for (let i = 0; i < at; i++) {
    // QEMU takes its options with one dash and with two.
    const operands = words[0] === "run" && words[i].startsWith("-") ? QEMU_OPTIONS.get(words[i].replace(/^--?/, "")) : undefined;
    if (operands !== undefined) {
      moved.push(...words.slice(i, Math.min(i + 1 + operands, at)));
      i += operands;
    } else {
      own.push(words[0] === "guest" && GUEST_OPTIONS.has(words[i]) ? `-${words[i]}` : words[i]);
    }
  }
  const rest = words[at] === "--" ? words.slice(at + 1) : words.slice(at);
  return found < 0 && moved.length === 0 ? own : [...own, "--", ...rest, ...moved];
}

function explain(error: unknown, streams: Streams): number {
  if (error instanceof CommanderError) {
    return error.exitCode === 0 ? EXIT_OK : EXIT_WRONG_INPUT;
  }
  if (error instanceof Refusal) {
    streams.err(`viommu: ${error.message}\n`);
    return EXIT_WRONG_INPUT;
  }
  if (outputIsBroken(error)) {
    return EXIT_FAILED;
  }
  // A fault of viommu itself: say what, and where with VIOMMU_DEBUG.
  const text = error instanceof Error ? (process.env.VIOMMU_DEBUG === undefined ? `${error.name}: ${error.message}` : (error.stack ?? error.message)) : String(error);
  streams.err(`viommu: this is a fault of viommu: ${text}\n`);
  return EXIT_FAILED;
}

/** True where this module is the program and not imported. */
async function isProgram(): Promise<boolean> {
  const { realpathSync } = await import("node:fs");
  const { fileURLToPath } = await import("node:url");
  const [, script] = process.argv;
  try {
    return script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url);
  } catch {
    return false;
  }
}

if (await isProgram()) {
  process.exitCode = await main(process.argv.slice(2), new StandardStreams());
}
