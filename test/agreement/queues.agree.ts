import { expect, it } from "vitest";
import { printDifferences, requireRows, unequal } from "./agreement.js";
import { atLeast } from "./find-qemu.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";
import { EDU_DEVFN, missingMachines, smmuMachines, TESTDEV_DEVFN } from "./smmuv3/machines.js";
import { Player } from "./smmuv3/play.js";
import { expectQueueCase, generateQueueCase, playQueueCase } from "./smmuv3/queue-cases.js";
import { QUEUE_QUIRKS, type QueueMachine } from "./smmuv3/queue-model.js";

againstQemus("aarch64", "SMMUv3 queues", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  requireRows(QUEUE_QUIRKS);
  for (const machine of smmuMachines(program).filter(({ name }) => name !== "legacy" || program.version[0] < 11)) {
    const { seed, first, count } = caseRange(100, 3000);
    it(`${machine.name}: ${count} random uses from ${seed}:${first}`, async () => {
      const described: QueueMachine = { stages: machine.stages, judgesStage2: atLeast(program.version, 9, 0), streams: [0, EDU_DEVFN, ...(machine.stages === "1" && program.version[0] < 9 ? [] : [TESTDEV_DEVFN])] };
      const failures: string[] = [];
      let equal = 0;
      await withBoth(program, machine, async (ours, theirs) => {
        const players = [new Player(ours, machine), new Player(theirs, machine)];
        for (const player of players) {
          await player.prepare();
          player.refuseStreams();
        }
        for (let index = first; index < first + count && failures.length < 3; index++) {
          const steps = generateQueueCase(randomOf(seed, index), described);
          const [left, right] = await Promise.all(players.map((player) => playQueueCase(player, steps)));
          const wrong = unequal(left, expectQueueCase(steps, described, new Set()));
          const odd = unequal(expectQueueCase(steps, described, new Set(QUEUE_QUIRKS)), right);
          equal += unequal(left, right).length === 0 ? 1 : 0;
          if (wrong.length > 0) {
            failures.push(`VIOMMU_CASE=${seed}:${index}: viommu and the architecture's model (as "QEMU")\n${printDifferences(wrong.slice(0, 3))}`);
          } else if (odd.length > 0) {
            failures.push(`VIOMMU_CASE=${seed}:${index}: the model with the known rows (as "viommu") and QEMU\n${printDifferences(odd.slice(0, 3))}\n${Object.entries(right).map(([key, value]) => `    ${key}: ${value}`).join("\n")}`);
          }
        }
      });
      console.log(`${program.name}: ${machine.name}: queues: ${count} cases: ${equal} equal, ${count - equal - failures.length} explained, ${failures.length} disagree`);
      expect(failures.join("\n\n")).toBe("");
    });
  }
});
