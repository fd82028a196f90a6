/** Random cases by seed and index: each can be played alone with VIOMMU_CASE=SEED:INDEX. */
import { Random } from "../fuzz/random.js";

const SEED = 20260101;

export interface CaseRange {
  readonly seed: number;
  readonly first: number;
  readonly count: number;
}

/** What VIOMMU_CASE asks for, else cases from 0 on: `nightly` of them with VIOMMU_FUZZ=nightly. VIOMMU_SEED sets another seed. */
export function caseRange(usual: number, nightly: number): CaseRange {
  const alone = /^(\d+):(\d+)$/.exec(process.env.VIOMMU_CASE ?? "");
  if (alone !== null) {
    return { seed: Number(alone[1]), first: Number(alone[2]), count: 1 };
  }
  return { seed: Number(process.env.VIOMMU_SEED ?? SEED), first: 0, count: process.env.VIOMMU_FUZZ === "nightly" ? nightly : Number(process.env.VIOMMU_CASES ?? usual) };
}

/** The generator of one case: it does not depend on those before. */
export function randomOf(seed: number, index: number): Random {
  return new Random(Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(index + 1, 0xc2b2_ae35));
}
