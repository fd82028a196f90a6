/** A command line as options with their places in a text, and changes of them as changes of that text. */
import { deviceModels, dropProgram, type LocatedWord, optionRules } from "../machine/arguments/index.js";
import { attributeRange, isXml } from "./domain-xml.js";
import { type EditedText, offsetOf, type TextEdit } from "./edited-text.js";
import { findProperty, propertiesIn, renameIn, setIn, type Splice, unsetIn } from "./option-text.js";
import { quoted, replacement, shellWordAt, type ShellWord } from "./shell-word.js";
import { xmlEdits } from "./xml-mend.js";

export interface LineOption {
  /** Without its dashes. */
  readonly name: string;
  /** "" for a flag. */
  readonly value: string;
  /** Index of the option's word among the words of the text. */
  readonly word: number;
  /** Index of its argument's word; null: a flag. */
  readonly argument: number | null;
}

/** What is pointed at: an option, or one of its properties. */
export interface Spot {
  /** Index among the line's options. */
  readonly option: number;
  readonly property?: string;
}

/** A step of a mend, in words of the command line: what an input of another form makes of it is that form's. */
export type Change =
  | { readonly kind: "set"; readonly option: number; readonly property: string; readonly value: string }
  | { readonly kind: "unset"; readonly option: number; readonly property: string }
  | { readonly kind: "rename"; readonly option: number; readonly property: string; readonly to: string }
  | { readonly kind: "remove"; readonly option: number }
  /** New options before one that is there. */
  | { readonly kind: "insert"; readonly before: number; readonly options: ReadonlyArray<readonly [name: string, value: string]> };

export type Mend = readonly Change[];

/** What a first part of an argument without `=` is the value of. */
const IMPLIED: Readonly<Record<string, string>> = { device: "driver", object: "qom-type", machine: "type", M: "type", accel: "accel", m: "size", numa: "type", smp: "cpus", chardev: "backend" };

export function impliedKey(option: string): string | null {
  return IMPLIED[option] ?? null;
}

export class Line {
  readonly options: readonly LineOption[];
  private readonly shellWords = new Map<number, ShellWord>();

  /** @param words of the text, in its order */
  constructor(
    readonly text: EditedText,
    readonly words: readonly LocatedWord[],
  ) {
    this.options = optionsOf(words);
  }

  /** The option of a word, its own or its argument's; null: none. */
  optionOfWord(word: number): number | null {
    const index = this.options.findIndex((one) => [one.word, one.argument].some((at) => at !== null && this.words[at].index === word));
    return index < 0 ? null : index;
  }

  /** Value of a property as it was said; undefined: it was not. */
  said(option: number, property: string): string | undefined {
    const { name, value } = this.options[option];
    const found = findProperty(value, impliedKey(name), property);
    return found === undefined ? undefined : value.slice(found.valueStart, found.end).replace(/^"(.*)"$/s, "$1");
  }

  properties(option: number): string[] {
    const { name, value } = this.options[option];
    return propertiesIn(value, impliedKey(name)).map((one) => one.name);
  }

  /** Offsets in the text of what a spot is about: the option with its argument, or the property. */
  range({ option, property }: Spot): { start: number; end: number } {
    const { name, value, word, argument } = this.options[option];
    if (isXml(this.text.text)) {
      const shell = this.shellWord(word);
      return (property === undefined ? null : attributeRange(this.text.text, shell.start, property)) ?? { start: shell.start, end: shell.end };
    }
    const found = property === undefined || argument === null ? undefined : findProperty(value, impliedKey(name), property);
    if (found === undefined) {
      return { start: this.shellWord(word).start, end: this.shellWord(argument ?? word).end };
    }
    const shell = this.shellWord(argument!);
    if (shell.value !== value) {
      return { start: shell.start, end: shell.end };
    }
    const end = shell.ends[found.end - 1] ?? shell.end;
    // Quotes around the value alone end with it.
    const quote = shell.quotes[found.end - 1];
    const closes = quote !== "" && quote !== shell.quotes[found.start] && this.text.text[end] === quote;
    return { start: shell.places[found.start] ?? shell.start, end: closes ? end + 1 : end };
  }

  /** The words of the line, without the options that are left out. */
  wordsBut(left: ReadonlySet<number>): LocatedWord[] {
    const out = new Set([...left].flatMap((option) => [this.options[option].word, this.options[option].argument]));
    return this.words.filter((_word, index) => !out.has(index));
  }

  /** The text with a mend's changes done; null: a word does not stand there as it is read, and cannot be changed. */
  with(mend: Mend): EditedText | null {
    if (isXml(this.text.text)) {
      const edits = xmlEdits({ text: this.text.text, options: this.options, startOf: (option) => this.shellWord(this.options[option].word).start, said: (option, property) => this.said(option, property) }, mend);
      return edits === null ? null : this.text.with(edits);
    }
    const touched = mend.flatMap((change) => {
      const { word, argument } = this.options[change.kind === "insert" ? change.before : change.option];
      return change.kind === "insert" ? [word] : [word, ...(argument === null ? [] : [argument])];
    });
    return touched.every((word) => this.shellWord(word).value === this.words[word].text) ? this.text.with(this.edits(mend)) : null;
  }

  private edits(mend: Mend): TextEdit[] {
    const edits: TextEdit[] = [];
    const splices = new Map<number, Splice[]>();
    for (const change of mend) {
      if (change.kind === "insert") {
        edits.push(this.insertion(change.before, change.options));
      } else if (change.kind === "remove") {
        edits.push(this.removal(change.option));
      } else {
        splices.set(change.option, [...(splices.get(change.option) ?? []), ...this.splices(change)]);
      }
    }
    return [...edits, ...[...splices].flatMap(([option, all]) => this.spliced(option, all))];
  }

  private splices(change: Extract<Change, { property: string }>): Splice[] {
    const { name, value } = this.options[change.option];
    const implied = impliedKey(name);
    switch (change.kind) {
      case "set":
        return [setIn(value, implied, change.property, change.value, this.json(change.option, change.property, change.value))];
      case "unset":
        return unsetIn(value, implied, change.property);
      case "rename":
        return renameIn(value, implied, change.property, change.to);
    }
  }

  /** A value as the JSON form of an option has it: by the type of the device's property. */
  private json(option: number, property: string, value: string): string {
    const driver = this.said(option, "driver");
    const type = driver === undefined ? undefined : deviceModels.get(driver)?.properties.get(property)?.type;
    if (type === "bool") {
      return String(value === "on");
    }
    return type !== undefined && /^u?int\d+$|^size$/.test(type) && /^\d+$/.test(value) ? value : JSON.stringify(value);
  }

  private spliced(option: number, splices: readonly Splice[]): TextEdit[] {
    const { argument, value } = this.options[option];
    const word = this.shellWord(argument!);
    // A part that quotes begin or end in is written anew with all of its word.
    const plain = splices.every(({ start, end }) => new Set(word.quotes.slice(Math.max(start - 1, 0), Math.max(end + 1, 1))).size <= 1);
    if (plain) {
      return splices.map(({ start, end, text }) => replacement(word, start, end, text));
    }
    const ordered = [...splices].sort((one, other) => one.start - other.start);
    let at = 0;
    const anew = ordered.map(({ start, end, text }) => {
      const part = value.slice(at, start) + text;
      at = end;
      return part;
    });
    return [{ start: word.start, end: word.end, text: quoted(anew.join("") + value.slice(at)) }];
  }

  private insertion(before: number, options: ReadonlyArray<readonly [string, string]>): TextEdit {
    const at = this.range({ option: before }).start;
    const separator = this.separatorBefore(before);
    return { start: at, end: at, text: options.map(([name, value]) => `-${name} ${quoted(value)}${separator}`).join("") };
  }

  /** How options are parted where this one begins: a blank, or a line's end with a backslash or without, and an indent. */
  private separatorBefore(option: number): string {
    const { text } = this.text;
    const { start } = this.range({ option });
    const { word } = this.options[option];
    const between = word === 0 ? "" : text.slice(this.shellWord(word - 1).end, start);
    const lineStart = text.lastIndexOf("\n", start - 1) + 1;
    const indent = text.slice(lineStart, start);
    if (!between.includes("\n") || indent.trim() !== "") {
      return " ";
    }
    return `${/\\\r?\n/.test(between) ? " \\" : ""}\n${indent}`;
  }

  /** Takes out the option; with its line where it is alone there. */
  private removal(option: number): TextEdit {
    const { text } = this.text;
    const { start, end } = this.range({ option });
    const lineStart = text.lastIndexOf("\n", start - 1) + 1;
    const rest = /^[ \t]*(?:\\[ \t]*)?(?:\r?\n|$)/.exec(text.slice(end))?.[0];
    if (text.slice(lineStart, start).trim() === "" && rest !== undefined && (rest.includes("\\") || !/\\\r?\n$/.test(text.slice(0, lineStart)))) {
      return { start: lineStart, end: end + rest.length, text: "" };
    }
    // The blanks before it go with it, and a line's end that led to it where nothing follows.
    const before = text.slice(0, start);
    const kept = rest === undefined ? before.trimEnd().length : before.replace(/(?:\s|\\\r?\n)+$/, "").length;
    return { start: rest === undefined && /\n\s*$/.test(before) ? start : kept, end: rest === undefined && /\n\s*$/.test(before) ? end + /^[ \t]*/.exec(text.slice(end))![0].length : end, text: "" };
  }

  private shellWord(index: number): ShellWord {
    let word = this.shellWords.get(index);
    if (word === undefined) {
      const { line, column } = this.words[index];
      word = shellWordAt(this.text.text, offsetOf(this.text.text, line ?? 1, column ?? 1));
      this.shellWords.set(index, word);
    }
    return word;
  }
}

function optionsOf(words: readonly LocatedWord[]): LineOption[] {
  let first: number;
  try {
    first = words.length - dropProgram(words).length;
  } catch {
    // A program that is refused is told by who reads the arguments.
    first = Math.max(words.findIndex(({ text }) => text.startsWith("-")), 0);
  }
  const options: LineOption[] = [];
  for (let at = first; at < words.length; at++) {
    const { text } = words[at];
    if (text.startsWith("-") && text !== "-") {
      const name = text.replace(/^--?/, "");
      const takes = (optionRules.get(name)?.argument ?? false) && at + 1 < words.length;
      options.push({ name, value: takes ? words[at + 1].text : "", word: at, argument: takes ? ++at : null });
    }
  }
  return options;
}
