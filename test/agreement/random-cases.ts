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
  const { VIOMMU_CASE: one = "" } = process.env;
  const alone = /^(\d+):(\d+)$/.exec(one);
  if (alone === null && one !== "") {
    throw new Error(`VIOMMU_CASE=${one} is not SEED:INDEX`);
  }
  if (alone !== null) {
    return { seed: Number(alone[1]), first: Number(alone[2]), count: 1 };
  }
  return { seed: whole("VIOMMU_SEED", SEED), first: 0, count: process.env.VIOMMU_FUZZ === "nightly" ? nightly : whole("VIOMMU_CASES", usual) };
}

function whole(name: string, usual: number): number {
  const text = process.env[name] ?? "";
  if (!/^\d*$/.test(text)) {
    throw new Error(`${name}=${text} is not a whole number`);
  }
  return text === "" ? usual : Number(text);
}

/** The generator of one case: it does not depend on those before. */
export function randomOf(seed: number, index: number): Random {
  return new Random(Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(index + 1, 0xc2b2_ae35));
}
