/** Rows of a time line as the page keeps them: bounded, found by number, followed from cause to effect, filtered. */
import type { TimelineReport, TimelineRow } from "../../report/index.js";

/** Rows that are kept; the oldest go first. */
export const KEPT_ROWS = 100_000;

export interface RowFilter {
  readonly kinds: ReadonlySet<string>;
  readonly iommu: string;
  readonly function: string;
  /** Words, all of which a row's name and words have, in either case. */
  readonly text: string;
}

export class TimelineRows {
  readonly #kept: number;
  #rows: TimelineRow[] = [];
  readonly #followers = new Map<number, number[]>();
  #filter: RowFilter | null = null;
  #matched: TimelineRow[] = [];
  /** Number of the newest row that `#matched` has seen. */
  #seen = 0;

  constructor(kept = KEPT_ROWS) {
    this.#kept = kept;
  }

  get length(): number {
    return this.#rows.length;
  }

  /** The newest row's number; 0: none. */
  get last(): number {
    return this.#rows.at(-1)?.number ?? 0;
  }

  /** Takes rows that are newer than those there. A machine that began anew (its newest row is older) begins here anew too. True: something changed. */
  add(report: TimelineReport): boolean {
    let changed = false;
    if (report.last < this.last) {
      this.clear();
      changed = true;
    }
    for (const row of report.rows) {
      if (row.number > this.last) {
        this.#rows.push(row);
        changed = true;
        if (row.cause !== null) {
          const others = this.#followers.get(row.cause);
          if (others === undefined) {
            this.#followers.set(row.cause, [row.number]);
          } else {
            others.push(row.number);
          }
        }
      }
    }
    // In steps of a tenth, for an array is moved as a whole.
    if (this.#rows.length > this.#kept * 1.1) {
      for (const { number } of this.#rows.splice(0, this.#rows.length - this.#kept)) {
        this.#followers.delete(number);
      }
      const oldest = this.#rows[0].number;
      this.#matched.splice(0, placeOf(this.#matched, oldest));
    }
    return changed;
  }

  clear(): void {
    this.#rows = [];
    this.#followers.clear();
    this.#matched = [];
    this.#seen = 0;
  }

  row(number: number): TimelineRow | null {
    const found = this.#rows[placeOf(this.#rows, number)];
    return found?.number === number ? found : null;
  }

  /** Numbers of rows that follow from `number`, oldest first. */
  followers(number: number): readonly number[] {
    return this.#followers.get(number) ?? [];
  }

  /** The rows that it follows from, nearest first. */
  causes(row: TimelineRow): TimelineRow[] {
    const chain: TimelineRow[] = [];
    for (let at: TimelineRow | null = row; at !== null && at.cause !== null && at.cause < at.number;) {
      at = this.row(at.cause);
      if (at !== null) {
        chain.push(at);
      }
    }
    return chain;
  }

  /** Rows of a filter, oldest first: only what is new since the last call is looked at while the filter stays. The array is the same as long as nothing is dropped. */
  matching(filter: RowFilter): readonly TimelineRow[] {
    if (this.#filter === null || !same(this.#filter, filter)) {
      this.#filter = filter;
      this.#matched = [];
      this.#seen = 0;
    }
    const words = filter.text.toLowerCase().split(/\s+/).filter((word) => word !== "");
    for (let at = placeOf(this.#rows, this.#seen + 1); at < this.#rows.length; at++) {
      const row = this.#rows[at];
      this.#seen = row.number;
      if (matches(row, filter, words)) {
        this.#matched.push(row);
      }
    }
    return this.#matched;
  }
}

/** Index of the first row whose number is `number` or more. */
export function placeOf(rows: readonly TimelineRow[], number: number): number {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].number < number) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

function matches(row: TimelineRow, filter: RowFilter, words: readonly string[]): boolean {
  if (!filter.kinds.has(row.kind) || (filter.iommu !== "" && row.iommu !== filter.iommu) || (filter.function !== "" && row.function !== filter.function)) {
    return false;
  }
  if (words.length === 0) {
    return true;
  }
  const text = `${row.name} ${row.words}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function same(one: RowFilter, other: RowFilter): boolean {
  return one.iommu === other.iommu && one.function === other.function && one.text === other.text && one.kinds.size === other.kinds.size && [...one.kinds].every((kind) => other.kinds.has(kind));
}
