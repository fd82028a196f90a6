/** The recording of a run: its file, opened before anything is made, and what became of it. */
import { closeSync, fstatSync, openSync, unlinkSync, writeSync } from "node:fs";
import type { Recorder } from "../inspect/recorder/index.js";
import type { OutsideCounts } from "../inspect/timeline/index.js";
import type { Machine } from "../machine/index.js";
import { type Log, packageVersion, Refusal, systemWords } from "../support/index.js";
import type { RunReport } from "./report/index.js";

/** Bytes of a recording unless it is said otherwise. */
export const RECORD_LIMIT = 256 << 20;

export interface RecordRequest {
  readonly file: string;
  /** Bytes of the file, at most; default 256 MiB. */
  readonly limit?: number;
  /** The machine's arguments, for who reads the recording. */
  readonly words?: readonly string[];
}

export interface RecordingFile {
  /** Begins: the machine has been built. */
  start(machine: Machine, counts: OutsideCounts): Promise<void>;
  /** The machine is about to end. */
  finish(): void;
  account(): RunReport["recording"];
  /** Closes the file; one in which nothing was begun goes. */
  close(): void;
}

/** @throws Refusal where the file cannot be written */
export function openRecordingFile({ file, limit = RECORD_LIMIT, words = [] }: RecordRequest, log: Log, onWarning: ((text: string) => void) | undefined): RecordingFile {
  let descriptor: number | null;
  try {
    descriptor = openSync(file, "w");
  } catch (error) {
    throw new Refusal(`could not open the recording '${file}': ${systemWords(error)}`, { found: `a file for a recording: ${file}`, wouldWork: "a file that can be written" });
  }
  let recorder: Recorder | null = null;
  const write = (bytes: Uint8Array): void => {
    for (let at = 0; at < bytes.length; ) {
      at += writeSync(descriptor!, bytes, at);
    }
  };
  return {
    start: async (machine, counts) => {
      const [{ inspectMachine }, { numbersOf, timelineOf }, recorders] = await Promise.all([
        import("../inspect/machine/index.js"),
        import("../inspect/timeline/index.js"),
        import("../inspect/recorder/index.js"),
      ]);
      const { board } = machine;
      try {
        recorder = new recorders.Recorder({
          timeline: timelineOf(machine),
          captured: {
            source: inspectMachine(machine),
            ram: () => board.memory.sections().flatMap(({ address, size, region }) => (region.ram === null ? [] : [{ address, size }])),
            numbers: () => numbersOf(machine, counts).rows,
          },
          header: { version: packageVersion(), machine: recorders.withoutFolders(words), host: machine.host.description, about: "memory that tables and queues are in" },
          write,
          limit,
          onEnd: (text) => {
            log.warn(text);
            onWarning?.(text);
          },
        });
      } catch (error) {
        const text = `nothing is recorded: ${systemWords(error)}`;
        log.warn(text);
        onWarning?.(text);
      }
    },
    finish: () => recorder?.close(),
    account: () => {
      return recorder === null ? { rows: 0, bytes: 0, complete: false, reason: "it could not be begun" } : { rows: recorder.rows, bytes: recorder.bytes, complete: recorder.isWhole, reason: recorder.ended?.reason ?? "" };
    },
    close: () => {
      recorder?.close();
      if (descriptor !== null) {
        const empty = fstatSync(descriptor);
        closeSync(descriptor);
        descriptor = null;
        if (empty.isFile() && empty.size === 0) {
          unlinkSync(file);
        }
      }
    },
  };
}
