import { expect, it } from "vitest";
import { printDifferences, requireRows, unequal } from "./agreement.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";
import { vtdMachines } from "./vtd/machines.js";
import { COMMAND_QUIRKS, expectCommands, generateCommands, playCommands } from "./vtd/command-cases.js";
import { describeSteps, expectQueueCase, generateQueueCase, QueuePlayer } from "./vtd/queue-cases.js";
import { QUEUE_QUIRKS, type QueueQuirk } from "./vtd/queue-model.js";
import { isOld } from "./vtd/register-differences.js";

/** Rows of 7.2 alone, and of 11.1 alone. */
const OLD: ReadonlySet<QueueQuirk> = new Set<QueueQuirk>(["V-36", "V-38", "V-39", "V-43"]);
const NEW: ReadonlySet<QueueQuirk> = new Set<QueueQuirk>(["V-37", "V-40"]);

againstQemus("x86_64", "VT-d queue", () => null, (program) => {
  const others = isOld(program.version) ? NEW : OLD;
  const quirks = new Set(QUEUE_QUIRKS.filter((quirk) => !others.has(quirk)));
  requireRows([...QUEUE_QUIRKS, ...COMMAND_QUIRKS]);
  const machines = vtdMachines(program).filter(({ registersOnly }) => !registersOnly);
  for (const machine of machines) {
    const { seed, first, count } = caseRange(100, 2000);
    it(`${machine.name}: ${count} random uses from ${seed}:${first}`, async () => {
      const failures: string[] = [];
      let equal = 0;
      await withBoth(program, machine, async (ours, theirs) => {
        const players = [ours, theirs].map((driver) => new QueuePlayer(driver, machine.offer));
        for (let index = first; index < first + count && failures.length < 3; index++) {
          const steps = generateQueueCase(randomOf(seed, index), machine.offer);
          const [left, right] = await Promise.all(players.map((player) => player.play(steps)));
          const wrong = unequal(left, expectQueueCase(steps, machine.offer, new Set()));
          const odd = unequal(expectQueueCase(steps, machine.offer, quirks), right);
          equal += unequal(left, right).length === 0 ? 1 : 0;
          if (wrong.length > 0) {
            failures.push(`VIOMMU_CASE=${seed}:${index}: viommu and the architecture's model (as "QEMU")\n${printDifferences(wrong.slice(0, 3))}`);
          } else if (odd.length > 0) {
            failures.push(`VIOMMU_CASE=${seed}:${index}: the model with the known rows (as "viommu") and QEMU\n${printDifferences(odd.slice(0, 3))}\n${describeSteps(steps, right)}`);
          }
        }
      });
      console.log(`${program.name}: ${machine.name}: queues: ${count} cases: ${equal} equal, ${count - equal - failures.length} explained, ${failures.length} disagree`);
      expect(failures.join("\n\n")).toBe("");
    });

    it(`${machine.name}: ${count} random sequences of global commands and register-based invalidations`, async () => {
      const failures: string[] = [];
      await withBoth(program, machine, async (ours, theirs) => {
        for (const driver of [ours, theirs]) {
          await new QueuePlayer(driver, machine.offer).reset();
        }
        for (let index = first; index < first + count && failures.length < 3; index++) {
          const commands = generateCommands(randomOf(seed, index), machine.offer);
          const [left, right] = await Promise.all([ours, theirs].map((driver) => playCommands(driver, commands)));
          const wrong = unequal(left, expectCommands(commands, machine.offer, new Set()));
          const odd = unequal(expectCommands(commands, machine.offer, new Set(COMMAND_QUIRKS)), right);
          if (wrong.length + odd.length > 0) {
            failures.push(`VIOMMU_CASE=${seed}:${index}: viommu and the architecture's model\n${printDifferences(wrong.slice(0, 3))}\nthe model with the known rows, and QEMU\n${printDifferences(odd.slice(0, 3))}`);
          }
        }
      });
      console.log(`${program.name}: ${machine.name}: commands: ${count} cases, ${failures.length} disagree`);
      expect(failures.join("\n\n")).toBe("");
    });
  }
});
