/** Traces of a run: which events are on, and where their lines go. */
import { closeSync, openSync, writeSync } from "node:fs";
import { parseTrace, type TraceArguments, traceFilePatterns, type TraceRequest } from "../machine/arguments/index.js";
import { type Log, readTextFile, Refusal, systemWords, Tracing } from "../support/index.js";

export interface TracingOptions {
  /** Of the machine's arguments. */
  readonly arguments: TraceArguments;
  /** Further ones, in -trace's form. */
  readonly more: readonly string[];
  /** Takes lines where no file was named. */
  readonly onTrace: ((line: string) => void) | undefined;
  readonly log: Log;
  /** Takes a warning at once, besides the log. */
  readonly onWarning: ((text: string) => void) | undefined;
  /** Somebody may turn events on later. */
  readonly changes: boolean;
}

/** The traces of one run. */
export interface RunTracing {
  /** Runs a part of the process that they are of. */
  run<T>(body: () => Promise<T>): Promise<T>;
  /** Turns all off, and ends the file. */
  end(): void;
}

/** Characters that are gathered before a file is written to. */
const GATHERED = 1 << 16;

/**
 * Turns events on for one run, in the order of the arguments; a name or pattern that no event has is a warning.
 * @throws Refusal where a file cannot be read or written
 */
export function startTracing({ arguments: asked, more, onTrace, log, onWarning, changes }: TracingOptions): RunTracing {
  const parsed = more.map((text) => parseTrace("--trace", text));
  const requests = [...asked.requests, ...parsed.flatMap((one) => one.requests)];
  const name = parsed.reduce<string | null>((last, { file }) => file ?? last, asked.file);
  const patterns = requests.flatMap((request) => readPatterns(request));
  const file = name === null ? null : openFile(name.replace("%d", String(process.pid)));
  const write = file?.write ?? onTrace;
  const tracing = new Tracing(write !== undefined && asked.timestamps ? (line) => write(`${timestamp()} ${line}`) : write);
  for (const { pattern, where } of patterns) {
    const off = pattern.startsWith("-");
    const bare = off ? pattern.slice(1) : pattern;
    if (tracing.set(bare, !off) === 0) {
      const text = `trace event '${bare}' does not exist${where}`;
      log.warn(text);
      onWarning?.(text);
    }
  }
  return {
    // What is followed through every step costs, so that a run that nobody traces does without.
    run: (body) => (changes || patterns.length > 0 ? tracing.run(body) : body()),
    end: () => {
      tracing.end();
      file?.close();
    },
  };
}

function readPatterns(request: TraceRequest): Array<{ pattern: string; where: string }> {
  if ("pattern" in request) {
    return [{ pattern: request.pattern, where: "" }];
  }
  return traceFilePatterns(readTextFile(request.events, "a file of trace events")).map(({ pattern, line }) => ({ pattern, where: ` (${request.events}:${line})` }));
}

/** As QEMU's -msg timestamp=on writes it: UTC, with six decimals. */
function timestamp(): string {
  const now = performance.timeOrigin + performance.now();
  const microseconds = Math.floor((now % 1000) * 1000);
  return `${new Date(Math.floor(now / 1000) * 1000).toISOString().slice(0, 19)}.${String(microseconds).padStart(6, "0")}Z`;
}

function openFile(name: string): { write(line: string): void; close(): void } {
  let descriptor: number;
  try {
    descriptor = openSync(name, "w");
  } catch (error) {
    throw new Refusal(`could not open log file '${name}': ${systemWords(error)}`, { found: `a file for traces: ${name}`, wouldWork: "a file that can be written" });
  }
  let gathered = "";
  const flush = (): void => {
    if (gathered !== "") {
      writeSync(descriptor, gathered);
      gathered = "";
    }
  };
  return {
    write: (line) => {
      gathered += `${line}\n`;
      if (gathered.length > GATHERED) {
        flush();
      }
    },
    close: () => {
      flush();
      closeSync(descriptor);
    },
  };
}
