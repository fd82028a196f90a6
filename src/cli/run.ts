import type { Command } from "commander";
import type { RecordRequest } from "../run/index.js";
import { parsePort, parseRecordLimit } from "./guest-options.js";
import { addMachineOptions, type MachineOptions, runWithOptions } from "./machine-options.js";
import { machineArguments, recordedWords } from "./machine-words.js";
import { progress } from "./progress.js";
import { errorFindings, Refusal } from "../support/index.js";
import type { Streams } from "./streams.js";

interface RunOptions extends MachineOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly inspect?: number;
  readonly record?: string;
  readonly recordLimit?: number;
}

/** `viommu run`: a machine on a host, a guest in it, and the account of what happened. */
export function addTo(command: Command, streams: Streams, finish: (code: number) => void): void {
  addMachineOptions(command)
    .option("--json", "print the account as JSON (docs/json.md)")
    .option("--quiet", "print no account; where the run fails, why")
    .option("--inspect [port]", "a page in a browser shows the machine while it runs (docs/inspector.md)", parsePort)
    .option("--record <file>", "record what happens, with the state at each moment, for viommu inspect --recording (docs/inspector.md)")
    .option("--record-limit <size>", "bytes of the recording, at most; default 256M", parseRecordLimit)
    .addHelpText("after", QTEST_HELP)
    .action(async (words: string[], options: RunOptions, its: Command) => {
      try {
        await run(words, options, its);
      } catch (error) {
        if (options.json === true && error instanceof Refusal) {
          streams.out(`${JSON.stringify({ ok: false, failure: error.words, findings: errorFindings(error) }, null, 2)}\n`);
        }
        throw error;
      }
    });

  const run = async (words: string[], options: RunOptions, its: Command): Promise<void> => {
    if (options.trace?.includes("help") === true) {
      return finish(await listTraceEvents(streams));
    }
    const finishProgress = progress(streams, options.json === true);
    // What is refused is refused before the machine's code is loaded.
    const machine = await machineArguments(words, options.host, options.fd);
    if (machine.trace.requests.some((request) => "pattern" in request && request.pattern === "help")) {
      return finish(await listTraceEvents(streams));
    }
    const inspector = options.inspect === undefined ? null : (await import("./inspect-run.js")).inspectRun({ port: options.inspect, control: false, lesson: null, say: streams.err });
    const { formatAccount, speaksOnStandardOutput } = await import("../run/index.js");
    const report = await runWithOptions(machine, options, its, streams, { onProgress: finishProgress.show, inspection: inspector?.inspection, record: await recordOf(words, options) }).finally(async () => {
      finishProgress.done();
      await inspector?.close();
    });
    if (options.quiet !== true) {
      const account = options.json === true ? `${JSON.stringify(report, null, 2)}\n` : formatAccount(report, { color: streams.color });
      if (speaksOnStandardOutput(machine, report.kernel !== null)) {
        streams.err(account);
      } else {
        streams.out(account);
      }
    } else if (!report.ok) {
      streams.err(`viommu: failed: ${report.failure ?? ""}\n`);
    }
    finish(report.ok ? 0 : 1);
  };
}

async function recordOf(words: readonly string[], { record, recordLimit }: RunOptions): Promise<RecordRequest | undefined> {
  if (record === undefined) {
    if (recordLimit !== undefined) {
      throw new Refusal("--record-limit is of a recording", { found: "--record-limit without --record", wouldWork: "--record FILE --record-limit SIZE" });
    }
    return undefined;
  }
  return { file: record, words: await recordedWords(words), ...(recordLimit === undefined ? {} : { limit: recordLimit }) };
}

/** What `--trace help` prints, as QEMU's `-trace help` does: all there are. @returns the exit code */
async function listTraceEvents(streams: Streams): Promise<number> {
  // Events are made where they are told: in the rooms that a run loads.
  await import("../run/index.js");
  const { traceEvents } = await import("../support/index.js");
  traceEvents().map(({ name }) => name).sort().forEach((name) => streams.out(`${name}\n`));
  return 0;
}

const QTEST_HELP = `
With -qmp unix:PATH,server=on,wait=off, -mon or -monitor (as QEMU has them) the
machine is commanded by a monitor, and lasts until its quit; --guest NAME lets a
guest run meanwhile (docs/qmp.md). With -qtest unix:PATH or tcp:HOST:PORT (as
QEMU has it: it connects to a client that listens; ,server=on,wait=off listens
instead) the socket plays the machine and there is no guest.`;
