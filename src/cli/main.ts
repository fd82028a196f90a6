#!/usr/bin/env node
/** The command line: one file for each command. Wrong input ends with 2, a run that failed with 1. */
import { Command, CommanderError } from "commander";
import { packageVersion, Refusal, wrap } from "../support/index.js";
import { outputIsBroken, StandardStreams, type Streams } from "./streams.js";

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_WRONG_INPUT = 2;

/** Adds a command's options and what it does. */
type AddTo = (command: Command, streams: Streams, finish: (code: number) => void) => void;

/** It tells of all the others. */
const COMPLETION = "completion";

/** The commands; a command's code is loaded when it is named. */
const COMMANDS: ReadonlyArray<{ readonly name: string; readonly description: string; readonly load: () => Promise<AddTo> }> = [
  { name: "run", description: "run a machine, given by QEMU's arguments after -- or in a file", load: async () => (await import("./run.js")).addTo },
  { name: "inspect", description: "show a machine, a recording or a host in a browser: who is behind what, walks, caches, queues, what happened", load: async () => (await import("./inspect.js")).addTo },
  { name: "plan", description: "plan a machine for functions of a host: which behind which IOMMU, and why", load: async () => (await import("./plan.js")).addTo },
  { name: "check", description: "tell all that would fail or be slow of a command line, with places and cures", load: async () => (await import("./check.js")).addTo },
  { name: "guest", description: "run a guest on a real QEMU (or another viommu), over its qtest socket", load: async () => (await import("./guest.js")).addTo },
  { name: "tables", description: "write a machine's device tree and ACPI tables to files", load: async () => (await import("./tables.js")).addTo },
  { name: "devices", description: "list the devices that -device knows", load: async () => (await import("./devices.js")).addTo },
  { name: "device", description: "list a device's properties", load: async () => (await import("./devices.js")).addDeviceTo },
  { name: "host", description: "describe this machine's IOMMUs and PCI functions, capture it, or tell what is wrong with it", load: async () => (await import("./host.js")).addTo },
  { name: "hosts", description: "list the simulated hosts, or what is on one", load: async () => (await import("./hosts.js")).addTo },
  { name: "conformance", description: "ask a host's kernel all there is to ask, and compare its answers with a record", load: async () => (await import("./conformance.js")).addTo },
  { name: COMPLETION, description: "print a script by which bash, zsh or fish completes viommu's words", load: async () => (await import("./completion.js")).addTo },
];

/** Commands among whose words options of QEMU may be. */
const QEMU_WORDS: ReadonlySet<string> = new Set(["run", "inspect", "tables", "guest"]);

/**
 * Runs one command line.
 * @param words without the program's name
 * @returns the exit code; never throws for wrong input
 */
export async function main(words: readonly string[], streams: Streams): Promise<number> {
  const program = new Command("viommu")
    .description("Virtual IOMMUs whose translation is done by the host's IOMMU hardware")
    .version(packageVersion(), "-V, --version", "print the version")
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
  for (const { name, description, load } of COMMANDS) {
    const command = program.command(name).description(description);
    if (words.includes(name) || words[0] === COMPLETION) {
      (await load())(command, streams, finish);
    }
  }
  if (words.length === 0) {
    streams.err(program.helpInformation());
    return EXIT_WRONG_INPUT;
  }
  try {
    await program.parseAsync(await separated(words, program), { from: "user" });
    return code;
  } catch (error) {
    return explain(error, streams);
  }
}

/** Words among which QEMU's may be, with those behind `--`. @throws Refusal */
async function separated(words: readonly string[], program: Command): Promise<readonly string[]> {
  const command = program.commands.find((one) => one.name() === words[0]);
  if (command === undefined || !QEMU_WORDS.has(words[0])) {
    return words;
  }
  const ownOptions = new Set(["-h", "--help", ...command.options.flatMap(({ long, short }) => [long, short]).filter((name) => typeof name === "string")]);
  const { separate } = await import("./words.js");
  return separate(words, ownOptions);
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
    error.parts.forEach(({ message }) => streams.err(`viommu: ${inLines(message)}\n`));
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
