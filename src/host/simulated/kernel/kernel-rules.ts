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

/** What a kernel is: its version, and what it was built with where that is known. */
export interface KernelBuild {
  /** Such as 7.3, or 6.12.48-generic. */
  readonly version: string;
  /** y, m, n or a value by option; null: it has all that is asked for. */
  readonly config: Readonly<Record<string, string>> | null;
}

/** Whether a kernel was built without an option. */
export function lacks({ config }: KernelBuild, option: string): boolean {
  return config?.[option] === "n";
}

const RULES = {
  "7.2": { judgesCommands: false, refusesEmptyBitmaps: false, growsMsix: false, hasNoIommuAddress: false },
  "7.3": { judgesCommands: true, refusesEmptyBitmaps: true, growsMsix: true, hasNoIommuAddress: true },
} as const satisfies Record<string, KernelRules>;

/** Those of 7.3, of an older kernel those of 7.2. */
export function kernelRules({ version }: KernelBuild): KernelRules {
  const [major, minor] = version.split(/[^0-9]/).map(Number);
  return RULES[major > 7 || (major === 7 && minor >= 3) ? "7.3" : "7.2"];
}
