import type { Command } from "commander";
import { DEFAULT_GUEST, DEFAULT_HOST, findGuest, formatAccount, guestNames, loadHost, runMachine, shippedHosts } from "../run/index.js";
import { Refusal } from "../support/index.js";
import { machineWords } from "./machine-words.js";
import type { Streams } from "./streams.js";

interface RunOptions {
  readonly host: string;
  readonly guest: string;
  readonly json?: boolean;
  readonly trace?: string[];
  readonly seed: number;
}

/** `viommu run`: a machine on a host, a guest in it, and the account of what happened. */
export function runCommand(program: Command, streams: Streams, finish: (code: number) => void): Command {
  return program
    .command("run")
    .description("run a machine, given by QEMU's arguments after -- or in a file")
    .argument("[arguments...]", "FILE.args, or -- and QEMU's arguments")
    .option("--host <file>", `the host: a file, or ${shippedHosts().join(", ")}`, DEFAULT_HOST)
    .option("--guest <name|file>", `the guest: ${guestNames().join(", ")}, or a script`, DEFAULT_GUEST)
    .option("--json", "print the account as JSON (docs/json.md)")
    .option("--trace <pattern>", "show trace events whose name matches, on standard error; * and ? as in a shell", collect)
    .option("--seed <number>", "seed of the guest's patterns", parseSeed, 1)
    .action(async (words: string[], options: RunOptions) => {
      const finishProgress = progress(streams, options.json === true);
      const report = await runMachine({
        arguments: machineWords(words),
        host: loadHost(options.host),
        guest: await findGuest(options.guest),
        trace: options.trace,
        seed: options.seed,
        onTrace: (line) => streams.err(`${line}\n`),
        onProgress: finishProgress.show,
      }).finally(finishProgress.done);
      streams.out(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : formatAccount(report, { color: streams.color }));
      finish(report.ok ? 0 : 1);
    });
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

function parseSeed(value: string): number {
  if (!/^\d{1,9}$/.test(value)) {
    throw new Refusal("--seed expects a number", { found: `--seed ${value}`, wouldWork: "0 to 999999999" });
  }
  return Number(value);
}

/** One line that is written over, where standard error is a terminal. */
function progress(streams: Streams, json: boolean): { show: (text: string) => void; done: () => void } {
  if (!streams.interactive || json) {
    return { show: () => {}, done: () => {} };
  }
  return {
    show: (text) => streams.err(`\r\x1b[K${text.split("\n")[0].slice(0, 78)}`),
    done: () => streams.err("\r\x1b[K"),
  };
}
