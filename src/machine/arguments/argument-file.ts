/**
 * Argument files: a command line as a shell would take it, over several lines. Comments (`#` at the start
 * of a word), continuations (`\` at a line's end, and simply the next line), single and double quotes.
 */
import { Refusal } from "../../support/index.js";
import { BOARD_KINDS, boardTraits } from "./boards.js";
import type { LocatedWord } from "./located-words.js";

/** Splits a file's text into words. @throws Refusal with the line number */
export function splitWords(text: string, name = "arguments"): string[] {
  return splitLocatedWords(text, name).map((word) => word.text);
}

/** Splits a file's text into words that know where they stand. @throws Refusal with the line number */
export function splitLocatedWords(text: string, name = "arguments"): LocatedWord[] {
  const words: LocatedWord[] = [];
  let word = "";
  let line = 1;
  let lineStart = 0;
  /** Where the word that is being read began; null: there is none. */
  let begun: { readonly line: number; readonly column: number } | null = null;
  const begin = (at: number): void => {
    begun ??= { line, column: at - lineStart + 1 };
  };
  const newLine = (at: number): void => {
    line++;
    lineStart = at + 1;
  };
  const end = (): void => {
    if (begun !== null) {
      words.push({ text: word, source: name, ...begun, index: words.length });
      word = "";
      begun = null;
    }
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\\") {
      const next = text[i + 1];
      if (next === "\n" || (next === "\r" && text[i + 2] === "\n")) {
        i += next === "\r" ? 2 : 1;
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
    } else if (/\s/.test(c)) {
      end();
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
  end();
  return words;
}

const PROGRAM = /^(?:.*\/)?(?:qemu-system-(.+)|qemu-kvm)$/;

/**
 * Drops what stands before the options of a pasted command line: environment settings, `sudo`, `exec`,
 * `$`, and the program's name.
 * @throws Refusal where it is the program of a machine that is not here
 */
export function dropProgram<W extends string | LocatedWord>(words: readonly W[]): W[] {
  const text = (word: W): string => (typeof word === "string" ? word : word.text);
  let at = 0;
  while (at < words.length && /^(?:[A-Za-z_][A-Za-z0-9_]*=.*|sudo|exec|env|\$)$/.test(text(words[at]))) {
    at++;
  }
  if (at >= words.length) {
    return words.slice();
  }
  const program = PROGRAM.exec(text(words[at]));
  if (program === null) {
    return words.slice();
  }
  if (program[1] !== undefined && !BOARD_KINDS.some((kind) => boardTraits[kind].architecture === program[1])) {
    throw new Refusal(`${text(words[at])} is not a machine that viommu has`, {
      found: `architecture ${program[1]}`,
      wouldWork: BOARD_KINDS.map((kind) => `qemu-system-${boardTraits[kind].architecture} -machine ${boardTraits[kind].alias}`).join(", "),
    });
  }
  return words.slice(at + 1);
}
