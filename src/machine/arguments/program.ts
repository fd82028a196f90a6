/** What stands before the options of a command line: settings of the environment, what starts the program, and its name. */
import { Refusal } from "../../support/index.js";
import { BOARD_KINDS, boardTraits } from "./boards.js";
import type { LocatedWord } from "./located-words.js";

/** Distributions' names for QEMU's x86_64 program are among them. */
const PROGRAM = /^(?:.*\/)?(?:qemu-system-([a-z0-9_]+)(?:-[a-z0-9-]+)?|(?:qemu-kvm|kvm|kvm-spice|qemu)(?:\.real)?)(?:\.exe)?$/;
/** Words that may be something else. */
const SHORT = /^(?:kvm|qemu)$/;
const SETTING = /^[A-Za-z_][A-Za-z0-9_]*=/;
const PROMPT = /^(?:[$#%+]|exec|command|then|do|time)$/;
/** Programs that start others, with options of their own. */
const WRAPPERS = new Set(
  (
    "sudo doas env nohup setsid timeout taskset numactl prlimit nice ionice chrt setpriv systemd-run systemd-inhibit unshare nsenter chroot ip strace ltrace gdb " +
    "perf valgrind stdbuf cgexec cpulimit runuser su pkexec xvfb-run dbus-run-session eatmydata bwrap firejail script nix-shell docker podman kubectl"
  ).split(" "),
);

/** The word is the name of a program of QEMU's. */
export function isProgram(word: string | undefined): boolean {
  return word !== undefined && PROGRAM.test(word);
}

export interface CommandHead {
  /** How many words stand before the options. */
  readonly length: number;
  /** The program's name as it was said; null: there are options alone. */
  readonly program: string | null;
  /** As its name has it; null: it has none. */
  readonly architecture: string | null;
  /** What starts the program, in words: `sudo taskset -c 0-3`. Empty: nothing that matters. */
  readonly wrapper: string;
}

/** What stands before the options. */
export function commandHead(words: readonly string[]): CommandHead {
  let at = 0;
  const wrapper: string[] = [];
  for (; at < words.length; at++) {
    const word = words[at];
    if (WRAPPERS.has(word.slice(word.lastIndexOf("/") + 1))) {
      const program = programAfter(words, at);
      if (program === null) {
        break;
      }
      wrapper.push(...words.slice(at, program));
      at = program - 1;
    } else if (!SETTING.test(word) && !PROMPT.test(word)) {
      break;
    }
  }
  const match = at < words.length ? PROGRAM.exec(words[at]) : null;
  return match === null ? { length: 0, program: null, architecture: null, wrapper: "" } : { length: at + 1, program: words[at], architecture: match[1] ?? null, wrapper: wrapper.join(" ") };
}

/** Index of the program that a wrapper starts: a user of that name (`-u qemu`) is none. */
function programAfter(words: readonly string[], wrapper: number): number | null {
  const found = words.findIndex((word, index) => index > wrapper && PROGRAM.test(word) && !(SHORT.test(word) && words[index - 1].startsWith("-")));
  return found < 0 ? null : found;
}

/**
 * Drops what stands before the options of a pasted command line: environment settings, `sudo`, `taskset -c 0-3`,
 * `$`, and the program's name.
 * @throws Refusal where it is the program of a machine that is not here
 */
export function dropProgram<W extends string | LocatedWord>(words: readonly W[]): W[] {
  const { length, program, architecture } = commandHead(words.map((word) => (typeof word === "string" ? word : word.text)));
  if (architecture !== null && !BOARD_KINDS.some((kind) => boardTraits[kind].architecture === architecture)) {
    throw new Refusal(`${program!} is not a machine that viommu has`, {
      found: `architecture ${architecture}`,
      wouldWork: BOARD_KINDS.map((kind) => `qemu-system-${boardTraits[kind].architecture} -machine ${boardTraits[kind].alias}`).join(", "),
    });
  }
  return words.slice(length);
}
