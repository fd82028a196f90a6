import { describeArgument, parseArguments, type MachineArguments, optionRules } from "../machine/arguments/index.js";
import { Refusal } from "../support/index.js";
import { lineAndColumn } from "./edited-text.js";
import { shellWordAt } from "./shell-word.js";

export interface Place { readonly source: string; readonly line: number | null; readonly column: number | null; readonly word: number | null; readonly text: string; readonly property?: string }
export interface Finding { readonly level: "error" | "warning" | "note"; readonly rule: string; readonly words: string; readonly found?: string; readonly wouldWork?: string; readonly place: Place | null }
export interface LocatedWord { readonly text: string; readonly source: string; readonly line: number | null; readonly column: number | null; readonly index: number }

export function splitLocatedWords(text: string, source: string): LocatedWord[] {
  const words: LocatedWord[] = [];
  for (let at = 0; at < text.length; ) {
    const skip = /^(?:\s|\\\r?\n|#[^\n]*)+/.exec(text.slice(at));
    if (skip !== null) { at += skip[0].length; continue; }
    const word = shellWordAt(text, at);
    words.push({ text: word.value, source, ...lineAndColumn(text, at), index: words.length });
    at = word.end;
  }
  return words;
}

export function readArguments(words: readonly LocatedWord[]): { arguments: MachineArguments | null; findings: Finding[] } {
  try {
    return { arguments: parseArguments(words.map(({ text }) => text)), findings: [] };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const { rule = "refused", words: said, found, wouldWork, where } = error;
    let place: Place | null = null;
    for (const [i, w] of words.entries()) {
      const name = w.text.replace(/^--?/, "");
      const whole = optionRules.get(name)?.argument === true ? describeArgument(`-${name}`, words[i + 1]?.text ?? "") : w.text;
      if (w.text.startsWith("-") && (whole === where || said.startsWith(`${w.text}:`))) place ??= { source: w.source, line: w.line, column: w.column, word: w.index, text: whole };
    }
    return { arguments: null, findings: [{ level: "error", rule, words: said, found, wouldWork, place }] };
  }
}
