/** Where a command writes to; tests give their own. */
export interface Streams {
  out(text: string): void;
  err(text: string): void;
  /** Colours are wanted on standard output. */
  readonly color: boolean;
  /** Standard error is a terminal: progress may be shown. */
  readonly interactive: boolean;
}

/** The process's own streams. A reader that goes away (`| head`) ends the program without a word. */
export class StandardStreams implements Streams {
  readonly color: boolean;
  readonly interactive: boolean;

  constructor() {
    const { env } = process;
    // https://no-color.org: any value that is not empty; FORCE_COLOR the other way round.
    this.color = (env.NO_COLOR ?? "") !== "" ? false : (env.FORCE_COLOR ?? "") !== "" || (process.stdout.isTTY === true && env.TERM !== "dumb");
    this.interactive = process.stderr.isTTY === true;
    for (const stream of [process.stdout, process.stderr]) {
      stream.on("error", (error: Error) => {
        process.exit(outputIsBroken(error) ? (process.exitCode ?? 0) : 1);
      });
    }
  }

  out(text: string): void {
    process.stdout.write(text);
  }

  err(text: string): void {
    process.stderr.write(text);
  }
}

export function outputIsBroken(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED");
}
