import { expect, it } from "vitest";
import { printDifferences, requireRows, unequal } from "./agreement.js";
import type { Driver } from "./driver.js";
import { QemuGone } from "./qemu-driver.js";
import { FSTS, GCMD, IQEI, REG } from "../../src/vtd/spec/index.js";
import { HOLE, QUEUE, STATUS } from "./vtd/layout.js";
import { caseRange, randomOf } from "./random-cases.js";
import { againstQemus, withBoth } from "./suite.js";
import { UNIT, vtdMachines } from "./vtd/machines.js";
import { COMMAND_QUIRKS, expectCommands, generateCommands, playCommands } from "./vtd/command-cases.js";
import { describeSteps, expectQueueCase, generateQueueCase, QueuePlayer } from "./vtd/queue-cases.js";
import { QUEUE_QUIRKS, type QueueQuirk } from "./vtd/queue-model.js";
import { isOld } from "./vtd/register-differences.js";

/** Rows of 7.2 alone, and of 11.1 alone. */
const OLD: ReadonlySet<QueueQuirk> = new Set<QueueQuirk>(["V-36", "V-38", "V-39", "V-41", "V-43"]);
const NEW: ReadonlySet<QueueQuirk> = new Set<QueueQuirk>(["V-37", "V-40"]);

/** A wait descriptor of 128 bits with SW and IF: IQH, ICS and the status that it writes. */
async function playBoth(driver: Driver): Promise<readonly bigint[]> {
  driver.store(QUEUE, new Uint8Array(BigUint64Array.of(0x35n | (7n << 32n), BigInt(STATUS)).buffer));
  driver.write(UNIT + REG.IQA, 8, QUEUE);
  driver.write(UNIT + REG.GCMD, 4, GCMD.QIE.inPlace);
  driver.write(UNIT + REG.IQT, 8, 0x10);
  const head = await driver.read(UNIT + REG.IQH, 8);
  return [head, await driver.read(UNIT + REG.ICS, 4), await driver.read(STATUS, 4)];
}

/** A queue where nothing answers: FSTS and IQERCD. */
async function playHole(driver: Driver): Promise<[status: bigint, reason: bigint]> {
  driver.write(UNIT + REG.IQA, 8, HOLE);
  driver.write(UNIT + REG.GCMD, 4, GCMD.QIE.inPlace);
  driver.write(UNIT + REG.IQT, 8, 0x10);
  return Promise.all([driver.read(UNIT + REG.FSTS, 4), driver.read(UNIT + REG.IQERCD, 4)]);
}

againstQemus("x86_64", "VT-d queue", () => null, (program) => {
  const others = isOld(program.version) ? NEW : OLD;
  const quirks = new Set(QUEUE_QUIRKS.filter((quirk) => !others.has(quirk)));
  requireRows([...QUEUE_QUIRKS, ...COMMAND_QUIRKS]);
  const machines = vtdMachines(program).filter(({ registersOnly }) => !registersOnly);
  it("a descriptor that cannot be fetched", async () => {
    await withBoth(program, machines[0], async (ours, theirs) => {
      const error = BigInt(FSTS.IQE.inPlace);
      expect(await playHole(ours)).toEqual([error, BigInt(IQEI.FETCH)]);
      expect(await playHole(theirs), "V-30").toEqual([error, 0n]);
    });
  });

  it("a wait with status write and interrupt (V-42)", async () => {
    await withBoth(program, machines[0], async (ours, theirs) => {
      const done = [0x10n, 1n, 7n];
      expect(await playBoth(ours)).toEqual(done);
      if (isOld(program.version)) {
        await expect(playBoth(theirs)).rejects.toThrow(QemuGone);
      } else {
        expect(await playBoth(theirs)).toEqual(done);
      }
    });
  });

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
