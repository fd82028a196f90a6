import { it } from "vitest";
import { requireRows } from "./agreement.js";
import { playCachingCases } from "./play-caching.js";
import { caseRange } from "./random-cases.js";
import { againstQemus } from "./suite.js";
import { generateCachingCase } from "./vtd/caching.js";
import { vtdMachines } from "./vtd/machines.js";
import { Player } from "./vtd/play.js";
import { predictVtd, type Quirk, WITH_CACHED_CONTEXT } from "./vtd/reference.js";
import { vtdQuirksOf } from "./vtd/translation-differences.js";

const NO_QUIRKS: ReadonlySet<Quirk> = new Set();

againstQemus("x86_64", "VT-d caching", () => null, (program) => {
  requireRows([WITH_CACHED_CONTEXT]);
  for (const machine of vtdMachines(program).filter(({ registersOnly }) => !registersOnly)) {
    const range = caseRange(100, 3000);
    it(`${machine.name}: ${range.count} random changes and invalidations from ${range.seed}:${range.first}`, () =>
      playCachingCases({
        program,
        machine,
        range,
        generate: (random) => generateCachingCase(random, machine.offer),
        player: (driver) => new Player(driver, machine),
        expected: (one, ofQemu) => {
          const quirks = ofQemu ? vtdQuirksOf(program.version) : NO_QUIRKS;
          return {
            old: predictVtd(one.before, machine.offer, quirks)["access 0"],
            now: predictVtd(one.after, machine.offer, quirks)["access 0"],
            alsoNew: ofQemu ? [predictVtd(one.after, machine.offer, new Set([...quirks, WITH_CACHED_CONTEXT]))["access 0"]] : [],
            decided: one.covered,
          };
        },
      }));
  }
});
