import { featuresOf, type VtdFeatures } from "../../../../vtd/lookup/index.js";
import type { PhysicalVtd } from "../hardware-port.js";

/** What the kernel's driver makes of a unit's capability registers and errata. */
export interface UnitFeatures extends VtdFeatures {
  /** Second-stage tables that it uses: bits that they resolve (iommu->agaw), and their levels. */
  readonly tableBits: 39 | 48 | 57;
  readonly tableLevels: 3 | 4 | 5;
  /** Bits of IOVAs: what the tables resolve and MGAW allows. */
  readonly addressBits: number;
  /** First level that has large pages (1: 1 GiB, 2: 2 MiB, 3: none), by stage. */
  readonly largestPage: Readonly<Record<1 | 2, 1 | 2 | 3>>;
  /** Walks are coherent in the mode that is used. */
  readonly coherent: boolean;
  readonly nesting: boolean;
  readonly dirty: boolean;
  readonly pasids: boolean;
  /** Read-only mappings are not made in nesting parents. */
  readonly readOnlyErratum: boolean;
}

/** Bits of host-physical addresses in structures. */
const HOST_ADDRESS_BITS = 52;
const LEVELS = { 39: 3, 48: 4, 57: 5 } as const;

/** Tables that are neither nesting parents nor keep the dirty state are of the first stage where there is one: in its lower half. */
export function plainAddressBits({ scalableMode, firstStage, addressBits }: UnitFeatures): number {
  return scalableMode && firstStage ? addressBits - 1 : addressBits;
}

/**
 * Linux __iommu_calculate_sagaw, iommu_calculate_agaw, iommu_superpage_capability and the sm_supported,
 * nested_supported, ssads_supported, pasid_supported macros.
 */
export function unitFeatures(unit: Pick<PhysicalVtd, "cap" | "ecap" | "hasErratum">): UnitFeatures {
  const features = featuresOf(unit.cap, unit.ecap, HOST_ADDRESS_BITS);
  const { scalableMode, firstStage, secondStage } = features;
  const ofFirst = (1 << 2) | (features.fiveLevels ? 1 << 3 : 0);
  const ofSecond = features.secondStageLevels;
  const widths = !scalableMode || !firstStage ? ofSecond : !secondStage ? ofFirst : ofFirst & ofSecond;
  const tableBits = (widths & (1 << 3)) !== 0 ? 57 : (widths & (1 << 2)) !== 0 ? 48 : 39;
  return {
    ...features,
    tableBits,
    tableLevels: LEVELS[tableBits],
    addressBits: Math.min(tableBits, features.guestAddressBits),
    largestPage: {
      1: features.firstStage1g ? 1 : 2,
      2: features.secondStage2m && features.secondStage1g ? 1 : features.secondStage2m ? 2 : 3,
    },
    coherent: scalableMode ? features.coherentWalks : (unit.ecap & 1n) !== 0n,
    nesting: scalableMode && features.nested,
    dirty: scalableMode && secondStage && features.secondStageAccessedDirty,
    pasids: scalableMode && features.pasid,
    readOnlyErratum: unit.hasErratum("772415"),
  };
}
