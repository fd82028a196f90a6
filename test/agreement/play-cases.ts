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

/**
 * Whether a write may have gone elsewhere than expected; `seen` says of each access what is there afterwards.
 * A second write to one place cannot be told from the first.
 */
export function writesStrayed(accesses: ReadonlyArray<{ readonly device: "edu" | "testdev"; readonly write: boolean; readonly expected: number }>, seen: Observation): boolean {
  const places = new Set<number>();
  return accesses.some(({ device, write, expected }, n) => {
    const result = seen[`access ${n}`];
    if (!write || result.includes(";")) {
      return false;
    }
    const again = places.has(expected);
    places.add(expected);
    return again || (device === "testdev" ? result.startsWith("dead0004") : !/^(a5)+$/.test(result));
  });
}
