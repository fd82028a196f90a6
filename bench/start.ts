import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageFolder } from "../src/support/index.js";
import { median } from "./measure.js";
import type { Bench, BenchContext, BenchResult } from "./registry.js";

/** Command lines, and how they end. */
const LINES: ReadonlyArray<readonly [name: string, words: readonly string[], status: number]> = [
  ["version", ["--version"], 0],
  ["hosts", ["hosts"], 0],
  ["refused", ["run", "--", "-M", "virt", "-device", "no-such-device"], 2],
];

/** Milliseconds of wall-clock from the start of a process to its end. */
function lasts(words: readonly string[], status: number): number {
  const start = performance.now();
  const ended = spawnSync(process.execPath, words, { encoding: "utf8" });
  const took = performance.now() - start;
  if (ended.status !== status) {
    throw new Error(`node ${words.join(" ")} ended with ${ended.status}, not ${status}: ${ended.stderr}`);
  }
  return took;
}

/** The program as the package ships it, beside a Node.js that has nothing to do: what starts is what a user waits for. */
export const startBench: Bench = {
  name: "start",
  title: "start and end of viommu beside a bare node -e 0",
  run(context: BenchContext): Promise<BenchResult[]> {
    const program = join(packageFolder(), "dist/lib/cli/main.js");
    if (!existsSync(program)) {
      context.say(`start: ${program} is not there (npm run build makes it)`);
      return Promise.resolve([]);
    }
    const results = LINES.map(([name, words, status]): BenchResult => {
      const [mine, bare]: [number[], number[]] = [[], []];
      for (let round = -1; round < context.rounds; round++) {
        const pair = [lasts([program, ...words], status), lasts(["-e", "0"], 0)];
        if (round >= 0) {
          mine.push(pair[0]);
          bare.push(pair[1]);
        }
      }
      return { name: `start.${name}`, unit: "ms", js: median(mine), c: median(bare), ratio: median(mine.map((took, i) => took / bare[i])), target: 2 };
    });
    return Promise.resolve(results);
  },
};
