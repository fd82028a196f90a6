/** What is traced and to where: -trace, -d trace:PATTERN, -D FILE, -msg timestamp=on (QEMU's trace/control.c, util/log.c). */
import { Refusal } from "../../support/index.js";
import { parseOptionString, splitCommas } from "./option-string.js";
import { parseBool } from "./property.js";

/** A pattern, or a file with one a line; in the order of the arguments, for a later one undoes an earlier one. */
export type TraceRequest = { readonly pattern: string } | { readonly events: string };

export interface TraceArguments {
  readonly requests: readonly TraceRequest[];
  /** Where traces go; null: standard error. */
  readonly file: string | null;
  /** Each line begins with the time, as -msg timestamp=on asks. */
  readonly timestamps: boolean;
}

/** Gathers them. */
export class TraceOptions {
  private readonly requests: TraceRequest[] = [];
  private file: string | null = null;
  private logFile: string | null = null;
  private timestamps = false;

  /** @returns false where the option is none of these. @throws Refusal */
  take(option: string, value: string, notes: string[]): boolean {
    switch (option) {
      case "trace":
        this.takeTrace(value);
        return true;
      case "d":
        this.takeLogItems(value, notes);
        return true;
      case "D":
        this.logFile = value;
        return true;
      case "msg":
        this.takeMessages(value);
        return true;
      default:
        return false;
    }
  }

  finish(): TraceArguments {
    return { requests: this.requests, file: this.logFile ?? this.file, timestamps: this.timestamps };
  }

  private takeTrace(value: string): void {
    const { requests, file } = parseTrace("-trace", value);
    this.requests.push(...requests);
    this.file = file ?? this.file;
  }

  private takeLogItems(value: string, notes: string[]): void {
    const others: string[] = [];
    for (const item of splitCommas(value)) {
      if (item.startsWith("trace:")) {
        this.requests.push({ pattern: item.slice("trace:".length) });
      } else {
        others.push(item);
      }
    }
    if (others.length > 0) {
      notes.push(`-d ${others.join(",")}: it has no effect here; -d trace:PATTERN has`);
    }
  }

  private takeMessages(value: string): void {
    for (const [key, given] of parseOptionString("-msg", value, "timestamp").values) {
      const flag = parseBool(key, String(given));
      if (key === "timestamp") {
        this.timestamps = flag;
      } else if (key !== "guest-name") {
        throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: "-msg timestamp=on" });
      }
    }
  }
}

/**
 * `[enable=]PATTERN,events=FILE,file=FILE`, of -trace and --trace.
 * @throws Refusal in QEMU's words
 */
export function parseTrace(option: string, value: string): { requests: TraceRequest[]; file: string | null } {
  const requests: TraceRequest[] = [];
  let file: string | null = null;
  for (const [key, given] of parseOptionString(option, value, "enable").values) {
    if (key === "enable") {
      requests.push({ pattern: String(given) });
    } else if (key === "events") {
      requests.push({ events: String(given) });
    } else if (key === "file") {
      file = String(given);
    } else {
      throw new Refusal(`Invalid parameter '${key}'`, { wouldWork: `${option} [enable=]PATTERN,events=FILE,file=FILE` });
    }
  }
  return { requests, file };
}

/** The patterns of an events file: one a line, `#` begins a comment line. */
export function traceFilePatterns(text: string): Array<{ readonly pattern: string; readonly line: number }> {
  return text
    .split(/\r?\n/)
    .map((pattern, index) => ({ pattern, line: index + 1 }))
    .filter(({ pattern }) => pattern !== "" && !pattern.startsWith("#"));
}
