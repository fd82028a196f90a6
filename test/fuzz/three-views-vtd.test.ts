import { describe, it } from "vitest";
import { explore, FROM, replay, replayed, SEEDS, STEPS } from "./three-views.js";
import { VTD_FAILING_WEIGHTS, VTD_WEIGHTS, VtdPlay, type VtdPlayOptions } from "./three-views-vtd.js";

const CONFIGURATIONS: Readonly<Record<string, VtdPlayOptions>> = {
  "first stages, caching mode": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20, cachingMode: true } },
  "first stages": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20 } },
  "second stages": { properties: { scalableMode: true, cachingMode: true } },
  "first stages, host calls fail": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20, cachingMode: true }, failing: true },
  "second stages, host calls fail": { properties: { scalableMode: true, cachingMode: true }, failing: true },
  "legacy mode": { properties: { cachingMode: true } },
  "first stages, in small steps": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20, cachingMode: true }, stepsAtOnce: 12 },
  "second stages, in small steps": { properties: { scalableMode: true, cachingMode: true }, stepsAtOnce: 12 },
  "first stages, in small steps, host calls fail": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20, cachingMode: true }, stepsAtOnce: 12, failing: true },
};

describe.each(Object.entries(CONFIGURATIONS))("three views of VT-d functions: %s", (name, options) => {
  it(`agree through ${SEEDS} sequences of ${STEPS} steps`, () => {
    const steps = replayed(name);
    if (steps !== null) {
      replay(() => new VtdPlay(options), steps);
      return;
    }
    for (let seed = FROM; seed < FROM + SEEDS; seed++) {
      explore(name, () => new VtdPlay(options), seed, STEPS, options.failing === true ? VTD_FAILING_WEIGHTS : VTD_WEIGHTS);
    }
  }, 3_600_000);
});
