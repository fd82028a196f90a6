import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** Where the C sources are: the same place seen from bench/ and from dist/bench/. */
const sources = fileURLToPath(new URL(import.meta.url.includes("/dist/bench/") ? "../../bench/c/" : "./c/", import.meta.url));

/** The compiler's command, or undefined. CC chooses another one. */
export function findCompiler(): string | undefined {
  for (const command of process.env.CC === undefined ? ["gcc", "cc"] : [process.env.CC]) {
    if (spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0) {
      return command;
    }
  }
  return undefined;
}

/** The compiler's own first line about itself, for the report. */
export function compilerVersion(command: string): string {
  return spawnSync(command, ["--version"], { encoding: "utf8" }).stdout.split("\n")[0].trim();
}

/**
 * A C program that answers one line with one line: it keeps its data between the questions, so that its
 * rounds can alternate with the ones in JavaScript.
 */
export class CProgram {
  private readonly answers: string[] = [];
  private waiting: ((line: string | undefined) => void) | undefined;
  private ended = false;

  private constructor(
    private readonly name: string,
    private readonly child: ChildProcessWithoutNullStreams,
  ) {
    createInterface({ input: child.stdout }).on("line", (line) => this.deliver(line));
    child.on("close", () => {
      this.ended = true;
      this.deliver(undefined);
    });
    child.stdin.on("error", () => {});
  }

  /** Compiles bench/c/NAME.c with -O2 and starts it. */
  static start(compiler: string, directory: string, name: string, args: readonly string[] = []): CProgram {
    const program = join(directory, name);
    const result = spawnSync(compiler, ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", program, join(sources, `${name}.c`)], {
      encoding: "utf8",
    });
    if (result.status !== 0) {
      throw new Error(`bench/c/${name}.c does not compile with ${compiler}:\n${result.stderr}`);
    }
    return new CProgram(name, spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] }) as unknown as ChildProcessWithoutNullStreams);
  }

  /** Sends a line and resolves to the answer. */
  async ask(line: string): Promise<string> {
    this.child.stdin.write(`${line}\n`);
    const answer = this.answers.shift() ?? (this.ended ? undefined : await new Promise<string | undefined>((r) => (this.waiting = r)));
    if (answer === undefined) {
      throw new Error(`bench/c/${this.name}.c ended without an answer to "${line}"`);
    }
    return answer;
  }

  /** Ends the program. */
  stop(): void {
    this.child.stdin.end();
  }

  private deliver(line: string | undefined): void {
    const waiting = this.waiting;
    this.waiting = undefined;
    if (waiting !== undefined) {
      waiting(line);
    } else if (line !== undefined) {
      this.answers.push(line);
    }
  }
}
