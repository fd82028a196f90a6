/** Plays caching cases on viommu and on a QEMU: what shows before a change, and after it and its invalidations. */
import { expect } from "vitest";
import type { Driver, MachineRequest } from "./driver.js";
import type { QemuProgram } from "./find-qemu.js";
import { type CaseRange, randomOf } from "./random-cases.js";
import type { Random } from "../fuzz/random.js";
import { withBoth } from "./suite.js";

interface CachingCase {
  /** The architecture decides that the new one shows. */
  readonly covered: boolean;
  readonly notes: readonly string[];
}

/** What may show of a case, as the reference says: before the change, and the new one after it. */
export interface Shows {
  readonly old: string;
  readonly now: string;
  /** Other answers that count as the new one. */
  readonly alsoNew?: readonly string[];
  /** The new one has to show. */
  readonly decided: boolean;
}

export interface CachingCases<C extends CachingCase> {
  readonly program: QemuProgram;
  readonly machine: MachineRequest & { readonly name: string };
  readonly range: CaseRange;
  generate(random: Random): C;
  player(driver: Driver): { prepare(): Promise<void>; playCaching(one: C): Promise<readonly [string, string]> };
  expected(one: C, ofQemu: boolean): Shows;
}

export async function playCachingCases<C extends CachingCase>({ program, machine, range, generate, player, expected }: CachingCases<C>): Promise<void> {
  const { seed, first, count } = range;
  const failures: string[] = [];
  const told = { covered: 0, ours: 0, theirs: 0 };
  await withBoth(program, machine, async (ours, theirs) => {
    const sides = [ours, theirs].map((driver) => ({ driver, player: player(driver), ofQemu: driver === theirs }));
    await Promise.all(sides.map((side) => side.player.prepare()));
    for (let index = first; index < first + count && failures.length < 5; index++) {
      const one = generate(randomOf(seed, index));
      told.covered += Number(one.covered);
      for (const side of sides) {
        const [warm, shown] = await side.player.playCaching(one);
        const { old, now, alsoNew = [], decided } = expected(one, side.ofQemu);
        told[side.ofQemu ? "theirs" : "ours"] += Number(shown === now);
        const isNew = shown === now || alsoNew.includes(shown);
        if (warm !== old || (!isNew && (decided || shown !== old))) {
          failures.push(`VIOMMU_CASE=${seed}:${index} ${side.driver.name}: first ${warm}, then ${shown}; old ${old}, new ${now}${one.covered ? ", which has to show" : ""}\n  ${one.notes.join("; ")}`);
        }
      }
    }
  });
  console.log(`${program.name}: ${machine.name}: caching: ${count} cases, ${told.covered} where the architecture decides; the new one shows in ${told.ours} (viommu) and ${told.theirs} (QEMU)`);
  expect(failures.join("\n\n")).toBe("");
}
