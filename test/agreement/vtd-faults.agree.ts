import { expect, it } from "vitest";
import { printDifferences, requireRows, unequal } from "./agreement.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";
import { expectFaults, FAULT_QUIRKS, generateFaults, playFaults } from "./vtd/fault-cases.js";
import { vtdMachines } from "./vtd/machines.js";
import { Player } from "./vtd/play.js";

againstQemus("x86_64", "VT-d fault recording", () => null, (program) => {
  requireRows(FAULT_QUIRKS);
  const [machine] = vtdMachines(program);
  const { seed, first, count } = caseRange(60, 2000);
  it(`${count} random sequences of faults from ${seed}:${first}`, async () => {
    const failures: string[] = [];
    await withBoth(program, machine, async (ours, theirs) => {
      const players = [new Player(ours, machine), new Player(theirs, machine)];
      await Promise.all(players.map((player) => player.prepare()));
      for (let index = first; index < first + count && failures.length < 3; index++) {
        const steps = generateFaults(randomOf(seed, index));
        const [left, right] = await Promise.all(players.map((player) => playFaults(player, steps)));
        const wrong = unequal(left, expectFaults(steps, new Set()));
        const odd = unequal(expectFaults(steps, new Set(FAULT_QUIRKS)), right);
        if (wrong.length + odd.length > 0) {
          failures.push(`VIOMMU_CASE=${seed}:${index}: viommu and the architecture's model\n${printDifferences(wrong.slice(0, 3))}\nthe model with the known rows, and QEMU\n${printDifferences(odd.slice(0, 3))}`);
        }
      }
    });
    console.log(`${program.name}: fault recording: ${count} cases, ${failures.length} disagree`);
    expect(failures.join("\n\n")).toBe("");
  });
});
