/** A machine, the host that it is on and the guest in it, as `run` and `inspect` take them. */
import { type Command, Option } from "commander";
import { DEFAULT_GUEST, GUEST_NAMES } from "../guest/choices/index.js";
import { DEFAULT_HOSTS_TEXT, shippedHosts } from "../host/shipped/index.js";
import type { MachineArguments } from "../machine/arguments/index.js";
import type { RunReport, RunRequest } from "../run/index.js";
import { parseDescriptor, parseFirmware, parseGranule, parseSeed, type VtdOptions, vtdOptions } from "./guest-options.js";
import type { Streams } from "./streams.js";

export interface MachineOptions extends VtdOptions {
  readonly host?: string;
  readonly guest: string;
  readonly fd?: ReadonlyMap<string, string>;
  readonly trace?: string[];
  readonly seed: number;
  readonly firmware: "dt" | "acpi";
  readonly granule: 4096 | 16384 | 65536;
}

export function addMachineOptions(command: Command): Command {
  return command
    .argument("[arguments...]", "FILE.args, or -- and QEMU's arguments")
    .option("--host <file>", `the host: a file, ${shippedHosts().join(", ")}, or linux: this machine (default: ${DEFAULT_HOSTS_TEXT})`)
    .option("--guest <name|file>", `the guest: ${GUEST_NAMES.join(", ")}, or a script`, DEFAULT_GUEST)
    .option("--fd <n=address>", "the function of a simulated host that a vfio-pci with fd=N is; once for each", parseDescriptor)
    .option("--trace <pattern>", "show trace events whose name matches, on standard error; * and ? as in a shell, help lists them", collect)
    .option("--firmware <dt|acpi>", "the guest boots by the device tree or by ACPI", parseFirmware, "dt")
    .addOption(new Option("--granule <4K|16K|64K>", "page size of the guest's page tables").argParser(parseGranule).default(4096, "4K"))
    .option("--seed <number>", "seed of the guest's patterns", parseSeed, 1)
    .addOption(vtdOptions()[0])
    .addOption(vtdOptions()[1]);
}

/** Runs the machine; a signal that ends a process shuts it down. @throws Refusal */
export async function runWithOptions(machine: MachineArguments, options: MachineOptions, its: Command, streams: Streams, more: Pick<RunRequest, "onProgress" | "inspection" | "record">): Promise<RunReport> {
  const said = (option: string): boolean => its.getOptionValueSource(option) !== "default";
  const ending = endBySignal();
  const { defaultHost, findGuest, hostToRun, runMachine } = await import("../run/index.js");
  return runMachine({
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
    stop: ending.start,
    onQtestLog: (text) => streams.err(text),
    ...more,
  }).finally(ending.done);
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

/** What a signal that ends a process does to a machine that a socket plays: it is shut down, and the account is printed. */
export function endBySignal(): { start: () => AbortSignal; done: () => void } {
  const controller = new AbortController();
  const end = (): void => controller.abort();
  const signals = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
  const start = (): AbortSignal => {
    signals.forEach((signal) => process.on(signal, end));
    return controller.signal;
  };
  return { start, done: () => signals.forEach((signal) => process.off(signal, end)) };
}
