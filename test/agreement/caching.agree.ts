import { it } from "vitest";
import { playCachingCases } from "./play-caching.js";
import { caseRange } from "./random-cases.js";
import { againstQemus } from "./suite.js";
import { generateCachingCase } from "./smmuv3/caching.js";
import { missingMachines, smmuMachines } from "./smmuv3/machines.js";
import { Player } from "./smmuv3/play.js";
import { predict, type Quirk } from "./smmuv3/reference.js";
import { quirksOf } from "./smmuv3/translation-differences.js";

const NO_QUIRKS: ReadonlySet<Quirk> = new Set();

againstQemus("aarch64", "SMMUv3 caching", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  for (const machine of smmuMachines(program).filter(({ name }) => name !== "legacy" || program.version[0] < 11)) {
    const range = caseRange(300, 10_000);
    it(`${machine.name}: ${range.count} random changes and invalidations from ${range.seed}:${range.first}`, () =>
      playCachingCases({
        program,
        machine,
        range,
        generate: (random) => generateCachingCase(random, machine.stages),
        player: (driver) => new Player(driver, machine),
        expected: (one, ofQemu) => {
          const quirks = ofQemu ? quirksOf(program.version) : NO_QUIRKS;
          return {
            old: predict(one.before, machine.stages, quirks)["access 0"],
            now: predict(one.after, machine.stages, quirks)["access 0"],
            decided: ofQemu ? one.coveredByAsid : one.covered,
          };
        },
      }));
  }
});
