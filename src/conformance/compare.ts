/** A run beside a record: what is equal, what differs and why, what was not compared. */
import { type Answer, NOT_EXPRESSIBLE } from "./answer.js";
import { reasonFor } from "./reasons.js";
import type { ConformanceRecord } from "./record.js";

export interface Difference {
  readonly group: string;
  readonly call: string;
  readonly recorded: Answer;
  readonly answered: Answer;
  /** Why the two may differ; null: nobody knows. */
  readonly reason: string | null;
}

export interface GroupComparison {
  readonly name: string;
  readonly equal: number;
  readonly differing: number;
  /** Calls that only one of the two has, or that one has no way to make. */
  readonly notCompared: number;
  /** Why the group was not compared at all; null: it was. */
  readonly why: string | null;
}

export interface Comparison {
  readonly groups: readonly GroupComparison[];
  readonly differences: readonly Difference[];
}

/** Compares calls by group and name. Order and calls that only one of the two has are no differences. */
export function compare(record: ConformanceRecord, run: ConformanceRecord): Comparison {
  const differences: Difference[] = [];
  const groups = run.groups.map((group): GroupComparison => {
    const before = record.groups.find(({ name }) => name === group.name);
    const none = { name: group.name, equal: 0, differing: 0, notCompared: 0 };
    if ("notRun" in group) {
      return { ...none, why: `not run: ${group.notRun}` };
    }
    if (before === undefined || "notRun" in before) {
      return { ...none, notCompared: Object.keys(group.answers).length, why: before === undefined ? "the record has no such group" : `not in the record: ${before.notRun}` };
    }
    let equal = 0;
    let notCompared = 0;
    for (const [call, answered] of Object.entries(group.answers)) {
      const recorded = before.answers[call];
      if (recorded === undefined || recorded === NOT_EXPRESSIBLE || answered === NOT_EXPRESSIBLE) {
        notCompared++;
      } else if (recorded === answered) {
        equal++;
      } else {
        const difference = { group: group.name, call, recorded, answered };
        differences.push({ ...difference, reason: reasonFor(difference, record, run) });
      }
    }
    const differing = Object.keys(group.answers).length - equal - notCompared;
    return { name: group.name, equal, differing, notCompared, why: null };
  });
  return { groups, differences };
}
