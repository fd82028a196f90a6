/** Lines of a text with their places, and what stands around a command line in logs, mails and terminals. */
import { commandHead, isProgram } from "../arguments/index.js";

export interface SourceLine {
  readonly text: string;
  /** In the text, from 1. */
  readonly line: number;
  /** Of the first character, from 1. */
  readonly column: number;
}

/** What was left out, and why. */
export interface Skipped {
  readonly line: number;
  readonly text: string;
  readonly why: string;
}

export function sourceLines(text: string): SourceLine[] {
  return text.split("\n").map((one, index) => ({ text: one, line: index + 1, column: 1 }));
}

function cut(line: SourceLine, length: number): SourceLine {
  return { text: line.text.slice(length), line: line.line, column: line.column + length };
}

const QUOTE = /^(?:[>|] ?)+/;

/** Takes a mail's marks of quoting away, where most lines have them. */
export function withoutQuoting(lines: readonly SourceLine[]): { lines: SourceLine[]; quoted: boolean } {
  const said = lines.filter(({ text }) => text.trim() !== "");
  const marked = said.filter(({ text }) => text.startsWith(">"));
  if (marked.length === 0 || marked.length * 2 <= said.length) {
    return { lines: [...lines], quoted: false };
  }
  return { lines: lines.map((line) => cut(line, line.text.startsWith(">") ? QUOTE.exec(line.text)![0].length : 0)), quoted: true };
}

const TIME = String.raw`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?`;
/** Lines of programs around QEMU's, and its own messages. The first that matches speaks. */
const MESSAGES: ReadonlyArray<{ readonly is: RegExp; readonly why: string }> = [
  { is: new RegExp(`^${TIME}:? starting up libvirt version`), why: "the first line of libvirt's log" },
  { is: new RegExp(`^${TIME}:? (?:shutting down|Domain id=|\\w+ing)`), why: "libvirt's log" },
  { is: new RegExp(`^(?:\\[)?${TIME}`), why: "a message" },
  { is: /^char device (?:redirected|compat_\w+ redirected)/, why: "a message of QEMU" },
  { is: /^(?:\S*\/)?(?:qemu-system-[a-z0-9_-]+|qemu-kvm|qemu|kvm)(?:\.real)?: /, why: "a message of QEMU" },
  { is: /^(?:libvirt: |error : |\(process:\d+\)|\*\* |main-loop: |Spice-|spice-|\(qemu|ALSA lib|pulseaudio:|audio: |vnc: |xcb_|Gtk-|\[\s*\d+\.\d+\] )/, why: "a message" },
  { is: /^(?:terminating on signal|Domain .* (?:destroyed|started)|profiling:\/)/, why: "a message" },
  { is: /^\s*(?:```|~~~)/, why: "a mark of text" },
  { is: /^\s*(?:F\s+S\s+UID|F\s+UID|UID|USER|PID|PPID)\s+(?:\S+\s+)*(?:CMD|COMMAND|ARGS)\s*$/, why: "the heading of ps" },
  { is: /^\s*\S+\s+\d+\s.*\bgrep\b/, why: "another process" },
];

/** Takes lines out that are no part of any command, and reads the versions that libvirt's log tells of. */
export function withoutMessages(lines: readonly SourceLine[]): { lines: SourceLine[]; skipped: Skipped[]; versions: string | null } {
  const left: SourceLine[] = [];
  const skipped: Skipped[] = [];
  let versions: string | null = null;
  for (const line of lines) {
    const message = MESSAGES.find(({ is }) => is.test(line.text));
    if (message === undefined) {
      left.push(line);
      continue;
    }
    const [, libvirt, qemu] = /starting up libvirt version: ([\w.]+),.*qemu version: (\d[\d.]*\d)/.exec(line.text) ?? [];
    versions = libvirt === undefined ? versions : `libvirt ${libvirt}, QEMU ${qemu}`;
    skipped.push({ line: line.line, text: line.text, why: message.why });
  }
  return { lines: left, skipped, versions };
}

/** Length of what stands before a command on its line: columns of ps, a prompt; 0: nothing, or no command. */
function lengthBefore(text: string): number {
  const words = [...text.matchAll(/\S+/g)];
  // What is followed by no option is a user's name, or a word of a text.
  const at = words.findIndex(([word], index) => isProgram(word) && !words[index - 1]?.[0].startsWith("-") && /^(?:-|\\$|$)/.test(words[index + 1]?.[0] ?? ""));
  if (at <= 0) {
    return 0;
  }
  // A prompt ends where a command with what starts it begins.
  for (let from = 0; from <= at; from++) {
    const before = words.slice(0, from).map(([word]) => word);
    const command = words.slice(from).map(([word]) => word);
    if (commandHead(command).length === at - from + 1) {
      const isPrompt = before.every((word) => !word.startsWith("-"));
      return isPrompt && from > 0 ? words[from].index : 0;
    }
  }
  return 0;
}

/** Takes what ps and terminals write before a command off its line. */
export function withoutPrompts(lines: readonly SourceLine[]): { lines: SourceLine[]; skipped: Skipped[] } {
  const skipped: Skipped[] = [];
  const left = lines.map((line) => {
    const length = line.text.trimStart().startsWith("#") ? 0 : lengthBefore(line.text);
    if (length === 0) {
      return line;
    }
    skipped.push({ line: line.line, text: line.text.slice(0, length).trim(), why: "what stands before the command" });
    return cut(line, length);
  });
  return { lines: left, skipped };
}

/** The line begins a command: a program with what starts it. */
export function beginsCommand(text: string): boolean {
  const words = text.split(/\s+/).filter((word) => word !== "");
  return words[0] !== "#" && commandHead(words).length > 0;
}

/** The prompt of root, where it would be a comment and no other line has a command or an option. */
export function withoutRootPrompt(lines: readonly SourceLine[]): SourceLine[] {
  const said = lines.filter(({ text }) => text.trim() !== "" && !text.trimStart().startsWith("#"));
  const at = lines.findIndex(({ text }) => /^\s*#\s+\S/.test(text) && beginsCommand(text.replace(/^\s*#\s+/, "")));
  if (at < 0 || said.some(({ text }) => beginsCommand(text))) {
    return [...lines];
  }
  const inOne = !lines[at].text.trimEnd().endsWith("\\");
  const standsAlone = said.length === 0 || (!inOne && said.every(({ line }) => line > lines[at].line));
  return standsAlone ? lines.map((line, index) => (index === at ? cut(line, /^\s*#\s+/.exec(line.text)![0].length) : line)) : [...lines];
}
