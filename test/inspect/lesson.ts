/** A lesson's machine with its inspector. */
import { loadLesson } from "../../src/inspect/lessons/index.js";
import { locateWords, parseArguments } from "../../src/machine/arguments/index.js";
import { recognise } from "../../src/machine/input/index.js";
import { defaultHost } from "../../src/run/index.js";
import { readTextFile } from "../../src/support/index.js";
import { serve, type Served, type ServedOptions } from "./served.js";

/** Of a file of arguments, and the host that is the default for it. */
export function fileOfArguments(file: string): { readonly words: string[]; readonly host: string } {
  const words = recognise(readTextFile(file, "a file of machine arguments"), file).words.map(({ text }) => text);
  return { words, host: defaultHost(parseArguments({ words: locateWords(words), findings: [] })) };
}

/** Resolves when the lesson's guest has ended. */
export async function serveLesson(name: string, options: Pick<ServedOptions, "page" | "wrap">): Promise<Served> {
  const { machine, guest, host } = await loadLesson(name);
  const found = fileOfArguments(machine);
  return serve({ arguments: found.words, host: host ?? found.host, guest, ...options });
}
