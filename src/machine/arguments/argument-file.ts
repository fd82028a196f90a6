/**
 * Argument files: a command line as a shell would take it, over several lines. Comments (`#` at the start
 * of a word), continuations (`\` at a line's end, and simply the next line), single and double quotes.
 */
import { Refusal } from "../../support/index.js";
import type { LocatedWord } from "./located-words.js";

/** Splits a file's text into words. @throws Refusal with the line number */
export function splitWords(text: string, name = "arguments"): string[] {
  return splitLocatedWords(text, name).map((word) => word.text);
}

export interface SplitWord extends LocatedWord {
  /** Offsets of its first character and behind its last in the text that was split. */
  readonly start: number;
  readonly end: number;
}

/**
 * Splits a file's text into words that know where they stand.
 * @param lines where the text's lines stand in the file, from 1, where that is not said by their order
 * @throws Refusal with the line number
 */
export function splitLocatedWords(text: string, name = "arguments", lines?: ReadonlyArray<{ readonly line: number; readonly column: number }>): SplitWord[] {
  const words: SplitWord[] = [];
  let word = "";
  let lineIndex = 0;
  let line = lines?.[0]?.line ?? 1;
  let lineStart = 0;
  /** Where the word that is being read began; null: there is none. */
  let begun: { readonly line: number; readonly column: number; readonly start: number } | null = null;
  const begin = (at: number): void => {
    begun ??= { line, column: at - lineStart + (lines?.[lineIndex]?.column ?? 1), start: at };
  };
  const newLine = (at: number): void => {
    lineIndex++;
    line = lines?.[lineIndex]?.line ?? line + 1;
    lineStart = at + 1;
  };
  const end = (at: number): void => {
    if (begun !== null) {
      words.push({ text: word, source: name, ...begun, index: words.length, end: at });
      word = "";
      begun = null;
    }
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\\") {
      const next = text[i + 1];
      // A shell would take a blank behind the backslash for a word; nobody means that.
      const continued = /^\\[ \t\r]*\n/.exec(text.slice(i, i + 256));
      if (continued !== null) {
        i += continued[0].length - 1;
        if (continued[0].length > 2 && !/^\\\r?\n/.test(continued[0])) {
          end(i);
        }
        newLine(i);
      } else if (next === undefined) {
        throw new Refusal(`${name}:${line}: a backslash at the end of the file continues nothing`);
      } else {
        begin(i);
        word += next;
        i++;
      }
    } else if (c === "'" || c === '"') {
      const opened = line;
      begin(i);
      for (i++; ; i++) {
        if (i >= text.length) {
          throw new Refusal(`${name}:${opened}: the quote ${c} is not closed`, { wouldWork: `a second ${c}` });
        }
        if (text[i] === "\n") {
          newLine(i);
        }
        if (text[i] === c) {
          break;
        }
        if (c === '"' && text[i] === "\\" && i + 1 < text.length && '"\\$`\n'.includes(text[i + 1])) {
          i++;
          if (text[i] === "\n") {
            newLine(i);
            continue;
          }
        }
        word += text[i];
      }
    } else if (c === "{" && begun === null && (jsonEnd(text, i) ?? 0) > 0) {
      // As ps shows it: a shell has taken the quotes around it.
      const last = jsonEnd(text, i)!;
      begin(i);
      for (; i < last; i++) {
        if (text[i] === "\n") {
          newLine(i);
        } else if (text[i] !== "\r") {
          word += text[i];
        }
      }
      i--;
    } else if (/\s/.test(c)) {
      end(i);
      if (c === "\n") {
        newLine(i);
      }
    } else if (c === "#" && begun === null) {
      while (i + 1 < text.length && text[i + 1] !== "\n") {
        i++;
      }
    } else {
      begin(i);
      word += c;
    }
  }
  end(text.length);
  return words;
}

/** The offset behind a JSON object that begins at an offset; null: there is none that ends. */
function jsonEnd(text: string, from: number): number | null {
  if (!/^\{\s*"/.test(text.slice(from, from + 64))) {
    return null;
  }
  let depth = 0;
  let quoted = false;
  for (let i = from; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      i += c === "\\" ? 1 : 0;
      quoted = c !== '"';
    } else if (c === '"') {
      quoted = true;
    } else if (c === "{" || c === "[") {
      depth++;
    } else if ((c === "}" || c === "]") && --depth === 0) {
      return i + 1;
    }
  }
  return null;
}
