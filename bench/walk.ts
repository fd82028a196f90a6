import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ACCESS_READ, PageWalker, Tlb, Translator, WALK_OK } from "../src/translation/index.js";
import { compare, now, type Comparison, type Round } from "./measure.js";
import type { Bench } from "./registry.js";
import { makeWalkImage, sequenceNames, type SequenceName } from "./walk-image.js";

/** The ratios to reach; the sequential ones are shown for what they are. */
const targets: Readonly<Record<string, number>> = {
  "uniform.noTlb": 1.3,
  "hot90.noTlb": 1.3,
  "hot90.tlb": 1.5,
};

/** Nested walks of 4-KiB granules, four levels of each stage, without and with a TLB of 4,096 entries. */
export const walkBench: Bench = {
  name: "walk",
  title: "nested walks, 4-KiB granules, without and with a TLB",
  async run(context) {
    const image = makeWalkImage();
    const path = join(context.directory, "walk-image");
    writeFileSync(path, image.file);
    const program = await context.startC("walk", [path]);
    const walker = new PageWalker(image.memory);
    const translator = new Translator(walker, new Tlb(4096));

    const walk = (name: SequenceName): Round => {
      const addresses = image.sequences[name];
      let sum = 0;
      const start = now();
      for (let i = 0; i < addresses.length; i += 2) {
        if (walker.walkNested(image.stage1, image.stage2, addresses[i + 1], addresses[i], ACCESS_READ) === WALK_OK) {
          sum = (Math.imul(sum, 31) + (walker.outLow ^ walker.outHigh)) | 0;
        }
      }
      return { figure: ((now() - start) * 1e6) / (addresses.length / 2), checksum: String(sum >>> 0) };
    };
    const translate = (name: SequenceName): Round => {
      const addresses = image.sequences[name];
      let sum = 0;
      const start = now();
      for (let i = 0; i < addresses.length; i += 2) {
        if (translator.translate(1, 1, image.stage1, image.stage2, addresses[i + 1], addresses[i], ACCESS_READ) === WALK_OK) {
          sum = (Math.imul(sum, 31) + (translator.outLow ^ translator.outHigh)) | 0;
        }
      }
      return { figure: ((now() - start) * 1e6) / (addresses.length / 2), checksum: String(sum >>> 0) };
    };
    const comparisons: Comparison[] = [];
    for (const [kind, run] of [["noTlb", walk], ["tlb", translate]] as const) {
      for (const name of sequenceNames) {
        comparisons.push({
          name: `walk4k.${name}.${kind}`,
          unit: "ns/walk",
          target: targets[`${name}.${kind}`],
          js: () => run(name),
          question: `${name} ${kind}`,
        });
      }
    }
    return compare(comparisons, program, context.rounds);
  },
};
