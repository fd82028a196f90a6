import { describe, it } from "vitest";
import { explore, FROM, replay, replayed, SEEDS, STEPS } from "./three-views.js";
import { SMMU_WEIGHTS, SmmuPlay, type SmmuPlayOptions } from "./three-views-smmu.js";

const CONFIGURATIONS: Readonly<Record<string, SmmuPlayOptions>> = {
  "substreams, ATS, ranges, two levels": { properties: { ril: true, ats: true, oas: 48, ssidsize: 16 }, twoLevel: true },
  "substreams, linear": { properties: { ril: true, ats: false, oas: 48, ssidsize: 8 }, twoLevel: false },
  "no substreams, no ranges": { properties: { ril: false, ats: true, oas: 48, ssidsize: 0 }, twoLevel: false },
  "in small steps": { properties: { ril: true, ats: true, oas: 48, ssidsize: 16 }, twoLevel: true, stepsAtOnce: 7 },
};

describe.each(Object.entries(CONFIGURATIONS))("three views of SMMUv3 functions: %s", (name, options) => {
  it(`agree through ${SEEDS} sequences of ${STEPS} steps`, () => {
    const steps = replayed(name);
    if (steps !== null) {
      replay(() => new SmmuPlay(options), steps);
      return;
    }
    for (let seed = FROM; seed < FROM + SEEDS; seed++) {
      explore(name, () => new SmmuPlay(options), seed, STEPS, SMMU_WEIGHTS);
    }
  }, 3_600_000);
});
