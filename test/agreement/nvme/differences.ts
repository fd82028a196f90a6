/** Rows of docs/differences.md about NVMe, as rules. */
import type { Rule } from "../agreement.js";

/** A difference by its name and what both say. */
function row(id: string, key: RegExp, ours: string, theirs: RegExp): Rule<null> {
  return { id, explains: (difference) => key.test(difference.key) && difference.ours === ours && theirs.test(difference.theirs) };
}

export const nvmeRules: ReadonlyArray<Rule<null>> = [
  row("N-1", /^identify (?:10|13) /, "0/02", /^0\/(?:00|0b|02)$/),
  row("N-2", /without memory$|: no memory$/, "0/04", /^0\/00$/),
  row("N-3", /^get feature 6 select [12]$/, "0/00 1", /^0\/00 0$/),
  row("N-4", /^set feature: no sensor$/, "0/02", /^0\/00 0$/),
  row("N-5", /^log of no kind$/, "1/09", /^0\/02$/),
  row("N-6", /^delete completion queue [02]$/, "1/01", /^1\/00$/),
  row("N-7", /^deallocate over the end$/, "0/80", /^0\/00$/),
];
