/** What differs between the kernels that a host file may name. */
export interface KernelRules {
  /** HWPT_INVALIDATE judges a guest's SMMUv3 commands (arm_vsmmu_validate_user_cmd) before it takes them. */
  readonly judgesCommands: boolean;
  /** HWPT_GET_DIRTY_BITMAP refuses a range of length 0 before it looks at the table. */
  readonly refusesEmptyBitmaps: boolean;
  /** MSI-X vectors of an Arm host (GICv3 ITS) can be added while others are on; those of x86 always can. */
  readonly growsMsix: boolean;
  /** There is IOAS_NOIOMMU_GET_PA. */
  readonly hasNoIommuAddress: boolean;
}

const RULES = {
  "7.2": { judgesCommands: false, refusesEmptyBitmaps: false, growsMsix: false, hasNoIommuAddress: false },
  "7.3": { judgesCommands: true, refusesEmptyBitmaps: true, growsMsix: true, hasNoIommuAddress: true },
} as const satisfies Record<string, KernelRules>;

/** A Linux whose answers the simulated kernel gives. */
export type KernelVersion = keyof typeof RULES;

export function kernelRules(version: KernelVersion): KernelRules {
  return RULES[version];
}
