import { type Command, Option } from "commander";
import { DEFAULT_GUEST, GUEST_NAMES } from "../guest/choices/index.js";
import { DEFAULT_HOSTS_TEXT, shippedHosts } from "../host/shipped/index.js";
import { parseDescriptor, parseFirmware, parseGranule, parseSeed, type VtdOptions, vtdOptions } from "./guest-options.js";
import { machineArguments } from "./machine-words.js";
import { progress } from "./progress.js";
import { errorFindings, Refusal } from "../support/index.js";
import type { Streams } from "./streams.js";

interface RunOptions extends VtdOptions {
  readonly host?: string;
  readonly guest: string;
  readonly json?: boolean;
  readonly fd?: ReadonlyMap<string, string>;
  readonly trace?: string[];
  readonly seed: number;
  readonly firmware: "dt" | "acpi";
  readonly granule: 4096 | 16384 | 65536;
  readonly quiet?: boolean;
}

/** `viommu run`: a machine on a host, a guest in it, and the account of what happened. */
export function addTo(command: Command, streams: Streams, finish: (code: number) => void): void {
  command
    .argument("[arguments...]", "FILE.args, or -- and QEMU's arguments")
    .option("--host <file>", `the host: a file, ${shippedHosts().join(", ")}, or linux: this machine (default: ${DEFAULT_HOSTS_TEXT})`)
    .option("--guest <name|file>", `the guest: ${GUEST_NAMES.join(", ")}, or a script`, DEFAULT_GUEST)
    .option("--fd <n=address>", "the function of a simulated host that a vfio-pci with fd=N is; once for each", parseDescriptor)
    .option("--json", "print the account as JSON (docs/json.md)")
    .option("--trace <pattern>", "show trace events whose name matches, on standard error; * and ? as in a shell, help lists them", collect)
    .option("--firmware <dt|acpi>", "the guest boots by the device tree or by ACPI", parseFirmware, "dt")
    .addOption(new Option("--granule <4K|16K|64K>", "page size of the guest's page tables").argParser(parseGranule).default(4096, "4K"))
    .option("--seed <number>", "seed of the guest's patterns", parseSeed, 1)
    .addOption(vtdOptions()[0])
    .addOption(vtdOptions()[1])
    .option("--quiet", "print no account; where the run fails, why")
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
    const ending = endBySignal();
    const finishProgress = progress(streams, options.json === true);
    // What is refused is refused before the machine's code is loaded.
    const machine = await machineArguments(words, options.host, options.fd);
    if (machine.trace.requests.some((request) => "pattern" in request && request.pattern === "help")) {
      return finish(await listTraceEvents(streams));
    }
    const said = (option: string): boolean => its.getOptionValueSource(option) !== "default";
    const { defaultHost, findGuest, formatAccount, hostToRun, runMachine, speaksOnStandardOutput } = await import("../run/index.js");
    const report = await runMachine({
      arguments: machine,
      host: await hostToRun(options.host ?? defaultHost(machine)),
      descriptors: options.fd,
      guest: await findGuest(options.guest),
      guestByDefault: !said("guest"),
      trace: options.trace,
      seed: options.seed,
      firmware: said("firmware") ? options.firmware : undefined,
      granule: said("granule") ? options.granule : undefined,
      vtd: options.intelIommu,
      kexecs: options.kexec,
      onWarning: (text) => streams.err(`viommu: warning: ${text}\n`),
      onTrace: (line) => streams.err(`${line}\n`),
      onProgress: finishProgress.show,
      stop: ending.start,
      onQtestLog: (text) => streams.err(text),
    }).finally(() => {
      finishProgress.done();
      ending.done();
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

/** What `--trace help` prints, as QEMU's `-trace help` does: all there are. @returns the exit code */
async function listTraceEvents(streams: Streams): Promise<number> {
  // Events are made where they are told: in the rooms that a run loads.
  await import("../run/index.js");
  const { traceEvents } = await import("../support/index.js");
  traceEvents().map(({ name }) => name).sort().forEach((name) => streams.out(`${name}\n`));
  return 0;
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

const QTEST_HELP = `
With -qmp unix:PATH,server=on,wait=off, -mon or -monitor (as QEMU has them) the
machine is commanded by a monitor, and lasts until its quit; --guest NAME lets a
guest run meanwhile (docs/qmp.md). With -qtest unix:PATH or tcp:HOST:PORT (as
QEMU has it: it connects to a client that listens; ,server=on,wait=off listens
instead) the socket plays the machine and there is no guest.`;

/** What a signal that ends a process does to a machine that a socket plays: it is shut down, and the account is printed. */
function endBySignal(): { start: () => AbortSignal; done: () => void } {
  const controller = new AbortController();
  const end = (): void => controller.abort();
  const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
  const start = (): AbortSignal => {
    signals.forEach((signal) => process.on(signal, end));
    return controller.signal;
  };
  return { start, done: () => signals.forEach((signal) => process.off(signal, end)) };
}
