import { type LocatedWord, locateWords, splitLocatedWords } from "../machine/arguments/index.js";
import { readTextFile, Refusal } from "../support/index.js";

/**
 * The machine's arguments of a command: words after `--`, or one file that holds them. A file's name is told
 * from an option by its first letter.
 */
export function machineWords(words: readonly string[]): LocatedWord[] {
  const [first] = words;
  if (first === undefined) {
    throw new Refusal("no machine arguments", { wouldWork: "viommu run FILE.args, or viommu run -- -machine virt ..." });
  }
  const isProgram = /(?:^|\/)qemu-system-[^/]*$|(?:^|\/)qemu-kvm$/.test(first);
  if (first.startsWith("-") || isProgram || /^[A-Za-z_][A-Za-z0-9_]*=/.test(first)) {
    return locateWords(words);
  }
  const ofFile = splitLocatedWords(readTextFile(first, "a file of machine arguments"), first);
  return [...ofFile, ...locateWords(words.slice(1)).map((word) => ({ ...word, index: ofFile.length + word.index }))];
}
