/**
 * A random guest that does what is legal, and three views of every function of its machine that have to agree
 * when what the guest owes has been invalidated: DMA of the passed-through function, DMA of an emulated twin
 * with the same tables, and a plain reading of the tables.
 *
 * A step is an operation and a seed for its choices, so that it means something in any state: a sequence that fails
 * is made shorter by leaving steps out, and what is left is played again from its list.
 */
import { Random } from "./random.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";
/** Sequences of a configuration, the seed of the first, and steps of each. */
export const SEEDS = Number(process.env.VIOMMU_VIEWS_SEEDS ?? (NIGHTLY ? 100 : 3));
export const FROM = Number(process.env.VIOMMU_VIEWS_FROM ?? 1);
export const STEPS = NIGHTLY ? 300 : 80;

/** What to do, by name, and the seed of its choices. */
export type Step = readonly [operation: string, seed: number];

/** A machine with its guest. */
export interface Play {
  /** Does a step; answers what was done, in words, null where it has no meaning now. Throws where views differ. */
  step(step: Step): string | null;
  /** Throws where something is left, or wrong, at the end. */
  finish(): void;
}

/** How often an operation comes, by name. */
export type Weights = Readonly<Record<string, number>>;

/** Played again when a failing sequence is made shorter, at the most. */
const MOST_REPLAYS = 600;
const MOST_SHRINKING_MS = 45_000;

interface Failure {
  readonly error: Error;
  readonly text: readonly string[];
}

/** A list of steps from a seed. */
export function stepsOf(seed: number, count: number, weights: Weights): Step[] {
  const random = new Random(seed);
  const without = process.env.VIOMMU_VIEWS_WITHOUT?.split(",") ?? [];
  const operations = Object.entries(weights).filter(([operation]) => !without.includes(operation)).flatMap(([operation, weight]) => Array<string>(weight).fill(operation));
  return Array.from({ length: count }, () => [random.pick(operations), random.word()] as const);
}

/** Plays steps to the first that fails; null where none does. `done` gets the number of steps that had a meaning. */
function play(make: () => Play, steps: readonly Step[], done: (steps: number) => void = () => {}): Failure | null {
  const text: string[] = [];
  try {
    const one = make();
    for (const step of steps) {
      text.push(`(${step[0]})`);
      const what = one.step(step);
      if (what === null) {
        text.pop();
      } else {
        text[text.length - 1] = `${step[0]}: ${what}`;
      }
    }
    one.finish();
    done(text.length);
    return null;
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)), text };
  }
}

/** Leaves out what is not needed for a failure, of any kind. */
function shorter(make: () => Play, steps: readonly Step[], failure: Failure): { steps: readonly Step[]; failure: Failure } {
  let best = { steps: steps.slice(0), failure };
  const until = Date.now() + MOST_SHRINKING_MS;
  let replays = 0;
  for (let piece = Math.ceil(best.steps.length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let at = best.steps.length - piece; at > -piece; at -= piece) {
      if (++replays > MOST_REPLAYS || Date.now() > until) {
        return best;
      }
      const candidate = best.steps.filter((_step, i) => i < at || i >= at + piece);
      const found = candidate.length === best.steps.length ? null : play(make, candidate);
      if (found !== null) {
        best = { steps: candidate, failure: found };
      }
    }
  }
  return best;
}

/** Plays a sequence; where it fails, throws with the seed, and the shortest list of steps found, as words and as what plays them again. */
export function explore(name: string, make: () => Play, seed: number, count: number, weights: Weights): number {
  const steps = stepsOf(seed, count, weights);
  let meant = 0;
  const failure = play(make, steps, (n) => (meant = n));
  if (failure === null) {
    return meant;
  }
  const least = shorter(make, steps.slice(0, failure.text.length + steps.length), failure);
  throw new Error(
    `${name}, seed ${seed}: ${failure.error.message}\n\nat the least, ${least.steps.length} steps:\n${least.failure.text.join("\n")}\n${least.failure.error.message}\n` +
      `played again by VIOMMU_VIEWS='${JSON.stringify({ name, steps: least.steps })}'`,
    { cause: least.failure.error },
  );
}

/** Steps that the user wants played, by VIOMMU_VIEWS; null: none for that name. */
export function replayed(name: string): readonly Step[] | null {
  const wanted = process.env.VIOMMU_VIEWS;
  if (wanted === undefined) {
    return null;
  }
  const parsed = JSON.parse(wanted) as { name: string; steps: Step[] };
  return parsed.name === name ? parsed.steps : null;
}

/** Plays a list of steps, printing each. */
export function replay(make: () => Play, steps: readonly Step[]): void {
  const failure = play(make, steps);
  if (failure !== null) {
    throw new Error(`${failure.text.join("\n")}\n${failure.error.message}`, { cause: failure.error });
  }
}
