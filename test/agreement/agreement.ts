/**
 * Comparing what two drivers show. An observation is a flat record of printed values; two observations agree
 * where every value is equal or a rule explains the difference. A rule is narrow: it sees one difference and
 * the case that led to it, and names the row of docs/differences.md that says why it may be.
 */
import { readFileSync } from "node:fs";
import type { QemuVersion } from "./driver.js";

export type Observation = Record<string, string>;

export interface Difference {
  readonly key: string;
  /** "" where one side does not have the key. */
  readonly ours: string;
  readonly theirs: string;
}

export interface Rule<C> {
  /** Row of docs/differences.md, such as "D-3". */
  readonly id: string;
  /** The versions of QEMU that differ; all where absent. */
  readonly versions?: (version: QemuVersion) => boolean;
  explains(difference: Difference, context: C, whole: { readonly ours: Observation; readonly theirs: Observation }): boolean;
}

export class Agreement<C> {
  compared = 0;
  /** Differences that a rule has explained, by its id. */
  readonly explained = new Map<string, number>();

  constructor(
    private readonly rules: ReadonlyArray<Rule<C>>,
    private readonly version: QemuVersion,
  ) {
    requireRows(rules.map((rule) => rule.id));
  }

  /** The differences that nothing explains. */
  compare(ours: Observation, theirs: Observation, context: C): Difference[] {
    const left: Difference[] = [];
    this.compared++;
    for (const key of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
      const difference = { key, ours: ours[key] ?? "", theirs: theirs[key] ?? "" };
      if (difference.ours === difference.theirs) {
        continue;
      }
      const rule = this.rules.find((one) => (one.versions?.(this.version) ?? true) && one.explains(difference, context, { ours, theirs }));
      if (rule === undefined) {
        left.push(difference);
      } else {
        this.explained.set(rule.id, (this.explained.get(rule.id) ?? 0) + 1);
      }
    }
    return left;
  }

  /** QEMU has ended at this case: what no rule explains, by the key "process". */
  ended(context: C): Difference[] {
    return this.compare({ process: "runs" }, { process: "ended" }, context);
  }

  /** "1000 compared; explained: D-1 3, D-2 1". */
  summary(): string {
    const rules = [...this.explained].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([id, count]) => `${id} ${count}`);
    return `${this.compared} compared${rules.length === 0 ? "" : `; explained: ${rules.join(", ")}`}`;
  }
}

/** Every rule has a row in docs/differences.md, whose first cell is its id. @throws Error */
export function requireRows(ids: readonly string[]): void {
  const text = readFileSync(new URL("../../docs/differences.md", import.meta.url), "utf8");
  const rows = new Set([...text.matchAll(/^\| ([A-Z]+-\d+) \|/gm)].map((match) => match[1]));
  const missing = ids.filter((id) => !rows.has(id));
  if (missing.length > 0) {
    throw new Error(`docs/differences.md has no row ${missing.join(", ")}`);
  }
}

export function printDifferences(differences: readonly Difference[]): string {
  return differences.map(({ key, ours, theirs }) => `${key}: viommu ${ours || "(nothing)"}, QEMU ${theirs || "(nothing)"}`).join("\n");
}

/** All differences of two observations. */
export function unequal(ours: Observation, theirs: Observation): Difference[] {
  const keys = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
  return [...keys].filter((key) => ours[key] !== theirs[key]).map((key) => ({ key, ours: ours[key] ?? "", theirs: theirs[key] ?? "" }));
}
