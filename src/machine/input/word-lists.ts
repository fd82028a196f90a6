/** Words that nobody need split: /proc/PID/cmdline, and a list of strings in JSON. */
import type { LocatedWord } from "../arguments/index.js";
import type { InputForm } from "./recognise.js";

function listOf(text: string): string[] | null {
  if (text.includes("\0")) {
    return text.replace(/\0+\s*$/, "").split("\0");
  }
  try {
    const list = JSON.parse(text) as unknown;
    return Array.isArray(list) && list.every((one) => typeof one === "string") ? list : null;
  } catch {
    return null;
  }
}

export const readWordList: InputForm = {
  name: "list of words",
  recognises: (text) => (text.includes("\0") || text.trimStart().startsWith("[")) && listOf(text) !== null,
  read: (text, source) => ({
    words: listOf(text)!.map((word, index): LocatedWord => ({ text: word, source, line: 1, column: 1, index })),
    findings: [],
  }),
};
