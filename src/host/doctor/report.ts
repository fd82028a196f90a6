/** Problems for people: by severity, three lines each. */
import { createColors } from "picocolors";
import { plural, wrap } from "../../support/index.js";
import type { HostProblem } from "./wanted.js";

const WIDTH = 100;

export function formatProblems(host: string, problems: readonly HostProblem[], { color = false } = {}): string {
  const paint = createColors(color);
  const painted = { error: paint.red, warning: paint.yellow, note: paint.cyan };
  const lines = [`${host}: ${summary(problems)}`];
  for (const { level, rule, words, found, wouldWork } of problems) {
    lines.push(`${painted[level](level)}: ${words} [${rule}]`);
    for (const [label, text] of [["found", found], ["cure", wouldWork]] as const) {
      const [first, ...more] = wrap(text, WIDTH - 9);
      lines.push(`  ${label}: ${first}`, ...more.map((line) => `    ${line}`));
    }
  }
  return `${lines.join("\n")}\n`;
}

function summary(problems: readonly HostProblem[]): string {
  const count = (level: HostProblem["level"]): number => problems.filter((one) => one.level === level).length;
  const [errors, warnings, notes] = [count("error"), count("warning"), count("note")];
  const rest = [warnings > 0 ? plural(warnings, "warning") : "", notes > 0 ? plural(notes, "note") : ""].filter((part) => part !== "").join(", ");
  const head = errors === 0 ? "nothing is in the way of passing functions through with a virtual IOMMU" : `${plural(errors, "problem")} in the way of passing functions through with a virtual IOMMU`;
  return rest === "" ? head : `${head} (${rest})`;
}
