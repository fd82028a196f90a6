import { describe, it } from "vitest";
import { explore, NIGHTLY, replay, replayed } from "./three-views.js";
import { VTD_WEIGHTS, VtdPlay, type VtdPlayOptions } from "./three-views-vtd.js";

const SEEDS = Number(process.env.VIOMMU_VIEWS_SEEDS ?? (NIGHTLY ? 200 : 3));
const FROM = Number(process.env.VIOMMU_VIEWS_FROM ?? 1);
const STEPS = NIGHTLY ? 300 : 80;

const CONFIGURATIONS: Readonly<Record<string, VtdPlayOptions>> = {
  "first stages, caching mode": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20, cachingMode: true } },
  "first stages": { properties: { scalableMode: true, fsts: true, fs1gp: true, pasidBits: 20 } },
  "second stages": { properties: { scalableMode: true, cachingMode: true } },
  "legacy mode": { properties: { cachingMode: true } },
};

describe.each(Object.entries(CONFIGURATIONS))("three views of VT-d functions: %s", (name, options) => {
  it(`agree through ${SEEDS} sequences of ${STEPS} steps`, () => {
    const steps = replayed(name);
    if (steps !== null) {
      replay(() => new VtdPlay(options), steps);
      return;
    }
    for (let seed = FROM; seed < FROM + SEEDS; seed++) {
      explore(name, () => new VtdPlay(options), seed, STEPS, VTD_WEIGHTS);
    }
  }, 3_600_000);
});
