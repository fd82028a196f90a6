/** Counts at several moments, and rates made of them. */
import type { NumbersReport, NumbersRow } from "../../report/index.js";

export type Measure = Exclude<keyof NumbersRow, "of">;

export interface Rate {
  /** Seconds since the machine was made: the end of the time that it is of. */
  readonly time: number;
  /** In a second. */
  readonly rate: number;
}

/** Ten minutes of a sample each second. */
const KEPT = 600;

export class Samples {
  #reports: NumbersReport[] = [];

  get latest(): NumbersReport | null {
    return this.#reports.at(-1) ?? null;
  }

  /** A machine that began anew (an earlier time) begins here anew too. */
  add(report: NumbersReport): void {
    const last = this.latest;
    if (last !== null && report.time === last.time) {
      return;
    }
    if (last !== null && report.time < last.time) {
      this.#reports = [];
    }
    this.#reports.push(report);
    if (this.#reports.length > KEPT) {
      this.#reports.shift();
    }
  }

  replace(reports: readonly NumbersReport[]): void {
    this.#reports = [];
    for (const report of reports) {
      this.add(report);
    }
  }

  /** Between each sample and the one before; what was not there yet counts as zero. */
  rates(of: string | null, measure: Measure): Rate[] {
    const rates: Rate[] = [];
    for (let at = 1; at < this.#reports.length; at++) {
      const [before, after] = [this.#reports[at - 1], this.#reports[at]];
      const change = valueOf(after, of, measure) - valueOf(before, of, measure);
      rates.push({ time: after.time / 1e6, rate: Math.max(change, 0) / ((after.time - before.time) / 1e6) });
    }
    return rates;
  }
}

function valueOf(report: NumbersReport, of: string | null, measure: Measure): number {
  return report.rows.find((row) => row.of === of)?.[measure] ?? 0;
}
