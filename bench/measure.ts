import type { CProgram } from "./c-program.js";
import type { BenchResult } from "./registry.js";

/** One round's figure and what it computed, so that both sides can be shown to have done the same. */
export interface Round {
  readonly figure: number;
  readonly checksum: string;
}

/** A figure measured here and by a C program. */
export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly target?: number;
  /** One round in JavaScript. */
  js(): Round | Promise<Round>;
  /** The line that makes the C program do one: it answers "FIGURE CHECKSUM". */
  readonly question: string;
}

/**
 * Measures comparisons: after a warm-up, rounds of both sides in turn, so that what else the machine does
 * meets both; the medians count. Throws where the two sides computed different things.
 */
export async function compare(
  comparisons: readonly Comparison[],
  program: CProgram | undefined,
  rounds: number,
): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const comparison of comparisons) {
    const js: number[] = [];
    const c: number[] = [];
    const warmUp = 3;
    for (let round = -warmUp; round < rounds; round++) {
      const own = await comparison.js();
      let other: Round | undefined;
      if (program !== undefined) {
        const [figure, checksum] = (await program.ask(comparison.question)).split(" ");
        other = { figure: Number(figure), checksum };
        if (checksum !== own.checksum) {
          throw new Error(`${comparison.name}: JavaScript computed ${own.checksum}, C ${checksum}`);
        }
      }
      if (round >= 0) {
        js.push(own.figure);
        if (other !== undefined) {
          c.push(other.figure);
        }
      }
    }
    const mine = median(js);
    const { name, unit, target } = comparison;
    if (c.length === 0) {
      results.push({ name, unit, target, js: mine });
    } else {
      // The ratio of neighbouring rounds: a slow minute of the machine slows both.
      const ratio = median(js.map((figure, i) => figure / c[i]));
      results.push({ name, unit, target, js: mine, c: median(c), ratio });
    }
  }
  return results;
}

/** The middle of the values, or the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Milliseconds of processor time that this process has used: what else runs on the machine takes it away
 * from neither side of a comparison. The C programs read CLOCK_PROCESS_CPUTIME_ID.
 */
export function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
