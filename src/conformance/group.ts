/** A group of calls that are made one after the other on an iommufd of their own. */
import type { Bench, Subjects } from "./bench.js";
import type { Facts } from "./survey.js";

/** What a run allows beyond looking. */
export interface SuiteOptions {
  /** The function may be reset. */
  readonly reset: boolean;
  /**
   * Commands that an SMMU may refuse may be given, too: a kernel that does not judge them (before 7.3) hands them on,
   * and an SMMU that stops at one keeps all its users waiting until the kernel has passed over it.
   */
  readonly illegal: boolean;
}

interface Need {
  readonly isMet: (facts: Facts, subjects: Subjects, options: SuiteOptions) => boolean;
  /** Why a group is not run: "not run: ...". */
  readonly otherwise: string;
}

/** What a group may need of the host, the functions or the user. */
export const NEEDS = {
  smmuv3: { isMet: (facts) => facts.iommu === "smmuv3", otherwise: "the IOMMU is no SMMUv3" },
  vtd: { isMet: (facts) => facts.iommu === "vtd", otherwise: "the IOMMU is no VT-d unit" },
  nesting: { isMet: (facts) => facts.nesting, otherwise: "the IOMMU does not nest" },
  "no nesting": { isMet: (facts) => !facts.nesting, otherwise: "the IOMMU nests" },
  dirty: { isMet: (facts) => facts.dirtyTracking, otherwise: "the IOMMU keeps no dirty state" },
  "no dirty": { isMet: (facts) => !facts.dirtyTracking, otherwise: "the IOMMU keeps dirty state" },
  pasid: { isMet: (facts) => facts.pasidBits > 0, otherwise: "the function has no PASIDs" },
  "no pasid": { isMet: (facts) => facts.pasidBits === 0, otherwise: "the function has PASIDs" },
  intx: { isMet: (facts) => facts.intx, otherwise: "the function has no INTx" },
  msi: { isMet: (facts) => facts.msi > 0, otherwise: "the function has no MSI" },
  "no intx": { isMet: (facts) => !facts.intx, otherwise: "the function has INTx" },
  "no msi": { isMet: (facts) => facts.msi === 0, otherwise: "the function has MSI" },
  msix: { isMet: (facts) => facts.msix > 3, otherwise: "the function has no MSI-X of four vectors" },
  files: { isMet: (facts) => facts.files, otherwise: "the host's memory is of no files" },
  neighbour: { isMet: (_facts, subjects) => subjects.neighbour !== null, otherwise: "no --device names a second function behind the IOMMU" },
  stranger: { isMet: (_facts, subjects) => subjects.stranger !== null, otherwise: "no --device names a function behind another IOMMU" },
  illegal: { isMet: (_facts, _subjects, options) => options.illegal, otherwise: "the kernel would hand illegal commands to the SMMU, and --illegal is not given" },
  reset: { isMet: (facts, _subjects, options) => options.reset && facts.resets, otherwise: "--reset is not given, or the function cannot be reset" },
} as const satisfies Record<string, Need>;

export interface Group {
  readonly name: string;
  /** What it is about, in a few words. */
  readonly about: string;
  readonly needs?: ReadonlyArray<keyof typeof NEEDS>;
  readonly run: (bench: Bench) => void;
}

/** Why a group is not run; null: it is. */
export function notRun(group: Group, facts: Facts, subjects: Subjects, options: SuiteOptions): string | null {
  const unmet = (group.needs ?? []).find((need) => !NEEDS[need].isMet(facts, subjects, options));
  return unmet === undefined ? null : NEEDS[unmet].otherwise;
}
