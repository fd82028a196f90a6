import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { lessonNames, loadLesson } from "../inspect/lessons/index.js";
import type { LessonReport, PageData } from "../inspect/report/index.js";
import type { Answers } from "../inspect/server/index.js";
import { plural, Refusal, systemWords } from "../support/index.js";
import type { InspectedRun } from "./inspect-run.js";
import { parsePort } from "./guest-options.js";
import { addMachineOptions, endBySignal, type MachineOptions, runWithOptions } from "./machine-options.js";
import { machineArguments } from "./machine-words.js";
import { progress } from "./progress.js";
import type { Streams } from "./streams.js";

interface InspectOptions extends MachineOptions {
  readonly port: number;
  readonly qmp?: string;
  readonly recording?: string;
  readonly control?: boolean;
  readonly static?: string;
  readonly lesson?: string;
}

/** `viommu inspect`: a page in a browser, of a machine that is made for it, one that runs, or a host. */
export function addTo(command: Command, streams: Streams, finish: (code: number) => void): void {
  addMachineOptions(command)
    .option("--port <number>", "the port on loopback that the page is at (default: one that is free)", parsePort, 0)
    .option("--qmp <socket>", "a viommu that runs, by its -qmp socket: unix:PATH or HOST:PORT")
    .option("--recording <file>", "what viommu run --record has kept, with the state at every row")
    .option("--control", "the page may stop the machine and let it go on")
    .option("--lesson <name|folder>", `a machine that teaches, with its text beside the page: ${lessonNames().join(", ")}`)
    .option("--static <folder>", "write the page with what it shows to files, which open without a server")
    .addHelpText("after", HELP)
    .action(async (words: string[], options: InspectOptions, its: Command) => {
      checkInputs(words, options, its);
      const { checkTarget, readPage, pageFolder } = await import("../inspect/server/index.js");
      // What cannot be shown is refused before anything starts.
      readPage(pageFolder());
      if (options.static !== undefined) {
        checkTarget(options.static);
      }
      const { lesson } = options;
      finish(await (lesson !== undefined ? inspectLesson(lesson, options, its, streams) : words.length > 0 ? inspectMachine(words, options, its, streams, null) : inspectAnswers(options, streams)));
    });
}

/** @throws Refusal where the options are of two things, or of none */
function checkInputs(words: readonly string[], options: InspectOptions, its: Command): void {
  const inputs = [words.length > 0 ? "a machine's arguments" : null, options.qmp !== undefined ? "--qmp" : null, options.recording !== undefined ? "--recording" : null, options.lesson !== undefined ? "--lesson" : null].filter((one) => one !== null);
  if (inputs.length > 1) {
    throw new Refusal(`${inputs[0]} and ${inputs[1]} are two things to look at`, { wouldWork: "one of them" });
  }
  if (inputs.length === 0 && options.host === undefined) {
    throw new Refusal("nothing to look at", { wouldWork: "viommu inspect FILE.args, viommu inspect -- and QEMU's arguments, --qmp SOCKET, --recording FILE, --lesson NAME, or --host FILE for a host without a machine" });
  }
  if (options.lesson !== undefined) {
    const own = ["host", "guest"].find((name) => its.getOptionValueSource(name) === "cli");
    if (own !== undefined) {
      throw new Refusal(`a lesson has its ${own} already`, { found: `--lesson ${options.lesson} and --${own}`, wouldWork: "one of the two" });
    }
  }
  const idle = ["guest", "fd", "trace", "firmware", "granule", "seed", "intelIommu", "kexec", ...(options.qmp === undefined && options.recording === undefined ? [] : ["host"])].find((name) => words.length === 0 && options.lesson === undefined && its.getOptionValueSource(name) === "cli");
  if (idle !== undefined) {
    throw new Refusal(`--${idle.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} is for a machine that is made here`, { found: options.qmp !== undefined ? `--qmp ${options.qmp}` : options.recording !== undefined ? `--recording ${options.recording}` : "a host alone", wouldWork: "leaving it out, or a machine's arguments" });
  }
  if (options.static !== undefined) {
    const lost = ["port", "control"].find((name) => its.getOptionValueSource(name) === "cli");
    if (lost !== undefined) {
      throw new Refusal(`--static and --${lost} do not go together`, { found: "a page without a server", wouldWork: "one of the two" });
    }
  }
}

/** The lesson's own machine, guest and host. @returns the exit code */
async function inspectLesson(name: string, options: InspectOptions, its: Command, streams: Streams): Promise<number> {
  const { machine, guest, host, report } = await loadLesson(name);
  return inspectMachine([machine], { ...options, guest, host: host ?? undefined }, its, streams, report);
}

/** A machine is made, its guest runs, and it stays. @returns the exit code */
async function inspectMachine(words: readonly string[], options: InspectOptions, its: Command, streams: Streams, lesson: LessonReport | null): Promise<number> {
  const machine = await machineArguments(words, options.host, options.fd);
  const shown = progress(streams, false);
  const { inspectRun } = await import("./inspect-run.js");
  const folder = options.static;
  const about = words[0].startsWith("-") ? "a machine" : words[0];
  const inspector = folder !== undefined ? copyAtEnd(folder, about, streams, lesson) : inspectRun({
    lesson,
    port: options.port,
    control: options.control === true,
    say: (text) => streams.out(text),
    guestEnded: (_answers, failure) => {
      shown.done();
      streams.err(`viommu: ${failure === null ? "the guest has ended" : `the guest has failed: ${failure}`}; the machine stays until Ctrl-C\n`);
      return new Promise(() => {});
    },
  });
  const report = await runWithOptions(machine, options, its, streams, { onProgress: shown.show, inspection: inspector.inspection }).finally(async () => {
    shown.done();
    await inspector.close();
  });
  if (!report.ok) {
    streams.err(`viommu: failed: ${report.failure ?? ""}\n`);
  }
  return report.ok ? 0 : 1;
}

/** Writes the page when the guest has ended. */
function copyAtEnd(folder: string, about: string, streams: Streams, lesson: LessonReport | null): InspectedRun {
  let answers: Answers | null = null;
  return {
    inspection: {
      attach: async (monitor) => {
        const { answersOfMachine } = await import("./inspect-run.js");
        answers = await answersOfMachine(monitor, lesson);
      },
      guestEnded: () => writeCopy(answers!, folder, about, streams),
    },
    close: async () => answers?.close(),
  };
}

async function writeCopy(answers: Answers, folder: string, about: string, streams: Streams): Promise<void> {
  const { collectPageData, pageFolder, writePage } = await import("../inspect/server/index.js");
  const data = await collectPageData(answers, about);
  writePage(pageFolder(), folder, data);
  streams.out(`${folder}/index.html: the page with ${plural(data.answers.length, "answer")}\n`);
}

/** A machine that runs elsewhere, or a host alone. @returns the exit code */
async function inspectAnswers(options: InspectOptions, streams: Streams): Promise<number> {
  const { answersOf, openInspector, openMonitorSocket, pageFolder, writePage } = await import("../inspect/server/index.js");
  const data = options.recording === undefined ? undefined : await readRecording(options.recording);
  if (data !== undefined && options.static !== undefined) {
    writePage(pageFolder(), options.static, data);
    streams.out(`${options.static}/index.html: the page with the recording\n`);
    return 0;
  }
  const answers = options.qmp !== undefined ? await openMonitorSocket(options.qmp) : answersOf(data !== undefined ? {} : { "x-viommu-map": await mapOf(options.host!) });
  try {
    if (options.static !== undefined) {
      await writeCopy(answers, options.static, options.qmp ?? options.host!, streams);
      return 0;
    }
    const ending = endBySignal();
    const stop = ending.start();
    const inspector = await openInspector({ answers, port: options.port, control: options.control === true, data }).catch((error: unknown) => {
      ending.done();
      throw error;
    });
    streams.out(`viommu: the inspector is at ${inspector.address}\n`);
    await Promise.race([answers.ended, new Promise<void>((resolve) => stop.addEventListener("abort", () => resolve(), { once: true }))]);
    ending.done();
    if (!stop.aborted) {
      streams.err("viommu: the machine has ended\n");
    }
    await inspector.close();
    return 0;
  } finally {
    answers.close();
  }
}

/** @throws Refusal where it cannot be read, or is no recording with a row */
async function readRecording(file: string): Promise<PageData> {
  const { openRecording, RecordingError } = await import("../inspect/recording/index.js");
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new Refusal(`Could not open '${file}': ${systemWords(error)}`, { found: `--recording ${file}`, wouldWork: "a file of viommu run --record" });
  }
  try {
    const recording = await openRecording(bytes);
    await recording.at(recording.last);
  } catch (error) {
    throw error instanceof RecordingError ? new Refusal(error.message, { found: `--recording ${file}`, wouldWork: "a file of viommu run --record" }) : error;
  }
  return { about: file, answers: [], recording: bytes.toString("base64") };
}

async function mapOf(host: string): Promise<object> {
  const [{ mapOfHost }, { createSimulatedHost }, { describedHost }] = await Promise.all([import("../inspect/machine/index.js"), import("../host/simulated/host/index.js"), import("./described-host.js")]);
  const simulated = createSimulatedHost(await describedHost(host));
  try {
    return mapOfHost(simulated);
  } finally {
    simulated.close();
  }
}

const HELP = `
The page is at an address on loopback with a token: who has it may look, so do
not give it away. A machine that is made here stays after its guest has ended,
until Ctrl-C. A plan is looked at as the machine that it makes: viommu plan
--format viommu ... > FILE.args. viommu run --inspect shows a machine as long as
its run lasts. docs/inspector.md goes through the page.`;
