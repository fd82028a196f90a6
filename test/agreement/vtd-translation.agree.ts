import { expect, it } from "vitest";
import { playCases, writesStrayed } from "./play-cases.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus } from "./suite.js";
import { generateVtd } from "./vtd/generate.js";
import { printCase, type VtdCase } from "./vtd/image.js";
import { isNew, missingMachines, vtdMachines } from "./vtd/machines.js";
import { Player } from "./vtd/play.js";
import { predictVtd, type Quirk } from "./vtd/reference.js";
import { vtdQuirksOf } from "./vtd/translation-differences.js";

againstQemus("x86_64", "VT-d translation", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  const machines = vtdMachines(program).filter(({ registersOnly }) => !registersOnly);
  for (const machine of machines) {
    // Somewhat more than 1,000 and 100,000: a few are left out.
    const { seed, first, count } = caseRange(Math.ceil(1050 / machines.length), Math.ceil(110_000 / machines.length));
    it(`${machine.name}: ${count} random images from ${seed}:${first}`, async () => {
      const agreement = await playCases<VtdCase, Quirk>({
        program,
        machine,
        subject: { name: `${program.name}, ${machine.name}`, quirks: vtdQuirksOf(program.version), predict: (one, quirks) => predictVtd(one, machine.offer, quirks), print: printCase },
        seed,
        indexes: Array.from({ length: count }, (_unused, n) => first + n),
        generate: (index) => generateVtd(randomOf(seed, index), machine.offer, isNew(program)),
        player: (driver) => new Player(driver, machine),
        strayed: (one, seen) => writesStrayed(one.accesses, seen),
      });
      console.log(`${program.name}: ${machine.name}: ${agreement.summary()}`);
      expect(agreement.failures.join("\n\n"), `${agreement.disagreements} of ${count} cases disagree`).toBe("");
    });
  }
});
