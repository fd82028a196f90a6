/**
 * `viommu completion SHELL`: a script by which a shell completes viommu's words. It holds all that it offers, made
 * out of the commands' own tree and the tables of devices and options: at TAB nothing is started.
 */
import { Argument, type Command, type Option } from "commander";
import { GUEST_NAMES, REMOTE_BOARDS } from "../guest/choices/index.js";
import { shippedHosts } from "../host/shipped/index.js";
import { BOARD_KINDS, knownDevices, objectTypes, optionRules } from "../machine/arguments/index.js";
import type { Streams } from "./streams.js";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** What may stand at a place: words of a list, a file, or both. */
interface Place {
  readonly words: readonly string[];
  readonly files: boolean;
}

interface Completed {
  /** With its dashes: `--host`, `-device`. */
  readonly option: string;
  readonly description: string;
  /** What may follow it; null: nothing. */
  readonly value: Place | null;
}

interface Completion {
  readonly command: string;
  readonly description: string;
  readonly options: readonly Completed[];
  readonly operand: Place;
}

export function addTo(completion: Command, streams: Streams, finish: (code: number) => void): void {
  completion
    .addArgument(new Argument("<shell>", "the shell that the script is for").choices(SHELLS))
    .addHelpText("after", HELP)
    .action((shell: (typeof SHELLS)[number]) => {
      const all = completion.parent!.commands.map(completionOf);
      streams.out(shell === "fish" ? fish(all) : shell === "zsh" ? `#compdef viommu\nautoload -U +X bashcompinit && bashcompinit\n${bash(all)}` : bash(all));
      finish(0);
    });
}

const HELP = `
bash: source <(viommu completion bash)          in ~/.bashrc
zsh:  source <(viommu completion zsh)           in ~/.zshrc, behind compinit
fish: viommu completion fish > ~/.config/fish/completions/viommu.fish`;

/** Values of viommu's own options that their help does not spell out. */
const VALUES: Readonly<Record<string, () => readonly string[]>> = {
  "--host": shippedHosts,
  "--guest": () => GUEST_NAMES,
  "--machine": () => REMOTE_BOARDS,
};

const OPERANDS: Readonly<Record<string, () => readonly string[]>> = {
  device: knownDevices,
  hosts: shippedHosts,
};

function qemuValue(name: string): Place {
  const words = name === "device" ? knownDevices() : name === "machine" || name === "M" ? BOARD_KINDS : name === "object" ? Object.keys(objectTypes) : [];
  return { words, files: words.length === 0 };
}

function completionOf(command: Command): Completion {
  const own = command.options.map((option) => ({ option: option.long!, description: option.description, value: valueOf(option) }));
  const takesMachine = ["run", "inspect", "tables"].includes(command.name());
  const qemu = [...optionRules.values()].filter((rule) => takesMachine && rule.refused === undefined && rule.gone === undefined);
  const operand = command.registeredArguments.at(0);
  const words = [...(operand?.argChoices ?? OPERANDS[command.name()]?.() ?? [])];
  return {
    command: command.name(),
    description: command.description(),
    options: [...own, { option: "--help", description: "display help for command", value: null }, ...qemu.map(({ name, argument }) => ({ option: `-${name}`, description: "as QEMU has it", value: argument ? qemuValue(name) : null }))],
    operand: { words, files: takesMachine || command.name() === "hosts" || command.name() === "check" },
  };
}

function valueOf(option: Option): Place | null {
  if (!option.required && !option.optional) {
    return null;
  }
  const parts = /[<[]([^>\].]+)/.exec(option.flags)![1].split("|");
  const files = parts.includes("file") || parts.includes("folder");
  return { words: option.argChoices ?? VALUES[option.long!]?.() ?? (files || parts.length === 1 ? [] : parts), files };
}

function bash(all: readonly Completion[]): string {
  const set = ({ words, files }: Place): string => `words='${words.join(" ")}'${files ? " files=1" : ""}`;
  const lines: string[] = [];
  for (const { command, options, operand } of all) {
    for (const { option, value } of options) {
      if (value !== null) {
        // QEMU takes its options with one dash and with two.
        lines.push(`      "${command} ${option}"${option.startsWith("--") ? "" : ` | "${command} -${option}"`}) ${set(value)} ;;`);
      }
    }
    lines.push(`      "${command} "*) ${set({ words: [...options.map(({ option }) => option), ...operand.words], files: operand.files })} ;;`);
  }
  return `_viommu() {
  local words= files= word cur="\${COMP_WORDS[COMP_CWORD]}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='${all.map(({ command }) => command).join(" ")} --help --version'
  else
    case "\${COMP_WORDS[1]} \${COMP_WORDS[COMP_CWORD-1]}" in
${lines.join("\n")}
    esac
  fi
  COMPREPLY=()
  while IFS= read -r word; do
    if [ -n "$word" ]; then COMPREPLY+=("$word"); fi
  done < <(compgen -W "$words" -- "$cur"; if [ -n "$files" ]; then compgen -f -- "$cur"; fi)
}
complete -o filenames -F _viommu viommu
`;
}

function fish(all: readonly Completion[]): string {
  const quoted = (text: string): string => `'${text.replace(/[\\']/g, "\\$&")}'`;
  const given = ({ words, files }: Place): string => `${files ? " -rF" : " -x"}${words.length > 0 ? ` -a ${quoted(words.join(" "))}` : ""}`;
  const lines = ["complete -c viommu -f", "complete -c viommu -n __fish_use_subcommand -l help", "complete -c viommu -n __fish_use_subcommand -s V -l version"];
  for (const { command, description, options, operand } of all) {
    const inside = `complete -c viommu -n ${quoted(`__fish_seen_subcommand_from ${command}`)}`;
    lines.push(`complete -c viommu -n __fish_use_subcommand -a ${command} -d ${quoted(description)}`);
    lines.push(...(operand.words.length > 0 ? [`${inside} -a ${quoted(operand.words.join(" "))}`] : []), ...(operand.files ? [`${inside} -F`] : []));
    for (const { option, description: text, value } of options) {
      const name = option.startsWith("--") ? `-l ${option.slice(2)}` : `${option.length === 2 ? "-s" : "-o"} ${option.slice(1)}`;
      lines.push(`${inside} ${name}${value === null ? "" : given(value)} -d ${quoted(text)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
