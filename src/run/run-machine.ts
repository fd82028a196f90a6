/** One run: a host, a machine on it, a guest in the machine, and the account of what happened. */
import { type ByteStream, describeChardev } from "../chardev/index.js";
import { CallCounter, countCalls, traceHost } from "../host/instruments/index.js";
import { type Host, HostError } from "../iommufd/index.js";
import type { OutsideCounts } from "../inspect/timeline/index.js";
import { boardTraits, type MachineArguments, parseArguments } from "../machine/arguments/index.js";
import { Machine, machineReport } from "../machine/index.js";
import { Log, type LogLine, Refusal } from "../support/index.js";
import {
  dmaReport,
  eventReport,
  guestReport,
  hostCallReport,
  invalidationReport,
  msiReport,
  warningReport,
} from "./collect.js";
import type { GuestOptions, GuestReport } from "../guest/index.js";
import type { KernelReport } from "../kernel-guest/index.js";
import type { GuestToRun } from "./guest.js";
import { kernelFailure, kernelReport, openKernelSession } from "./kernel-session.js";
import { type MonitorSession, monitorsThatSpeak, openMonitors } from "./monitor-session.js";
import { argumentsFor, type HostToRun, openHost } from "./open-host.js";
import { openQtest, type QtestSession } from "./qtest-session.js";
import { openRecordingFile, type RecordingFile, type RecordRequest } from "./recording.js";
import type { RunReport } from "./report/index.js";
import { Said } from "./said.js";
import { startTracing } from "./tracing.js";
import { unusedFunctions } from "./unused-functions.js";

export interface RunRequest {
  /** The machine's arguments: parsed, or as words. */
  readonly arguments: MachineArguments | readonly string[];
  readonly host: HostToRun;
  /** Function of a simulated host by the descriptor (`fd=`) that the arguments have for it. */
  readonly descriptors?: ReadonlyMap<string, string>;
  /** Null: the machine is started and shut down. With -qtest among the arguments the socket takes its place. */
  readonly guest: GuestToRun | null;
  /**
   * True: the guest was not asked for, and a machine with a monitor does without it and stays until the monitor ends
   * it. False: it was asked for, and is refused beside -qtest.
   */
  readonly guestByDefault?: boolean;
  /** What to trace besides what the arguments say, in -trace's form. */
  readonly trace?: readonly string[];
  /** Takes warnings about the request that come too late in the account: a trace pattern that no event has. */
  readonly onWarning?: (text: string) => void;
  /** Takes trace lines. */
  readonly onTrace?: (line: string) => void;
  /** Takes the output of a kernel's first console besides its own device. */
  readonly onConsole?: (text: string) => void;
  /** Takes what the guest says while it runs. */
  readonly onProgress?: (text: string) => void;
  readonly onLog?: (line: LogLine) => void;
  readonly seed?: number;
  /** Which of the firmware's tables the guest takes; default the device tree. */
  readonly firmware?: "dt" | "acpi";
  /** Page size of the guest's page tables in bytes; default 4096. */
  readonly granule?: GuestOptions["granule"];
  readonly vtd?: GuestOptions["vtd"];
  readonly kexecs?: GuestOptions["kexecs"];
  /** Puts something between the machine and the host's calls as they are counted, such as what makes them fail. */
  readonly wrapHost?: (host: Host) => Host;
  /** Asked for where a socket plays the machine (-qtest), a monitor commands it or a kernel runs on it: ends it. */
  readonly stop?: () => AbortSignal;
  /** Looks at the machine, through a monitor of its own. */
  readonly inspection?: Inspection;
  /** Has what happens recorded, with the state at each row. */
  readonly record?: RecordRequest;
  /** Takes the log of -qtest where -qtest-log names no file. */
  readonly onQtestLog?: (text: string) => void;
}

/** Who looks at a machine while it runs, and as long as it likes after its guest. */
export interface Inspection {
  /** The machine has started; its guest waits until this resolves. @param monitor a QMP client's end */
  attach(monitor: ByteStream): Promise<void>;
  /** The guest has ended, or there is none: the machine stays until this resolves, or somebody ends it. Absent: it goes as it does without. @param failure of the guest, in words */
  guestEnded?(failure: string | null): Promise<void>;
}

/**
 * Runs a machine. What the guest or the host did wrong is in the account (`ok`, `failure`, `warnings`).
 * @throws Refusal where the input is wrong: nothing is left on the host then
 */
export async function runMachine(request: RunRequest): Promise<RunReport> {
  const args = argumentsFor(request.host, "machine" in request.arguments ? request.arguments : parseArguments(request.arguments), request.descriptors);
  if (request.firmware === "acpi" && !args.machine.acpi) {
    throw new Refusal("ACPI is asked for and the machine has none", { found: "--firmware acpi, and acpi=off for the machine", wouldWork: "--firmware dt, or acpi=on" });
  }
  if (args.control.qtest !== null && request.guest !== null && request.guestByDefault === false) {
    throw new Refusal("a machine that a qtest socket plays has no guest program", {
      found: `-qtest ${describeChardev(args.control.qtest)}, and the guest ${request.guest.name}`,
      wouldWork: "one of the two; viommu guest --qtest runs a guest at the other end of the socket",
    });
  }
  const log = new Log(request.onLog);
  const recording = request.record === undefined ? null : openRecordingFile(request.record, log, request.onWarning);
  try {
    return await runTraced(request, args, log, recording);
  } finally {
    recording?.close();
  }
}

async function runTraced(request: RunRequest, args: MachineArguments, log: Log, recording: RecordingFile | null): Promise<RunReport> {
  const tracing = startTracing({ arguments: args.trace, more: request.trace ?? [], onTrace: request.onTrace, log, onWarning: request.onWarning, changes: monitorsThatSpeak(args).length > 0 || request.inspection !== undefined || recording !== null });
  try {
    return await tracing.run(() => runOnHost(request, args, log, recording));
  } finally {
    tracing.end();
  }
}

/** Node.js' names of processors, and QEMU's. */
const ARCHITECTURES: Readonly<Record<string, string | undefined>> = { x64: "x86_64", arm64: "aarch64" };

async function runOnHost(request: RunRequest, args: MachineArguments, log: Log, recording: RecordingFile | null): Promise<RunReport> {
  const { boot } = args;
  // A kernel's vCPUs are this machine's processors: a line that is for others has the guest program in its place.
  const isForeign = boardTraits[args.machine.board].architecture !== ARCHITECTURES[process.arch];
  if (boot.kernel !== null && isForeign && request.guestByDefault === true) {
    log.warn(`-kernel ${boot.kernel}: no kernel of ${boardTraits[args.machine.board].architecture} runs by KVM on this machine (${process.arch}): the guest program runs in its place`);
  }
  // A guest that was asked for by name stands before the kernel.
  const kernel = boot.kernel !== null && !(isForeign && request.guestByDefault === true) && (request.guestByDefault === true || request.guest === null) ? await openKernelSession({ ...boot, kernel: boot.kernel }) : null;
  const opened = await openHost(request.host, args, kernel?.makeMemory);
  const counter = new CallCounter();
  try {
    const counted = countCalls(opened.host, counter);
    const host = traceHost(request.wrapHost?.(counted) ?? counted);
    let machine: Machine;
    try {
      machine = new Machine(args, host, log);
    } catch (error) {
      throw asRefusal(error);
    }
    opened.watch(machine);
    let guest: GuestReport | null = null;
    let ran: KernelReport | null = null;
    let failure: string | null = null;
    const said = new Said(request.onProgress);
    const names = new Map<string, string>();
    let before = machine.describe();
    try {
      machine.start();
      before = machine.describe();
      const cold = new Set(machine.board.functions.map(({ fn }) => fn));
      const commanded = monitorsThatSpeak(args).length > 0;
      const stop = args.control.qtest !== null || commanded || kernel !== null || request.inspection !== undefined ? request.stop?.() : undefined;
      const asked = kernel !== null || (commanded && request.guestByDefault === true) ? null : request.guest;
      const counts: OutsideCounts = { hostCalls: () => counter.total(), dma: () => opened.dma(), exits: () => kernel?.exits() ?? null };
      await recording?.start(machine, counts);
      const monitors = await openMonitors(machine, { stop, hasGuest: args.control.qtest !== null || asked !== null || kernel !== null || request.inspection !== undefined, inspected: request.inspection !== undefined, counts });
      let program: GuestToRun | null = null;
      let qtest: QtestSession | null = null;
      try {
        if (monitors !== null) {
          await request.inspection?.attach(monitors.connect());
        }
        qtest = await openQtest(machine, { stop, onLog: request.onQtestLog });
        program = qtest ?? asked;
        if (kernel !== null) {
          ran = await kernel.run(machine, { onConsole: request.onConsole, ended: monitors?.ended ?? null, stop, monitor: monitors?.serveReadline });
          failure = kernelFailure(ran);
          await inspectEnd(request, monitors, failure);
        } else if (program !== null) {
          ({ guest, failure } = await runGuest(request, program, machine, monitors, said));
        } else {
          await (commanded && request.inspection?.guestEnded === undefined ? monitors?.ended : inspectEnd(request, monitors, null));
        }
      } finally {
        await qtest?.close();
        await monitors?.close();
      }
      for (const fn of [...before.functions, ...machine.describe().functions]) {
        if (fn.host !== null) {
          names.set(fn.host, fn.id === "" ? fn.host : fn.id);
        }
      }
      const description = machine.describe();
      for (const { text, fails } of guest?.ok === true ? unusedFunctions(machine, guest, cold) : []) {
        log.warn(text);
        failure ??= fails ? text : null;
      }
      const invalidation = invalidationReport(machine);
      const dma = dmaReport(machine, opened.dma(), names);
      recording?.finish();
      machine.shutdown();
      const alive = counter.live();
      if (alive.length > 0) {
        failure ??= `${alive.length} host object(s) are left: ${alive.map((one) => `${one.type} ${one.id}`).join(", ")}`;
      }
      return {
        ok: failure === null && guest?.ok !== false,
        failure: failure ?? (guest?.ok === false ? failedSteps(guest) : null),
        host: host.description,
        machine: machineReport(description),
        guest: guestReport(program?.name ?? "", guest, said),
        kernel: kernelReport(ran, new Set(description.iommus.map(({ base }) => machine.board.accesses.nameOf(base, false))), invalidation),
        dma,
        events: eventReport(guest, description),
        msi: msiReport(machine),
        invalidation,
        hostCalls: hostCallReport(counter),
        hostObjects: { created: counter.created, freed: counter.freed, alive: alive.length },
        recording: recording?.account() ?? null,
        warnings: warningReport(log, guest, description),
        notes: [...args.notes, ...idleOptions(args.machine.board, request)],
      };
    } finally {
      recording?.close();
      machine.shutdown();
    }
  } finally {
    opened.close();
  }
}

/** Options of ours about a guest that have no effect on a board, a line each. */
export function idleOptions(board: string, options: Pick<RunRequest, "firmware" | "granule" | "vtd" | "kexecs">): string[] {
  const { firmware, granule, vtd, kexecs } = options;
  const idle: Array<[boolean, string, string]> =
    board === "q35"
      ? [
          [firmware === "dt", "--firmware dt", "a q35 has no device tree, its guest takes ACPI's tables"],
          [granule !== undefined && granule !== 4096, `--granule ${(granule ?? 0) / 1024}K`, "page tables of a q35's guest have pages of 4 KiB"],
        ]
      : [
          [vtd !== undefined, "--intel-iommu", `a ${board} has no VT-d`],
          [kexecs !== undefined && kexecs.length > 0, "--kexec", `a ${board} has no VT-d`],
        ];
  return idle.filter(([is]) => is).map(([, option, why]) => `${option}: it has no effect here, ${why}`);
}

/** A monitor, a console or qtest has standard output: nothing else may be written there. @param hasConsole a kernel ran, whose consoles are there */
export function speaksOnStandardOutput({ control, boot }: MachineArguments, hasConsole: boolean): boolean {
  const specs = [...control.monitors, ...(hasConsole ? boot.serials : [])].map((one) => one?.spec ?? null);
  return [control.qtest, ...specs].some((spec) => spec?.kind === "stdio");
}

interface GuestEnd {
  readonly guest: GuestReport | null;
  readonly failure: string | null;
}

/** Runs the guest to its end, or until a monitor ends the machine. */
async function runGuest(request: RunRequest, guest: GuestToRun, machine: Machine, monitors: MonitorSession | null, said: Said): Promise<GuestEnd> {
  const running = playGuest(request, guest, machine, said);
  if (monitors === null) {
    return running;
  }
  // A guest whose machine has gone waits for its next access for ever.
  const end = await Promise.race([running, monitors.ended]);
  if (end === undefined) {
    return { guest: null, failure: null };
  }
  await inspectEnd(request, monitors, end.failure ?? (end.guest?.ok === false ? failedSteps(end.guest) : null));
  await monitors.guestEnded();
  return end;
}

/** The guest has ended: who looks at the machine still may. */
async function inspectEnd({ inspection }: RunRequest, monitors: MonitorSession | null, failure: string | null): Promise<void> {
  if (inspection?.guestEnded !== undefined && monitors !== null) {
    await Promise.race([inspection.guestEnded(failure), monitors.ended]);
  }
}

/**
 * Linux tells nobody of faults on entries and tables of its own, which are those of PASIDs without tables, and of
 * legacy mode's domains: behind VT-d a passed-through function fails there without a record. Without caching mode
 * nobody tells of its PASIDs.
 */
function toleratedBy(machine: Machine): GuestOptions["tolerate"] {
  const { board } = machine;
  return board.kind === "q35" && board.functions.some(({ fn }) => fn.passthrough !== null) ? ["unreported-fault", "unnoticed-pasid"] : undefined;
}

async function playGuest(request: RunRequest, guest: GuestToRun, machine: Machine, said: Said): Promise<GuestEnd> {
  try {
    const summary = await guest.run({
      port: machine.port(),
      operator: machine.operator(),
      say: said.say,
      options: { tolerate: toleratedBy(machine), seed: request.seed ?? 1, granule: request.granule ?? 4096, firmware: request.firmware ?? "dt", vtd: request.vtd, kexecs: request.kexecs, hotplug: machine.hotplugCandidates() },
    });
    return { guest: summary, failure: null };
  } catch (error) {
    if (error instanceof Error) {
      return { guest: null, failure: `the guest ${guest.name} ended with ${error.name}: ${error.message}` };
    }
    return { guest: null, failure: `the guest ${guest.name} ended with ${String(error)}` };
  }
}

function failedSteps(guest: GuestReport): string {
  const failed = guest.steps.filter((step) => !step.ok);
  return `${failed.length} of ${guest.steps.length} steps of the guest failed: ${failed.map((step) => step.name).join(", ")}`;
}

/** A host call that is refused while a machine is built is about its arguments. */
function asRefusal(error: unknown): unknown {
  return error instanceof HostError ? new Refusal(error.message, { found: "a host call that building the machine needs" }) : error;
}
