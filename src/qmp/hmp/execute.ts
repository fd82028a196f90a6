/** One line of a monitor for people. */
import type { CommandContext } from "../command.js";
import { asQmpError } from "../errors.js";
import { type HmpCommand, helpLine, parseHmpArguments, UsageError } from "./command.js";
import { hmpCommands } from "./commands.js";
import { infoCommands } from "./info.js";

/** Runs a line; what it prints, mistakes included. Never throws for what the line says. */
export function executeLine(line: string, context: CommandContext): string {
  const words = line.trim().split(/\s+/);
  const [first, second] = words;
  if (first === "") {
    return "";
  }
  if (first === "help" || first === "?") {
    return help(words.slice(1));
  }
  if (first === "info") {
    if (second === undefined) {
      return help(["info"]);
    }
    const command = find(infoCommands, second);
    return command === undefined ? `unknown command: 'info ${second}'\n` : run(command, `info ${second}`, afterWords(line, 2), context);
  }
  const command = find(hmpCommands, first);
  return command === undefined ? `unknown command: '${first}'\n` : run(command, first, afterWords(line, 1), context);
}

function find(commands: readonly HmpCommand[], name: string): HmpCommand | undefined {
  return commands.find((command) => command.name.split("|").includes(name));
}

function afterWords(line: string, count: number): string {
  return line.trimStart().replace(new RegExp(`^(?:\\S+\\s*){${count}}`), "");
}

function run(command: HmpCommand, path: string, line: string, context: CommandContext): string {
  try {
    return command.run(parseHmpArguments(command, line), context);
  } catch (error) {
    if (error instanceof UsageError) {
      return `${error.message}\nTry "help ${path}" for more information\n`;
    }
    const known = asQmpError(error);
    if (known === null) {
      throw error;
    }
    return `Error: ${known.desc}\n`;
  }
}

const HELP: HmpCommand = { name: "help|?", parameters: [], usage: "[cmd]", help: "show the help", run: () => "" };
const INFO: HmpCommand = { name: "info", parameters: [], usage: "[subcommand]", help: "show various information about the system state", run: () => "" };

function help(words: readonly string[]): string {
  const [first, second] = words;
  const all = [...hmpCommands, HELP, INFO].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (first === undefined) {
    return all.map((command) => helpLine(command)).join("");
  }
  const info = [...infoCommands].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (first === "info" && second === undefined) {
    return info.map((command) => helpLine(command, "info ")).join("");
  }
  const command = first === "info" ? find(info, second) : find(all, first);
  return command === undefined ? `unknown command: '${words.join(" ")}'\n` : helpLine(command, first === "info" ? "info " : "");
}
