#!/usr/bin/env node
/** The command line: one file for each command. Wrong input ends with 2, a run that failed with 1. */
import { Command, CommanderError } from "commander";
import { optionRules } from "../machine/arguments/index.js";
import { wrap } from "../run/index.js";
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
    const command = program.commands.find((one) => one.name() === words[0]);
    const ownOptions = new Set(["-h", "--help", ...(command?.options ?? []).flatMap(({ long, short }) => [long, short]).filter((name) => typeof name === "string")]);
    await program.parseAsync(separate(words, ownOptions), { from: "user" });
    return code;
  } catch (error) {
    return explain(error, streams);
  }
}

/** Those that `viommu guest` has itself. */
const GUEST_OPTIONS = new Set(["-qtest", "-qmp"]);
const isProgramName = (word: string | undefined): boolean => word !== undefined && /(?:^|\/)qemu-(?:system-[^/]*|kvm)$/.test(word);

/**
 * Puts the `--` before a pasted command line where it was left out (`viommu run qemu-system-aarch64 -M virt`),
 * and options of QEMU that stand before it behind it, before the others.
 * @param ownOptions the command's own, with their dashes
 */
function separate(words: readonly string[], ownOptions: ReadonlySet<string>): string[] {
  const takesMachine = words[0] === "run" || words[0] === "tables";
  const own: string[] = [];
  const moved: string[] = [];
  let at = 0;
  for (; at < words.length && words[at] !== "--" && !isProgramName(words[at]); at++) {
    const word = words[at];
    // QEMU takes its options with one dash and with two; what is written as one of ours is ours.
    const rule = takesMachine && word.startsWith("-") && !ownOptions.has(word) ? optionRules.get(word.replace(/^--?/, "")) : undefined;
    if (rule !== undefined) {
      moved.push(...words.slice(at, rule.argument ? at + 2 : at + 1));
      at += rule.argument ? 1 : 0;
    } else {
      own.push(words[0] === "guest" && GUEST_OPTIONS.has(word) ? `-${word}` : word);
    }
  }
  const rest = words.slice(words[at] === "--" ? at + 1 : at);
  if (takesMachine) {
    refuseOwn(words[0], rest, ownOptions);
  }
  if (at >= words.length && moved.length === 0) {
    return own;
  }
  return [...own, "--", ...(isProgramName(rest[0]) ? [rest[0], ...moved, ...rest.slice(1)] : [...moved, ...rest])];
}

/** An option of the command among QEMU's, which has none of that name. @throws Refusal */
function refuseOwn(command: string, words: readonly string[], ownOptions: ReadonlySet<string>): void {
  for (let i = 0; i < words.length; i++) {
    const rule = optionRules.get(words[i].replace(/^--?/, ""));
    if (words[i].startsWith("-") && rule !== undefined) {
      i += rule.argument ? 1 : 0;
    } else if (ownOptions.has(words[i])) {
      throw new Refusal(`${words[i]}: invalid option`, { found: `an option of viommu ${command} among QEMU's`, wouldWork: `viommu ${command} ${words[i]} ... -- and QEMU's arguments` });
    }
  }
}

/** The words stay in one line, for they are searched for; what is found and what would work keep to 80 columns. */
function inLines(message: string): string {
  const [words, ...more] = message.split("\n");
  return [words, ...more.flatMap((line) => {
    const indent = line.length - line.trimStart().length;
    return wrap(line, 80 - indent).map((part, index) => `${" ".repeat(index === 0 ? indent : indent + 2)}${part}`);
  })].join("\n");
}

function explain(error: unknown, streams: Streams): number {
  if (error instanceof CommanderError) {
    return error.exitCode === 0 ? EXIT_OK : EXIT_WRONG_INPUT;
  }
  if (error instanceof Refusal) {
    streams.err(`viommu: ${inLines(error.message)}\n`);
    return EXIT_WRONG_INPUT;
  }
  if (outputIsBroken(error)) {
    return EXIT_FAILED;
  }
  // A fault of viommu itself: say what, and where with VIOMMU_DEBUG.
  const text =
    error instanceof Error ? (process.env.VIOMMU_DEBUG === undefined ? `${error.name}: ${error.message} (VIOMMU_DEBUG=1 in the environment shows where)` : (error.stack ?? error.message)) : String(error);
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
