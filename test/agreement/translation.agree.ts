import { expect, it } from "vitest";
import { atLeast } from "./find-qemu.js";
import { playCases, writesStrayed } from "./play-cases.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus } from "./suite.js";
import { generate } from "./smmuv3/generate.js";
import type { TranslationCase } from "./smmuv3/image.js";
import { missingMachines, smmuMachines } from "./smmuv3/machines.js";
import { Player } from "./smmuv3/play.js";
import { printCase } from "./smmuv3/print-case.js";
import { predict, type Quirk } from "./smmuv3/reference.js";
import { quirksOf } from "./smmuv3/translation-differences.js";

againstQemus("aarch64", "SMMUv3 translation", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  const machines = smmuMachines(program).filter((machine) => machine.name !== "legacy" || program.version[0] < 11);
  for (const machine of machines) {
    // Somewhat more than 1,000 and 100,000: a few are left out.
    const { seed, first, count } = caseRange(Math.ceil(1050 / machines.length), Math.ceil(110_000 / machines.length));
    it(`${machine.name}: ${count} random images from ${seed}:${first}`, async () => {
      const testdev = machine.arguments.some((word) => word.startsWith("iommu-testdev"));
      const wide = atLeast(program.version, 9, 0);
      const agreement = await playCases<TranslationCase, Quirk>({
        program,
        machine,
        subject: { name: `${program.name}, ${machine.name}`, quirks: quirksOf(program.version), predict: (one, quirks) => predict(one, machine.stages, quirks), print: printCase },
        seed,
        indexes: tableOrder(first, count),
        generate: (index) => generate(randomOf(seed, index), { stages: machine.stages, testdev, wide, twoLevelStreamTable: index % 2 === 1 }),
        player: (driver) => new Player(driver, machine),
        strayed: (one, seen) => writesStrayed(one.accesses, seen),
      });
      console.log(`${program.name}: ${machine.name}: ${agreement.summary()}`);
      expect(agreement.failures.join("\n\n"), `${agreement.disagreements} of ${count} cases disagree`).toBe("");
    });
  }
});

/** Even indexes have linear stream tables, odd ones two levels: QEMU never goes back to linear ones (S-6). */
function tableOrder(first: number, count: number): number[] {
  const all = Array.from({ length: count }, (_unused, n) => first + n);
  return [...all.filter((index) => index % 2 === 0), ...all.filter((index) => index % 2 === 1)];
}
