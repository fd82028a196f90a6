/**
 * Argument files: a command line as a shell would take it, over several lines. Comments (`#` at the start
 * of a word), continuations (`\` at a line's end, and simply the next line), single and double quotes.
 */
import { Refusal } from "../../support/index.js";
import { BOARD_KINDS, boardTraits } from "./boards.js";

/** Splits a file's text into words. @throws Refusal with the line number */
export function splitWords(text: string, name = "arguments"): string[] {
  const words: string[] = [];
  let word = "";
  let inWord = false;
  let line = 1;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "\n") {
      line++;
    }
    if (c === "\\") {
      const next = text[i + 1];
      if (next === "\n" || (next === "\r" && text[i + 2] === "\n")) {
        i += next === "\r" ? 2 : 1;
        line++;
      } else if (next === undefined) {
        throw new Refusal(`${name}:${line}: a backslash at the end of the file continues nothing`);
      } else {
        word += next;
        inWord = true;
        i++;
      }
    } else if (c === "'" || c === '"') {
      const opened = line;
      inWord = true;
      for (i++; ; i++) {
        if (i >= text.length) {
          throw new Refusal(`${name}:${opened}: the quote ${c} is not closed`, { wouldWork: `a second ${c}` });
        }
        if (text[i] === "\n") {
          line++;
        }
        if (text[i] === c) {
          break;
        }
        if (c === '"' && text[i] === "\\" && i + 1 < text.length && '"\\$`\n'.includes(text[i + 1])) {
          i++;
          if (text[i] === "\n") {
            line++;
            continue;
          }
        }
        word += text[i];
      }
    } else if (/\s/.test(c)) {
      if (inWord) {
        words.push(word);
        word = "";
        inWord = false;
      }
    } else if (c === "#" && !inWord) {
      while (i + 1 < text.length && text[i + 1] !== "\n") {
        i++;
      }
    } else {
      word += c;
      inWord = true;
    }
  }
  if (inWord) {
    words.push(word);
  }
  return words;
}

const PROGRAM = /^(?:.*\/)?(?:qemu-system-(.+)|qemu-kvm)$/;

/**
 * Drops what stands before the options of a pasted command line: environment settings, `sudo`, `exec`,
 * `$`, and the program's name.
 */
export function dropProgram(words: readonly string[]): string[] {
  let at = 0;
  while (at < words.length && /^(?:[A-Za-z_][A-Za-z0-9_]*=.*|sudo|exec|env|\$)$/.test(words[at])) {
    at++;
  }
  if (at >= words.length) {
    return words.slice();
  }
  const program = PROGRAM.exec(words[at]);
  if (program === null) {
    return words.slice();
  }
  if (program[1] !== undefined && !BOARD_KINDS.some((kind) => boardTraits[kind].architecture === program[1])) {
    throw new Refusal(`${words[at]} is not a machine that viommu has`, {
      found: `architecture ${program[1]}`,
      wouldWork: BOARD_KINDS.map((kind) => `qemu-system-${boardTraits[kind].architecture} -machine ${boardTraits[kind].alias}`).join(", "),
    });
  }
  return words.slice(at + 1);
}
