import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ACCESS_READ, PageWalker, Tlb, Translator, WALK_OK, type Tables } from "../src/translation/index.js";
import { compare, processorTime, type Comparison, type Round } from "./measure.js";
import type { Bench } from "./registry.js";
import { makeWalkImage, sequenceNames, type SequenceName, type WalkFormat, type WalkImage } from "./walk-image.js";

/** The ratios to reach; the sequential ones are shown for what they are. */
const targets: Readonly<Record<string, number>> = {
  "uniform.noTlb": 1.3,
  "hot90.noTlb": 1.3,
  "hot90.tlb": 1.5,
};

/** Times that a round goes through its sequence; bench/c/walk.c does the same. */
const PASSES = 8;

/** Nested walks of 4-KiB granules, four levels of each stage, without and with a TLB of 4,096 entries. */
export const walkBench = benchOf("walk", "walk4k", "vmsa", "nested walks, 4-KiB granules, without and with a TLB");

/** The same of Intel VT-d's tables: a first stage over a second one. */
export const vtdWalkBench = benchOf("vtdWalk", "vtdWalk", "vtd", "nested walks of VT-d's tables, without and with a TLB");

function benchOf(name: string, prefix: string, format: WalkFormat, title: string): Bench {
  return {
    name,
    title,
    async run(context) {
      const image = makeWalkImage(format);
      const path = join(context.directory, `${name}-image`);
      writeFileSync(path, image.file);
      const program = await context.startC("walk", [path, format]);
      const walker = new PageWalker(image.memory);
      const translator = new Translator(walker, new Tlb(4096));

      const measured =
        (pass: (image: WalkImage, addresses: Int32Array, sum: number) => number) =>
        (sequence: SequenceName): Round => {
          const addresses = image.sequences[sequence];
          let sum = 0;
          const start = processorTime();
          for (let i = 0; i < PASSES; i++) {
            sum = pass(image, addresses, sum);
          }
          return { figure: ((processorTime() - start) * 1e6) / ((addresses.length / 2) * PASSES), checksum: String(sum >>> 0) };
        };
      const walk = measured((i, addresses, sum) => walkAll(walker, i.stage1, i.stage2, addresses, sum));
      const translate = measured((i, addresses, sum) => translateAll(translator, i.stage1, i.stage2, addresses, sum));
      const comparisons: Comparison[] = [];
      for (const [kind, run] of [["noTlb", walk], ["tlb", translate]] as const) {
        for (const sequence of sequenceNames) {
          comparisons.push({
            name: `${prefix}.${sequence}.${kind}`,
            unit: "ns/walk",
            target: targets[`${sequence}.${kind}`],
            js: () => run(sequence),
            question: `${sequence} ${kind}`,
          });
        }
      }
      return compare(comparisons, program, context.rounds);
    },
  };
}

/** Walks for every address; returns `sum` with the outputs mixed in. */
function walkAll(walker: PageWalker, stage1: Tables, stage2: Tables, addresses: Int32Array, sum: number): number {
  for (let i = 0; i < addresses.length; i += 2) {
    if (walker.walkNested(stage1, stage2, addresses[i + 1], addresses[i], ACCESS_READ) === WALK_OK) {
      sum = (Math.imul(sum, 31) + (walker.outLow ^ walker.outHigh)) | 0;
    }
  }
  return sum;
}

/** The same through a TLB. */
function translateAll(translator: Translator, stage1: Tables, stage2: Tables, addresses: Int32Array, sum: number): number {
  for (let i = 0; i < addresses.length; i += 2) {
    if (translator.translate(1, 1, stage1, stage2, addresses[i + 1], addresses[i], ACCESS_READ) === WALK_OK) {
      sum = (Math.imul(sum, 31) + (translator.outLow ^ translator.outHigh)) | 0;
    }
  }
  return sum;
}
