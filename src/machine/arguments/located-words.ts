/** Words of an input that know where they stand. */
import type { Place } from "../../support/index.js";
import { describeArgument } from "./option-string.js";

export interface LocatedWord {
  readonly text: string;
  /** A file's name, or "command line". */
  readonly source: string;
  /** From 1; null: words that a shell gave. */
  readonly line: number | null;
  readonly column: number | null;
  /** Among the words of the input, from 0. */
  readonly index: number;
}

export const COMMAND_LINE = "command line";

/** Words of a command line as located ones; those that are located stay as they are. */
export function locateWords(words: ReadonlyArray<string | LocatedWord>): LocatedWord[] {
  return words.map((word, index) => (typeof word === "string" ? { text: word, source: COMMAND_LINE, line: null, column: null, index } : word));
}

/** The place of a word. @param text what stands there, where it is more than the word */
export function placeOf({ source, line, column, index, text: word }: LocatedWord, text = describeArgument("", word)): Place {
  return { source, line, column, word: index, text };
}
