/**
 * What an SMMU offers, read from its ID registers in the order in which Linux's arm-smmu-v3 driver reads them
 * (IDR0, IDR1, IDR3, IDR5, IIDR), and the sizes that it makes of them.
 */
import {
  IDR0,
  IDR0_STALL_MODEL_BOTH,
  IDR0_STALL_MODEL_FORCED,
  IDR0_TTENDIAN_LITTLE,
  IDR0_TTENDIAN_MIXED,
  IDR0_TTF_AARCH32_64,
  IDR0_TTF_AARCH64,
  IDR1,
  IDR3,
  IDR5,
  OAS_BITS,
  REG,
  extract,
} from "../../smmuv3/spec/index.js";
import { check } from "../failure.js";

/** log2 of the stream table entries in a leaf table of the two-level format: the split that Linux uses. */
export const STREAM_SPLIT = 8;
/** The largest queues: 1 MiB each, which is what the page allocator gives Linux in one piece (2^8 pages with CMA). */
const LARGEST_QUEUE_SHIFT = 20;

export interface SmmuFeatures {
  readonly stage1: boolean;
  readonly stage2: boolean;
  readonly twoLevelStreamTable: boolean;
  readonly twoLevelContextTable: boolean;
  readonly ats: boolean;
  readonly pri: boolean;
  readonly msi: boolean;
  readonly sev: boolean;
  readonly hyp: boolean;
  readonly stalls: boolean;
  readonly stallForced: boolean;
  readonly attributeTypesOverride: boolean;
  readonly rangeInvalidation: boolean;
  readonly asidBits: number;
  readonly vmidBits: number;
  readonly sidBits: number;
  readonly ssidBits: number;
  /** log2 of entries. */
  readonly cmdqShift: number;
  readonly evtqShift: number;
  readonly priqShift: number;
  /** Bits of an intermediate, and of an output address. */
  readonly ias: number;
  readonly oas: number;
  /** log2 of the granules: 12, 14, 16. */
  readonly granules: readonly number[];
  /** IDR0 to IDR5 as read; those that were not read are 0. */
  readonly idr: readonly number[];
}

/** Throws GuestFailure for an SMMU that Linux would refuse too. */
export async function probeFeatures(read: (register: number) => Promise<number>, name: string): Promise<SmmuFeatures> {
  const idr0 = await read(REG.IDR0);
  const endian = extract(idr0, IDR0.TTENDIAN);
  check(endian === IDR0_TTENDIAN_MIXED || endian === IDR0_TTENDIAN_LITTLE, `${name}: IDR0.TTENDIAN ${endian} has no little-endian tables`);
  const has = (field: (typeof IDR0)[keyof typeof IDR0]): boolean => extract(idr0, field) !== 0;
  check(has(IDR0.S1P) || has(IDR0.S2P), `${name}: IDR0 0x${(idr0 >>> 0).toString(16)} offers no translation`);
  const format = extract(idr0, IDR0.TTF);
  check(format === IDR0_TTF_AARCH64 || format === IDR0_TTF_AARCH32_64, `${name}: IDR0.TTF ${format} has no AArch64 tables`);
  const stall = extract(idr0, IDR0.STALL_MODEL);

  const idr1 = await read(REG.IDR1);
  check(
    extract(idr1, IDR1.TABLES_PRESET) + extract(idr1, IDR1.QUEUES_PRESET) + extract(idr1, IDR1.REL) === 0,
    `${name}: IDR1 0x${(idr1 >>> 0).toString(16)} has preset tables or queues`,
  );
  const cmdqShift = Math.min(LARGEST_QUEUE_SHIFT - 4, extract(idr1, IDR1.CMDQS));
  check(cmdqShift > 6, `${name}: a command queue of 2^${cmdqShift} entries does not hold a batch of 64 and a CMD_SYNC`);
  const sidBits = extract(idr1, IDR1.SIDSIZE);

  const idr3 = await read(REG.IDR3);
  const idr5 = await read(REG.IDR5);
  // Linux looks for implementations with errata; none of theirs changes what this driver does.
  await read(REG.IIDR);

  const oas = OAS_BITS[extract(idr5, IDR5.OAS)];
  return {
    stage1: has(IDR0.S1P),
    stage2: has(IDR0.S2P),
    // SIDSIZE that fits one leaf table needs no second level.
    twoLevelStreamTable: extract(idr0, IDR0.ST_LEVEL) === 1 && sidBits > STREAM_SPLIT,
    twoLevelContextTable: has(IDR0.CD2L),
    ats: has(IDR0.ATS),
    pri: has(IDR0.PRI),
    msi: has(IDR0.MSI),
    sev: has(IDR0.SEV),
    hyp: has(IDR0.HYP),
    stalls: stall === IDR0_STALL_MODEL_BOTH || stall === IDR0_STALL_MODEL_FORCED,
    stallForced: stall === IDR0_STALL_MODEL_FORCED,
    attributeTypesOverride: extract(idr1, IDR1.ATTR_TYPES_OVR) !== 0,
    rangeInvalidation: extract(idr3, IDR3.RIL) !== 0,
    asidBits: has(IDR0.ASID16) ? 16 : 8,
    vmidBits: has(IDR0.VMID16) ? 16 : 8,
    sidBits,
    ssidBits: extract(idr1, IDR1.SSIDSIZE),
    cmdqShift,
    evtqShift: Math.min(LARGEST_QUEUE_SHIFT - 5, extract(idr1, IDR1.EVENTQS)),
    priqShift: Math.min(LARGEST_QUEUE_SHIFT - 4, extract(idr1, IDR1.PRIQS)),
    ias: Math.max(format === IDR0_TTF_AARCH32_64 ? 40 : 0, oas),
    oas,
    granules: [
      ...(extract(idr5, IDR5.GRAN4K) !== 0 ? [12] : []),
      ...(extract(idr5, IDR5.GRAN16K) !== 0 ? [14] : []),
      ...(extract(idr5, IDR5.GRAN64K) !== 0 ? [16] : []),
    ],
    idr: [idr0, idr1, 0, idr3, 0, idr5],
  };
}
