import type { X86Tables } from "../../translation/index.js";
import type { VtdFeatures } from "./features.js";

/** Bits that second-stage tables of `levels` resolve: 39, 48 or 57 (AGAW). */
export function guestWidth(levels: number): number {
  return 12 + 9 * levels;
}

/**
 * Second-stage tables as a context or PASID entry names them (Intel VT-d 5.10, 3.7).
 *
 * @param aw the entry's AW field: levels less two, a supported one
 * @param accessedDirty SSADE
 * @param unsnooped the walk does not snoop caches: accessed and dirty flags cannot be set
 */
export function secondStageTables(
  aw: number,
  baseHigh: number,
  baseLow: number,
  features: VtdFeatures,
  accessedDirty: boolean,
  unsnooped: boolean,
): X86Tables {
  const levels = (aw + 2) as 3 | 4 | 5;
  return {
    format: "second",
    levels,
    baseHigh,
    baseLow,
    inputBits: Math.min(guestWidth(levels), features.guestAddressBits),
    outputBits: features.hostAddressBits,
    pages2m: features.secondStage2m,
    pages1g: features.secondStage1g,
    accessedDirty,
    snoopControl: features.snoopControl,
    transientMapping: features.transientMapping,
    unsnoopedWalk: unsnooped,
  };
}

/** What a PASID entry says about its first stage. */
export interface FirstStageControls {
  readonly supervisor: boolean;
  readonly writeProtect: boolean;
  readonly executeDisable: boolean;
  readonly extendedAccessed: boolean;
}

/** First-stage tables as a PASID entry names them (3.6). */
export function firstStageTables(
  levels: 4 | 5,
  baseHigh: number,
  baseLow: number,
  features: VtdFeatures,
  controls: FirstStageControls,
  unsnooped: boolean,
): X86Tables {
  return {
    format: "first",
    levels,
    baseHigh,
    baseLow,
    inputBits: levels === 5 ? 57 : 48,
    outputBits: features.hostAddressBits,
    pages2m: true,
    pages1g: features.firstStage1g,
    supervisor: controls.supervisor,
    writeProtect: controls.writeProtect,
    executeDisable: controls.executeDisable,
    extendedAccessed: controls.extendedAccessed,
    unsnoopedWalk: unsnooped,
    updatesReadOnly: features.updatesReadOnly,
  };
}
