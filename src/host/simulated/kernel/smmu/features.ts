import { extract, IDR0, IDR0_STALL_MODEL_BOTH, IDR1, IDR3, IDR5, IIDR, OAS_BITS } from "../../../../smmuv3/spec/index.js";
import type { PhysicalSmmu } from "../hardware-port.js";

/** What the kernel's driver makes of an SMMU's ID registers and of the errata that it knows by IIDR. */
export interface SmmuFeatures {
  readonly stage1: boolean;
  readonly stage2: boolean;
  /** Both stages, and no erratum that forbids their nesting. */
  readonly nesting: boolean;
  readonly ats: boolean;
  /** Range invalidation (IDR3.RIL). */
  readonly ranges: boolean;
  /** Hardware update of the dirty state (IDR0.HTTU). */
  readonly dirty: boolean;
  readonly forceWriteBack: boolean;
  readonly attributeOverride: boolean;
  readonly stallOptional: boolean;
  readonly twoLevelContexts: boolean;
  readonly substreamBits: number;
  readonly vmidBits: number;
  readonly asidBits: number;
  /** Bits of output addresses with 4 KiB granules: at most 48. */
  readonly outputBits: number;
  readonly cacheCoherent: boolean;
  /** Translates in pages of 4 KiB, the kernel's own size. */
  readonly kernelPages: boolean;
}

/** What the driver looks at. */
export type IdentifiedSmmu = Pick<PhysicalSmmu, "idr" | "iidr" | "hasErratum">;

const ARM = 0x43b;
const MMU_600 = 0x483;
const MMU_700 = 0x487;

export function smmuFeatures(smmu: IdentifiedSmmu): SmmuFeatures {
  const [idr0, idr1, , idr3, , idr5] = smmu.idr;
  const stage1 = extract(idr0, IDR0.S1P) !== 0;
  const stage2 = extract(idr0, IDR0.S2P) !== 0;
  const cacheCoherent = extract(idr0, IDR0.COHACC) !== 0;
  return {
    stage1,
    stage2,
    nesting: stage1 && stage2 && !nestingErratum(smmu),
    ats: extract(idr0, IDR0.ATS) !== 0,
    ranges: extract(idr3, IDR3.RIL) !== 0,
    // Linux takes dirty tracking where the SMMU updates the dirty state and its walks are coherent.
    dirty: extract(idr0, IDR0.HTTU) === 2 && cacheCoherent,
    forceWriteBack: extract(idr3, IDR3.FWB) !== 0,
    attributeOverride: extract(idr1, IDR1.ATTR_TYPES_OVR) !== 0,
    stallOptional: extract(idr0, IDR0.STALL_MODEL) === IDR0_STALL_MODEL_BOTH,
    twoLevelContexts: extract(idr0, IDR0.CD2L) !== 0,
    substreamBits: extract(idr1, IDR1.SSIDSIZE),
    vmidBits: extract(idr0, IDR0.VMID16) !== 0 ? 16 : 8,
    asidBits: extract(idr0, IDR0.ASID16) !== 0 ? 16 : 8,
    outputBits: Math.min(48, OAS_BITS[extract(idr5, IDR5.OAS)]),
    cacheCoherent,
    kernelPages: extract(idr5, IDR5.GRAN4K) !== 0,
  };
}

/** Why the kernel nests no tables of a guest's in this SMMU's stage 2 (arm_vsmmu_init, arm_smmu_get_viommu_size); null: it does. */
export function nestingObstacle({ stage1, stage2, nesting, forceWriteBack }: SmmuFeatures, coherent: boolean): string | null {
  if (!stage1 || !stage2) {
    return `does not nest: IDR0 has no ${stage1 ? "S2P" : "S1P"}`;
  }
  if (!nesting) {
    return "does not nest: an erratum forbids it";
  }
  // Without either a guest could make its DMA incoherent with memory that the host believes coherent.
  return coherent || forceWriteBack ? null : "has neither CANWBS nor S2FWB";
}

/** Arm errata 1209401 (MMU-600 before r2p0), 2268618 and 2812531 (MMU-700 before r1p1): nesting is not used. */
function nestingErratum(smmu: IdentifiedSmmu): boolean {
  if (smmu.hasErratum("arm-1209401") || smmu.hasErratum("arm-2268618") || smmu.hasErratum("arm-2812531")) {
    return true;
  }
  if (extract(smmu.iidr, IIDR.IMPLEMENTER) !== ARM) {
    return false;
  }
  const product = extract(smmu.iidr, IIDR.PRODUCT_ID);
  const variant = extract(smmu.iidr, IIDR.VARIANT);
  const revision = extract(smmu.iidr, IIDR.REVISION);
  return (product === MMU_600 && variant < 2) || (product === MMU_700 && (variant < 1 || (variant === 1 && revision < 1)));
}
