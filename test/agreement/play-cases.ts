/** Plays translation cases on viommu and on a QEMU side by side, and judges each. */
import type { Observation } from "./agreement.js";
import { type Driver, InProcess, type MachineRequest } from "./driver.js";
import type { QemuProgram } from "./find-qemu.js";
import { Qemu, QemuGone } from "./qemu-driver.js";
import { type Subject, TranslationAgreement } from "./translation-agreement.js";

export interface CasePlayer<C> {
  readonly driver: Driver;
  /** Once for a machine. */
  prepare(): Promise<void>;
  play(one: C): Promise<Observation>;
  /** Makes RAM what it was before the first case. */
  restore(): void;
}

export interface Cases<C, Q> {
  readonly program: QemuProgram;
  readonly machine: MachineRequest;
  readonly subject: Subject<C, Q>;
  readonly seed: number;
  /** In the order in which they are played. */
  readonly indexes: readonly number[];
  generate(index: number): C;
  player(driver: Driver): CasePlayer<C>;
  /** A write was made, but not where it was expected. */
  strayed(one: C, seen: Observation): boolean;
}

export async function playCases<C, Q extends string>(cases: Cases<C, Q>): Promise<TranslationAgreement<C, Q>> {
  const { program, machine } = cases;
  const agreement = new TranslationAgreement<C, Q>(cases.subject);
  const start = async (driver: Driver): Promise<CasePlayer<C>> => {
    const player = cases.player(driver);
    await player.prepare();
    return player;
  };
  const ours = await start(new InProcess(machine));
  let theirs = await start(await Qemu.start(program, machine));
  try {
    for (const index of cases.indexes) {
      const one = cases.generate(index);
      if (!agreement.takes(one)) {
        continue;
      }
      const [left, right] = await Promise.all([ours.play(one), theirs.play(one).catch(gone)]);
      const agrees = agreement.judge(`VIOMMU_CASE=${cases.seed}:${index}`, one, left, right);
      if (right === null) {
        theirs.driver.end();
        theirs = await start(await Qemu.start(program, machine));
        ours.restore();
      } else if (!agrees || cases.strayed(one, left) || cases.strayed(one, right)) {
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

/** Whether a write that a device made is not where it was expected: `result` is what the observation says of it. */
export function writeStrayed(device: "edu" | "testdev", result: string): boolean {
  return device === "testdev" ? result.startsWith("dead0004") : !result.includes(";") && !/^(a5)+$/.test(result);
}
