import { expect, it } from "vitest";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";
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
    const { seed, first, count } = caseRange(300, 10_000);
    it(`${machine.name}: ${count} random changes and invalidations from ${seed}:${first}`, async () => {
      const failures: string[] = [];
      const told = { covered: 0, ours: 0, theirs: 0 };
      await withBoth(program, machine, async (ours, theirs) => {
        const players = [
          { player: new Player(ours, machine), quirks: NO_QUIRKS },
          { player: new Player(theirs, machine), quirks: quirksOf(program.version) },
        ];
        await Promise.all(players.map(({ player }) => player.prepare()));
        for (let index = first; index < first + count && failures.length < 5; index++) {
          const one = generateCachingCase(randomOf(seed, index), machine.stages);
          told.covered += Number(one.covered);
          for (const [n, { player, quirks }] of players.entries()) {
            const [warm, shown] = await player.playCaching(one);
            const old = predict(one.before, machine.stages, quirks)["access 0"];
            const now = predict(one.after, machine.stages, quirks)["access 0"];
            if (n === 0) {
              told.ours += Number(shown === now);
            } else {
              told.theirs += Number(shown === now);
            }
            if (warm !== old || (shown !== now && ((n === 0 ? one.covered : one.coveredByAsid) || shown !== old))) {
              failures.push(`VIOMMU_CASE=${seed}:${index} ${player.driver.name}: first ${warm}, then ${shown}; old ${old}, new ${now}${one.covered ? ", which has to show" : ""}\n  ${one.notes.join("; ")}`);
            }
          }
        }
      });
      console.log(`${program.name}: ${machine.name}: caching: ${count} cases, ${told.covered} where the architecture decides; the new one shows in ${told.ours} (viommu) and ${told.theirs} (QEMU)`);
      expect(failures.join("\n\n")).toBe("");
    });
  }
});
