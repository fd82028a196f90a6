import { expect, it } from "vitest";
import type { Observation } from "./agreement.js";
import { InProcess } from "./driver.js";
import { atLeast, type QemuProgram } from "./find-qemu.js";
import { Qemu, QemuGone } from "./qemu-driver.js";
import { type CaseRange, caseRange, randomOf } from "./random-cases.js";
import { againstQemus } from "./suite.js";
import { generate } from "./smmuv3/generate.js";
import type { TranslationCase } from "./smmuv3/image.js";
import { type SmmuMachine, missingMachines, smmuMachines } from "./smmuv3/machines.js";
import { Player } from "./smmuv3/play.js";
import { TranslationAgreement } from "./smmuv3/translation-agreement.js";

againstQemus("aarch64", "SMMUv3 translation", () => null, (program) => {
  for (const text of missingMachines(program)) {
    it.skip(text, () => {});
  }
  const machines = smmuMachines(program).filter((machine) => machine.name !== "legacy" || program.version[0] < 11);
  for (const machine of machines) {
    // Somewhat more than 1,000 and 100,000: a few are left out.
    const range = caseRange(Math.ceil(1050 / machines.length), Math.ceil(110_000 / machines.length));
    it(`${machine.name}: ${range.count} random images from ${range.seed}:${range.first}`, async () => {
      const agreement = await playAll(program, machine, range);
      console.log(`${program.name}: ${machine.name}: ${agreement.summary()}`);
      expect(agreement.failures.join("\n\n"), `${agreement.disagreements} of ${range.count} cases disagree`).toBe("");
    });
  }
});

async function playAll(program: QemuProgram, machine: SmmuMachine, { seed, first, count }: CaseRange): Promise<TranslationAgreement> {
  const agreement = new TranslationAgreement(program, machine);
  const testdev = machine.arguments.some((word) => word.startsWith("iommu-testdev"));
  const start = async (driver: InProcess | Qemu): Promise<Player> => {
    const player = new Player(driver, machine);
    await player.prepare();
    return player;
  };
  const ours = await start(new InProcess(machine));
  let theirs = await start(await Qemu.start(program, machine));
  try {
    for (const index of tableOrder(first, count)) {
      const one = generate(randomOf(seed, index), { stages: machine.stages, testdev, wide: atLeast(program.version, 9, 0), twoLevelStreamTable: index % 2 === 1 });
      if (!agreement.takes(one)) {
        continue;
      }
      const [left, right] = await Promise.all([ours.play(one), theirs.play(one).catch(gone)]);
      const agrees = agreement.judge(`VIOMMU_CASE=${seed}:${index}`, one, left, right);
      if (right === null) {
        theirs.driver.end();
        theirs = await start(await Qemu.start(program, machine));
        ours.restore();
      } else if (!agrees || strayed(one, left) || strayed(one, right)) {
        ours.restore();
        theirs.restore();
      }
    }
  } finally {
    ours.driver.end();
    theirs.driver.end();
  }
  return agreement;
}

function gone(error: unknown): null {
  if (error instanceof QemuGone) {
    return null;
  }
  throw error;
}

/** Even indexes have linear stream tables, odd ones two levels: QEMU never goes back to linear ones (S-6). */
function tableOrder(first: number, count: number): number[] {
  const all = Array.from({ length: count }, (_unused, n) => first + n);
  return [...all.filter((index) => index % 2 === 0), ...all.filter((index) => index % 2 === 1)];
}

/** A write that was made, but not where it was expected. */
function strayed(one: TranslationCase, seen: Observation): boolean {
  return one.accesses.some(({ device, write }, n) => {
    const result = seen[`access ${n}`];
    return write && (device === "testdev" ? result.startsWith("dead0004") : !result.includes(";") && !/^(a5)+$/.test(result));
  });
}
