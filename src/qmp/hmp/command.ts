/** Commands for people, as human-monitor-command and the readline monitor take them (QEMU's monitor/hmp.c). */
import type { CommandContext } from "../command.js";

export interface HmpParameter {
  readonly name: string;
  /** word: up to the next blank; rest: the whole rest of the line; flags: letters after a `-`. */
  readonly type: "word" | "rest" | "flags";
  readonly optional?: boolean;
  /** Of `flags`. */
  readonly letters?: string;
}

export type HmpArguments = Readonly<Record<string, string>>;

export interface HmpCommand {
  /** With its short form: `stop|s`. */
  readonly name: string;
  readonly parameters: readonly HmpParameter[];
  /** How help shows the parameters. */
  readonly usage: string;
  readonly help: string;
  /** Returns what is printed. @throws QmpError or Refusal */
  run(args: HmpArguments, context: CommandContext): string;
}

/** A mistake in a line, told with the command that it is about. */
export class UsageError extends Error {}

export function helpLine(command: HmpCommand, prefix = ""): string {
  return `${prefix}${command.name} ${command.usage} -- ${command.help}\n`;
}

/** @throws UsageError in QEMU's words */
export function parseHmpArguments(command: HmpCommand, line: string): HmpArguments {
  const out: Record<string, string> = {};
  let rest = line.trim();
  for (const parameter of command.parameters) {
    if (parameter.type === "flags") {
      while (/^-./.test(rest)) {
        const letter = rest[1];
        if (parameter.letters?.includes(letter) !== true) {
          throw new UsageError(`${command.name}: unsupported option -${letter}`);
        }
        out[letter] = "on";
        rest = rest.slice(2).trimStart();
      }
      continue;
    }
    const match = parameter.type === "rest" ? /^.+$/s.exec(rest) : /^\S+/.exec(rest);
    if (match === null) {
      if (parameter.optional === true) {
        continue;
      }
      throw new UsageError(`${command.name}: string expected`);
    }
    out[parameter.name] = match[0];
    rest = rest.slice(match[0].length).trimStart();
  }
  if (rest !== "") {
    throw new UsageError(`${command.name}: extraneous characters at the end of line`);
  }
  return out;
}
