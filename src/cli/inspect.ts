import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { lessonNames, loadLesson } from "../inspect/lessons/index.js";
import type { LessonReport, PageData } from "../inspect/report/index.js";
import type { Answers } from "../inspect/server/index.js";
import type { RecordRequest } from "../run/index.js";
import { plural, Refusal, systemWords } from "../support/index.js";
import type { InspectedRun } from "./inspect-run.js";
import { parsePort } from "./guest-options.js";
import { addMachineOptions, endBySignal, type MachineOptions, runWithOptions } from "./machine-options.js";
import { machineArguments, recordedWords } from "./machine-words.js";
import { progress } from "./progress.js";
import type { Streams } from "./streams.js";

interface InspectOptions extends MachineOptions {
  readonly port: number;
  readonly qmp?: string;
  readonly recording?: string;
  readonly control?: boolean;
  readonly static?: string;
  /** False: `--no-record`. */
  readonly record: boolean;
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
    .option("--no-record", "with --static: without a recording of the run, which takes longer then")
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
  if (!options.record && (options.static === undefined || (words.length === 0 && options.lesson === undefined))) {
    throw new Refusal("--no-record is for files of a machine that is made here", { found: "--no-record", wouldWork: "leaving it out, or --static FOLDER and a machine's arguments" });
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
  const copy = folder === undefined ? null : copyAtEnd(folder, about, await recordedWords(words), streams, lesson);
  const inspector = copy ?? inspectRun({
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
  const report = await runWithOptions(machine, options, its, streams, { onProgress: shown.show, inspection: inspector.inspection, record: options.record ? copy?.record : undefined }).finally(async () => {
    shown.done();
    await inspector.close();
  });
  if (!report.ok) {
    streams.err(`viommu: failed: ${report.failure ?? ""}\n`);
  }
  return report.ok ? 0 : 1;
}

/** Bytes of a recording that a page takes with it: a browser reads all of it before it shows anything. */
const RECORDING_OF_PAGE = 32 << 20;

/** Writes the page with what the machine answers when its guest has ended, and with the recording of its run. */
function copyAtEnd(folder: string, about: string, words: readonly string[], streams: Streams, lesson: LessonReport | null): InspectedRun & { readonly record: RecordRequest } {
  let answers: Answers | null = null;
  let data: PageData | null = null;
  const kept = mkdtempSync(join(tmpdir(), "viommu-inspect-"));
  const file = join(kept, "recording");
  return {
    inspection: {
      attach: async (monitor) => {
        const { answersOfMachine } = await import("./inspect-run.js");
        answers = await answersOfMachine(monitor, lesson);
      },
      guestEnded: async () => {
        const { collectPageData } = await import("../inspect/server/index.js");
        data = await collectPageData(answers!, about);
      },
    },
    record: { file, limit: RECORDING_OF_PAGE, words },
    // The recording is whole once the machine has ended.
    close: async () => {
      answers?.close();
      try {
        if (data !== null) {
          await writeCopy(await withRecording(data, file), folder, streams);
        }
      } finally {
        rmSync(kept, { recursive: true, force: true });
      }
    },
  };
}

/** A recording that was cut at its limit lacks the end, which the page is about: its answers are shown alone. */
async function withRecording(data: PageData, file: string): Promise<PageData> {
  const bytes = existsSync(file) ? readFileSync(file) : null;
  if (bytes === null || bytes.length === 0) {
    return data;
  }
  const { openRecording } = await import("../inspect/recording/index.js");
  const { end, last } = await openRecording(bytes);
  return last === 0 || end === null || end.limited ? data : { ...data, recording: bytes.toString("base64") };
}

async function writeCopy(data: PageData, folder: string, streams: Streams): Promise<void> {
  const { pageFolder, writePage } = await import("../inspect/server/index.js");
  writePage(pageFolder(), folder, data);
  const has = [data.answers.length > 0 ? plural(data.answers.length, "answer") : null, data.recording !== undefined ? "the recording" : null].filter((one) => one !== null);
  streams.out(`${folder}/index.html: the page with ${has.join(" and ")}\n`);
}

/** A machine that runs elsewhere, or a host alone. @returns the exit code */
async function inspectAnswers(options: InspectOptions, streams: Streams): Promise<number> {
  const { answersOf, collectPageData, openInspector, openMonitorSocket } = await import("../inspect/server/index.js");
  const data = options.recording === undefined ? undefined : await readRecording(options.recording);
  if (data !== undefined && options.static !== undefined) {
    await writeCopy(data, options.static, streams);
    return 0;
  }
  const answers = options.qmp !== undefined ? await openMonitorSocket(options.qmp) : answersOf(data !== undefined ? {} : { "x-viommu-map": await mapOf(options.host!) });
  try {
    if (options.static !== undefined) {
      await writeCopy(await collectPageData(answers, options.qmp ?? options.host!), options.static, streams);
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
its run lasts. Of a recording, and in files of a machine that was made here, every
view shows the state after the row that is chosen. docs/inspector.md goes through the page.`;
