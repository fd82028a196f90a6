import { expect, it } from "vitest";
import { requireRows } from "./agreement.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";
import { generateCachingCase } from "./vtd/caching.js";
import { vtdMachines } from "./vtd/machines.js";
import { Player } from "./vtd/play.js";
import { predictVtd, type Quirk, WITH_CACHED_CONTEXT } from "./vtd/reference.js";
import { vtdQuirksOf } from "./vtd/translation-differences.js";

const NO_QUIRKS: ReadonlySet<Quirk> = new Set();

againstQemus("x86_64", "VT-d caching", () => null, (program) => {
  requireRows([WITH_CACHED_CONTEXT]);
  for (const machine of vtdMachines(program).filter(({ registersOnly }) => !registersOnly)) {
    const { seed, first, count } = caseRange(100, 3000);
    it(`${machine.name}: ${count} random changes and invalidations from ${seed}:${first}`, async () => {
      const failures: string[] = [];
      const told = { covered: 0, ours: 0, theirs: 0 };
      await withBoth(program, machine, async (ours, theirs) => {
        const players = [
          { player: new Player(ours, machine), quirks: NO_QUIRKS },
          { player: new Player(theirs, machine), quirks: vtdQuirksOf(program.version) },
        ];
        await Promise.all(players.map(({ player }) => player.prepare()));
        for (let index = first; index < first + count && failures.length < 5; index++) {
          const one = generateCachingCase(randomOf(seed, index), machine.offer);
          told.covered += Number(one.covered);
          for (const [n, { player, quirks }] of players.entries()) {
            const [warm, shown] = await player.playCaching(one);
            const old = predictVtd(one.before, machine.offer, quirks)["access 0"];
            const now = predictVtd(one.after, machine.offer, quirks)["access 0"];
            const anew = n === 0 ? [now] : [now, predictVtd(one.after, machine.offer, new Set([...quirks, WITH_CACHED_CONTEXT]))["access 0"]];
            if (n === 0) {
              told.ours += Number(shown === now);
            } else {
              told.theirs += Number(shown === now);
            }
            if (warm !== old || (!anew.includes(shown) && (one.covered || shown !== old))) {
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
