/**
 * A command line as text: a file of arguments, libvirt's log, what ps and `qm showcmd` print, a mail. Of several
 * commands the last one counts.
 */
import type { Finding } from "../../support/index.js";
import { commandHead, type LocatedWord, optionRules, splitLocatedWords, type SplitWord } from "../arguments/index.js";
import { keysOfBareJson, mendJson } from "./json-words.js";
import type { RecognisedInput } from "./recognise.js";
import { beginsCommand, type Skipped, type SourceLine, sourceLines, withoutMessages, withoutPrompts, withoutQuoting, withoutRootPrompt } from "./source-lines.js";

/** Columns of a line that somebody may have broken. */
const WRAPPED = 60;
const SHOWN = 60;

export function readCommandText(text: string, name: string): RecognisedInput {
  const findings: Finding[] = [];
  const note = (rule: string, line: number, words: string, shown: string): void => {
    const short = shown.length > SHOWN ? `${shown.slice(0, SHOWN)}...` : shown;
    findings.push({ level: "note", rule, words: `${name}:${line}: ${words}`, place: { source: name, line, column: 1, word: null, text: short } });
  };
  const quoting = withoutQuoting(sourceLines(text));
  if (quoting.quoted) {
    note("quoted-mail", quoting.lines.find(({ column }) => column > 1)!.line, "a mail's marks of quoting are left out", ">");
  }
  const messages = withoutMessages(quoting.lines);
  const prompts = withoutPrompts(withoutRootPrompt(messages.lines));
  const command = lastCommand(prompts.lines);
  if (command.others > 0) {
    note("several-commands", command.lines[0].line, `the last of ${command.others + 1} commands is taken`, command.lines[0].text);
  }
  const inCommand = new Set(command.lines.map(({ line }) => line));
  const skipped = [...messages.skipped, ...prompts.skipped.filter(({ line }) => inCommand.has(line)), ...command.skipped].sort((a, b) => a.line - b.line);
  for (const { first, last, why, shown } of runs(skipped)) {
    note("skipped", first, `${first === last ? why : `lines ${first} to ${last}, ${why},`} ${first === last ? "is" : "are"} skipped${why.includes("libvirt") && messages.versions !== null ? ` (${messages.versions})` : ""}`, shown);
  }
  const body = command.lines.map((line) => line.text).join("\n").replace(/\\\s*$/, "");
  const blanks = command.lines.find((line) => /\\[ \t]+\r?$/.test(line.text));
  if (blanks !== undefined) {
    note("blank-after-backslash", blanks.line, "a backslash with blanks behind it is taken for one at the line's end", blanks.text);
  }
  const words = joinBroken(splitLocatedWords(body, name, command.lines), body, (word, last) => note("broken-word", word.line!, `a word that is broken over lines ${word.line!} and ${last} is taken as one`, word.text));
  return { words: words.map((word, index) => ({ ...plain(word, note), index })), findings };
}

/** A word without its offsets, its JSON mended. */
function plain({ text, source, line, column, index }: SplitWord, note: (rule: string, line: number, words: string, shown: string) => void): LocatedWord {
  const keys = keysOfBareJson(text);
  if (keys !== null) {
    note("json-without-quotes", line!, "JSON that has lost its quotes is read as name=value", text);
  }
  return { text: keys ?? mendJson(text), source, line, column, index };
}

/** Neighbours of one kind as one. */
function runs(skipped: readonly Skipped[]): Array<{ first: number; last: number; why: string; shown: string }> {
  const found: Array<{ first: number; last: number; why: string; shown: string }> = [];
  for (const { line, why, text } of skipped) {
    const before = found.at(-1);
    if (before !== undefined && before.why === why && before.last >= line - 1) {
      before.last = line;
    } else {
      found.push({ first: line, last: line, why, shown: text });
    }
  }
  return found;
}

/** The lines of the last command; all there are, where no program is named. */
function lastCommand(lines: readonly SourceLine[]): { lines: readonly SourceLine[]; skipped: Skipped[]; others: number } {
  const continued = (index: number): boolean => index > 0 && /\\[ \t\r]*$/.test(lines[index - 1].text);
  const begins = lines.flatMap((_, index) => (!continued(index) && startsHere(lines, index) ? [index] : []));
  const from = begins.at(-1);
  if (from === undefined) {
    return { lines, skipped: [], others: 0 };
  }
  // An empty line and then text that is no option: the mail goes on.
  let to = lines.findIndex((line, index) => index > from && line.text.trim() === "" && !continued(index) && isProse(lines.slice(index + 1)));
  to = to < 0 ? lines.length : to;
  const signature = lines.findIndex(({ text }, index) => index > from && /^-- ?\r?$/.test(text));
  to = signature >= 0 && signature < to ? signature : to;
  const isText = ({ text }: SourceLine): boolean => text.trim() !== "" && !text.trimStart().startsWith("#");
  const skip = (some: readonly SourceLine[], why: string): Skipped[] => some.filter(isText).map(({ line, text }) => ({ line, text, why }));
  return {
    lines: lines.slice(from, to),
    skipped: [...skip(lines.slice(0, from), "what stands before the command"), ...skip(lines.slice(to), "what stands behind the command")],
    others: begins.length - 1,
  };
}

function isProse(lines: readonly SourceLine[]): boolean {
  const next = lines.find(({ text }) => text.trim() !== "");
  return next !== undefined && !/^\s*[-#'"]/.test(next.text);
}

/** A command begins on this line, or with the settings of the environment on this line and the next ones. */
function startsHere(lines: readonly SourceLine[], index: number): boolean {
  let text = lines[index].text;
  for (let next = index + 1; next < lines.length && /\\[ \t\r]*$/.test(text) && next < index + 40; next++) {
    text = `${text.replace(/\\[ \t\r]*$/, "")} ${lines[next].text}`;
    if (/\s-/.test(lines[next].text) || /^-/.test(lines[next].text)) {
      break;
    }
  }
  return beginsCommand(text.replace(/\\[ \t\r]*$/, ""));
}

/** Joins words that a mail has broken at its edge: no option, at the beginning of a line behind a long one. */
function joinBroken(words: readonly SplitWord[], text: string, tell: (word: SplitWord, line: number) => void): SplitWord[] {
  const joined: SplitWord[] = [];
  const head = commandHead(words.map((word) => word.text)).length;
  const broken = (before: SplitWord, word: SplitWord): boolean => {
    const between = text.slice(before.end, word.start);
    const lineStart = text.lastIndexOf("\n", before.end - 1) + 1;
    return /^\r?\n[ \t]*$/.test(between) && before.end - lineStart >= WRAPPED;
  };
  const isOption = (word: string): boolean => word.startsWith("-") && optionRules.has(word.replace(/^--?/, ""));
  let wantsArgument = false;
  words.forEach((word, index) => {
    const before = joined.at(-1);
    const free = index > head && !wantsArgument && !isOption(word.text);
    const whole = before === undefined ? "" : `${before.text}${word.text}`;
    const halves = before !== undefined && before.text.startsWith("-") && !isOption(before.text) && isOption(whole);
    if (before !== undefined && broken(before, word) && (halves || (free && joined.length > head))) {
      tell(before, word.line!);
      joined[joined.length - 1] = { ...before, text: whole, end: word.end };
      wantsArgument = halves && optionRules.get(whole.replace(/^--?/, ""))!.argument;
      return;
    }
    joined.push(word);
    wantsArgument = index >= head && !wantsArgument && isOption(word.text) && optionRules.get(word.text.replace(/^--?/, ""))!.argument;
  });
  return joined;
}
