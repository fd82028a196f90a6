import type { CProgram } from "./c-program.js";
import { bootBench, hostCallBench, stage2Bench } from "./machine.js";
import { commandBench } from "./command.js";
import { descriptorBench } from "./descriptor.js";
import { exitBench } from "./exits.js";
import { mirrorBench } from "./mirror.js";
import { pasidBench } from "./pasids.js";
import { planBench } from "./plan.js";
import { qtestBench } from "./qtest.js";
import { startBench } from "./start.js";
import { tlbMemoryBench } from "./tlb-memory.js";
import { traceBench } from "./trace.js";
import { vtdWalkBench, walkBench } from "./walk.js";

/** One figure. Its name is the key in the JSON file: stable, dotted, camel case. */
export interface BenchResult {
  readonly name: string;
  /** Of `js`, `c` and `value`: "ns/walk", "bytes", "ms", "calls". */
  readonly unit: string;
  /** This project's figure beside the C program's (`start`: beside a bare Node.js), in the same unit; `ratio` is js / c. */
  readonly js?: number;
  readonly c?: number;
  readonly ratio?: number;
  /** A figure that has no counterpart. */
  readonly value?: number;
  /** What is to be reached: the largest good `ratio`, or the largest good `value`. */
  readonly target?: number;
  /** What is to be reached where more is better: the smallest good `value`. */
  readonly atLeast?: number;
}

/** What a bench may use. */
export interface BenchContext {
  /** Compiles bench/c/NAME.c and starts it; undefined (with a word to the reader) where there is no compiler. */
  startC(name: string, args?: readonly string[]): Promise<CProgram | undefined>;
  /** How often each side of a comparison is measured. */
  readonly rounds: number;
  /** A directory for files, removed at the end. */
  readonly directory: string;
  /** A line of progress for the reader (stderr). */
  say(line: string): void;
}

/** One bench file's door: measures a few figures that belong together. */
export interface Bench {
  /** Picked by `--only`. */
  readonly name: string;
  /** What is measured, one line. */
  readonly title: string;
  run(context: BenchContext): Promise<BenchResult[]>;
}

/** All benches, in the order of their run. A new one is a file beside this one and a line here. */
export const benches: readonly Bench[] = [walkBench, vtdWalkBench, commandBench, descriptorBench, pasidBench, planBench, mirrorBench, traceBench, tlbMemoryBench, hostCallBench, bootBench, stage2Bench, exitBench, qtestBench, startBench];
