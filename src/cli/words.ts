/** Which words of a command line are the command's, and which are QEMU's. */
import { commandHead, optionRules } from "../machine/arguments/index.js";
import { Refusal } from "../support/index.js";

/** Those that `viommu guest` has itself. */
const GUEST_OPTIONS = new Set(["-qtest", "-qmp"]);

/** Its port may be left out; a file that stands behind it is the machine's. */
const NO_PORT = "--inspect=0";

/**
 * Puts the `--` before a pasted command line where it was left out (`viommu run qemu-system-aarch64 -M virt`),
 * and options of QEMU that stand before it behind it, before the others.
 * @param ownOptions the command's own, with their dashes
 */
export function separate(words: readonly string[], ownOptions: ReadonlySet<string>): string[] {
  const takesMachine = words[0] !== "guest";
  const own: string[] = [];
  const moved: string[] = [];
  let at = 0;
  for (; at < words.length && words[at] !== "--" && !beginsCommand(words, at); at++) {
    const word = words[at];
    // QEMU takes its options with one dash and with two; what is written as one of ours is ours.
    const rule = takesMachine && word.startsWith("-") && !ownOptions.has(word) ? optionRules.get(word.replace(/^--?/, "")) : undefined;
    if (rule !== undefined) {
      moved.push(...words.slice(at, rule.argument ? at + 2 : at + 1));
      at += rule.argument ? 1 : 0;
    } else {
      own.push(words[0] === "guest" && GUEST_OPTIONS.has(word) ? `-${word}` : word === "--inspect" ? NO_PORT : word);
    }
  }
  const rest = words.slice(words[at] === "--" ? at + 1 : at);
  const head = commandHead(rest).length;
  if (takesMachine) {
    refuseOwn(words[0], rest.slice(head), ownOptions);
  }
  if (at >= words.length && moved.length === 0) {
    return own;
  }
  return [...own, "--", ...rest.slice(0, head), ...moved, ...rest.slice(head)];
}

/** QEMU's program, or what starts it, stands there; what is behind an option may be its value. */
function beginsCommand(words: readonly string[], at: number): boolean {
  return at > 0 && !words[at - 1].startsWith("--") && commandHead(words.slice(at)).length > 0;
}

/** An option of the command among QEMU's, which has none of that name. @throws Refusal */
function refuseOwn(command: string, words: readonly string[], ownOptions: ReadonlySet<string>): void {
  for (let i = 0; i < words.length; i++) {
    const rule = optionRules.get(words[i].replace(/^--?/, ""));
    if (words[i].startsWith("-") && rule !== undefined) {
      i += rule.argument ? 1 : 0;
    } else if (ownOptions.has(words[i])) {
      throw new Refusal(`${words[i]}: invalid option`, { found: `an option of viommu ${command} among QEMU's`, wouldWork: `viommu ${command} ${words[i]} ... -- and QEMU's arguments` });
    }
  }
}
