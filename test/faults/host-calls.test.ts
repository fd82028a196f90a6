/**
 * The n-th host call of every kind fails, in every phase of a machine's life (VIOMMU_FUZZ=nightly: every
 * call with every errno; else every third kind in each phase once, on the smallest machine of an architecture that has it,
 * and a part of them on the larger one).
 */
import { describe, expect, it } from "vitest";
import type { Errno } from "../../src/iommufd/index.js";
import { type Call, cleanRun, faultyRun, type Plan } from "./harness.js";
import { ONE_FUNCTION, ONE_SMMU, Q35, TWO_SMMUS } from "./specs.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";

/** Of each architecture, the smaller machines first. */
const ARCHITECTURES = { SMMUv3: [ONE_SMMU, TWO_SMMUS], "VT-d": [ONE_FUNCTION, Q35] };

/** What the kernel may answer to a call. */
const ERRNOS: Record<string, readonly Errno[]> = {
  HWPT_INVALIDATE: ["EIO", "ETIMEDOUT", "EINVAL"],
  DESTROY: ["EBUSY", "EINVAL"],
  "open /dev/vfio": ["EBUSY", "ENODEV"],
  read: ["EIO"],
  write: ["EIO"],
};
const USUAL: readonly Errno[] = ["ENOMEM", "EINVAL", "EBUSY"];

/** One call refused with every errno; three in a row, so that the way out is refused too; all from then on. */
function plansFor({ operation, nth }: Call): Plan[] {
  const errnos = ERRNOS[operation] ?? USUAL;
  const plans: Plan[] = errnos.map((errno) => ({ operation, nth, errno }));
  if (operation === "HWPT_INVALIDATE") {
    plans.push({ operation, nth, errno: "EIO", handled: 1 });
  }
  return [...plans, { operation, nth, errno: errnos[0], times: 3 }, { operation, nth, errno: errnos[0], times: "all" }];
}

/** In `npm test`: of every third kind in each phase that no smaller machine has had one call, in one of the ways; and of the others a twelfth. */
function sample(calls: readonly Call[], met: Set<string>): Plan[] {
  const groups = new Map<string, Call[]>();
  for (const call of calls) {
    const key = `${call.operation}/${call.phase}`;
    groups.set(key, [...(groups.get(key) ?? []), call]);
  }
  const chosen = [...groups].filter(([key], i) => (!met.has(key) && i % 3 === 0) || i % 12 === 0);
  for (const key of groups.keys()) {
    met.add(key);
  }
  return chosen.map(([, group], i) => {
    const plans = plansFor(group[(i * 7) % group.length]);
    return plans[i % plans.length];
  });
}

describe.each(Object.entries(ARCHITECTURES))("%s", (_name, specs) => {
  const met = new Set<string>();

  it.each(specs)("holds what always holds, whichever host call fails: $name", { timeout: NIGHTLY ? 7_200_000 : 600_000 }, async (spec) => {
    const calls = await cleanRun(spec);
    const plans = NIGHTLY ? calls.flatMap(plansFor) : sample(calls, met);
    const wrong: string[] = [];
    for (const [index, plan] of plans.entries()) {
      try {
        expect(await faultyRun(spec, plan), "the call has to come").toBe(true);
      } catch (error) {
        const { phase, step } = calls.find((call) => call.operation === plan.operation && call.nth === plan.nth)!;
        const how = `${plan.operation} number ${plan.nth}, ${plan.errno}${plan.times === undefined ? "" : `, ${plan.times} times`}${plan.handled === undefined ? "" : `, ${plan.handled} done`}`;
        wrong.push(`${how}, in ${phase} (${step}): ${(error as Error).message.split("\n").slice(0, 12).join("\n")}`);
      }
      if (NIGHTLY && index % 200 === 199) {
        process.stderr.write(`faults, ${spec.name}: ${index + 1} of ${plans.length} runs\n`);
      }
    }
    expect(wrong).toEqual([]);
  });
});
