/** What a remapping unit offers (CAP, ECAP), and what a driver makes of it as Linux's intel-iommu driver does. */
import { get } from "../../support/index.js";
import { CAP, ECAP } from "../../vtd/spec/index.js";
import { check } from "../failure.js";
import { fromQword } from "../iommu/words.js";

/** What is not to be used although it is there, where a word says so; Linux: intel_iommu=sm_off, intremap=off. */
export interface VtdChoice {
  readonly scalable?: boolean;
  readonly interruptRemapping?: boolean;
  /** Invalidation by registers where it is false. */
  readonly queued?: boolean;
  /** Second-stage tables although the first stage is there (as for domains that other tables are nested on). */
  readonly secondStage?: boolean;
  /** Takes a PASID entry away with its caches before another one comes, as Linux does since 7.0; earlier ones write over it. */
  readonly tearDownPasids?: boolean;
  /** Takes the tables over that were found in use, as a crash kernel does, instead of a clean start. */
  readonly copyTables?: boolean;
}

export interface VtdFeatures {
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Scalable-mode tables are used. */
  readonly scalable: boolean;
  /** Descriptors have 256 bits wherever there is scalable mode, used or not (Linux: __dmar_enable_qi). */
  readonly wideDescriptors: boolean;
  /** Domains have first-stage tables, else second-stage ones. */
  readonly firstStage: boolean;
  readonly passThrough: boolean;
  readonly deviceTlb: boolean;
  readonly queued: boolean;
  readonly interruptRemapping: boolean;
  readonly extendedInterruptMode: boolean;
  readonly cachingMode: boolean;
  readonly writeBufferFlush: boolean;
  readonly pageSelective: boolean;
  /** log2 of the pages that a page-selective invalidation covers at most. */
  readonly maxAddressMask: number;
  readonly domainBits: number;
  /** log2 of the PASIDs; 0: none. */
  readonly pasidBits: number;
  /** Levels and input bits of second-stage tables. */
  readonly secondStageLevels: 3 | 4 | 5;
  readonly secondStageBits: number;
  readonly secondStageSizes: readonly number[];
  readonly firstStage1g: boolean;
  readonly snoopControl: boolean;
  /** PASID-table entries may ask for snooped page walks. */
  readonly pageWalkSnoop: boolean;
  /** The status bits of SRTP and SIRTP imply the invalidations that otherwise follow them. */
  readonly rootInvalidates: boolean;
  readonly remappingTableInvalidates: boolean;
  readonly faultRecords: { readonly offset: number; readonly count: number };
  /** Offset of IVA. */
  readonly iotlbRegisters: number;
}

/** Throws GuestFailure for a unit that Linux would refuse too. */
export function vtdFeatures(name: string, cap: bigint, ecap: bigint, choice: VtdChoice = {}): VtdFeatures {
  const c = fromQword(cap);
  const e = fromQword(ecap);
  const has = (f: (typeof ECAP)[keyof typeof ECAP]): boolean => get(e, f) !== 0;
  const queued = has(ECAP.QI) && choice.queued !== false;
  // Only a queue invalidates PASID caches.
  const scalable = has(ECAP.SMTS) && queued && choice.scalable !== false;
  const [first, second] = [has(ECAP.FSTS), has(ECAP.SSTS)];
  check(!scalable || first || second, `${name}: ECAP 0x${ecap.toString(16)} has scalable mode and neither stage`);
  // Only one of them, or the first where there is a choice (Linux: first_level_by_default).
  const firstStage = scalable && first && !(second && choice.secondStage === true);
  const widths = get(c, CAP.SAGAW);
  const mgaw = get(c, CAP.MGAW) + 1;
  const levels = ([5, 4, 3] as const).find((n) => ((widths >> (n - 2)) & 1) !== 0 && 9 * n + 12 <= Math.max(mgaw, 39));
  check(levels !== undefined, `${name}: CAP 0x${cap.toString(16)} has no width of second-stage tables`);
  const large = get(c, CAP.SSLPS);
  return {
    cap,
    ecap,
    scalable,
    wideDescriptors: has(ECAP.SMTS),
    firstStage,
    passThrough: has(ECAP.PT),
    deviceTlb: has(ECAP.DT) && queued,
    queued,
    interruptRemapping: has(ECAP.IR) && queued && choice.interruptRemapping !== false,
    extendedInterruptMode: has(ECAP.EIM),
    cachingMode: get(c, CAP.CM) === 1,
    writeBufferFlush: get(c, CAP.RWBF) === 1,
    pageSelective: get(c, CAP.PSI) === 1,
    maxAddressMask: get(c, CAP.MAMV),
    domainBits: 4 + 2 * get(c, CAP.ND),
    pasidBits: scalable && has(ECAP.PASID) ? get(e, ECAP.PSS) + 1 : 0,
    secondStageLevels: levels,
    secondStageBits: Math.min(9 * levels + 12, mgaw),
    secondStageSizes: [2 ** 12, ...((large & 1) !== 0 ? [2 ** 21] : []), ...((large & 2) !== 0 ? [2 ** 30] : [])],
    firstStage1g: get(c, CAP.FS1GP) === 1,
    snoopControl: has(ECAP.SC),
    pageWalkSnoop: has(ECAP.SMPWCS),
    rootInvalidates: get(c, CAP.ESRTPS) === 1,
    remappingTableInvalidates: get(c, CAP.ESIRTPS) === 1,
    faultRecords: { offset: (get(c, CAP.FRO_LOW) | (get(c, CAP.FRO_HIGH) << 8)) * 16, count: get(c, CAP.NFR) + 1 },
    iotlbRegisters: get(e, ECAP.IRO) * 16,
  };
}
