import { get } from "../../support/index.js";
import { CAP, ECAP } from "../spec/index.js";

/** What CAP and ECAP say about remapping structures and translation (Intel VT-d 5.10, 11.4.2 and 11.4.3). */
export interface VtdFeatures {
  /** Host address width (DMAR HAW): address bits from here to 63 are reserved in structures. */
  readonly hostAddressBits: number;
  /** MGAW in bits: a second stage's input addresses are below 2^this. */
  readonly guestAddressBits: number;
  /** SAGAW: bit n set where second-stage tables of n + 2 levels are supported. */
  readonly secondStageLevels: number;
  /** Second-stage pages of 2 MiB and 1 GiB (SSLPS). */
  readonly secondStage2m: boolean;
  readonly secondStage1g: boolean;
  /** Bit 62 of second-stage leaves is ignored: the transient-mapping hint of early revisions. */
  readonly transientMapping: boolean;
  /** First-stage pages of 1 GiB (FS1GP); 2 MiB always are supported. */
  readonly firstStage1g: boolean;
  /** First-stage tables of five levels (FS5LP). */
  readonly fiveLevels: boolean;
  /** Width of domain ids in bits: 4 to 16 (ND). */
  readonly domainBits: number;
  readonly cachingMode: boolean;
  /** Zero-length reads of write-only pages succeed (ZLR). */
  readonly zeroLengthReads: boolean;
  /** Page-selective invalidation (PSI), and the largest address mask (MAMV). */
  readonly pageSelective: boolean;
  readonly largestAddressMask: number;

  readonly passThrough: boolean;
  /** Device-TLBs (DT). */
  readonly deviceTlb: boolean;
  readonly snoopControl: boolean;
  readonly memoryTypes: boolean;
  readonly interruptRemapping: boolean;
  /** Destinations of 32 bits (EIM). */
  readonly extendedInterrupts: boolean;

  readonly scalableMode: boolean;
  readonly firstStage: boolean;
  readonly secondStage: boolean;
  readonly nested: boolean;
  /** Requests for privileged mode (SRS). */
  readonly supervisorRequests: boolean;
  /** Requests to execute (ERS): of revisions before 5, whose PASID entries have ERE and NXE. */
  readonly executeRequests: boolean;
  /** Extended accessed flag (EAFS). */
  readonly extendedAccessed: boolean;
  /** Translation Requests' no-write flag counts (NWFS). */
  readonly noWriteFlag: boolean;
  /** Accessed and dirty flags of the second stage (SSADS). */
  readonly secondStageAccessedDirty: boolean;
  readonly pageRequests: boolean;
  /** Requests with PASID (PASID). */
  readonly pasid: boolean;
  /** Width of PASIDs in bits, 1 to 20 (PSS); 20 without PASID support. */
  readonly pasidBits: number;
  /** Context entries say which PASID requests without one use (RPS), and their privilege (RPRIVS). */
  readonly ridPasid: boolean;
  readonly ridPrivilege: boolean;
  /** Walks of scalable mode can snoop (SMPWCS). */
  readonly coherentWalks: boolean;
  /** RTADDR.TTM can say abort-DMA (ADMS). */
  readonly abortDma: boolean;
  /** Erratum 772415: first-stage accessed and dirty bits are set in memory that the second stage makes read-only. Default false. */
  readonly updatesReadOnly?: boolean;
}

/**
 * Decodes the capability registers.
 *
 * @param cap,ecap CAP_REG and ECAP_REG, 64 bits
 * @param hostAddressBits host address width in bits, as the DMAR table has it
 * @param transientMapping units with device-TLBs ignore bit 62 of second-stage leaves, as old ones do; no register tells
 */
export function featuresOf(cap: bigint, ecap: bigint, hostAddressBits: number, transientMapping = false): VtdFeatures {
  const capWords = words(cap);
  const ecapWords = words(ecap);
  const c = (f: (typeof CAP)[keyof typeof CAP]): number => get(capWords, f);
  const e = (f: (typeof ECAP)[keyof typeof ECAP]): number => get(ecapWords, f);
  const pasid = e(ECAP.PASID) !== 0;
  return {
    hostAddressBits,
    guestAddressBits: c(CAP.MGAW) + 1,
    secondStageLevels: c(CAP.SAGAW),
    secondStage2m: (c(CAP.SSLPS) & 1) !== 0,
    secondStage1g: (c(CAP.SSLPS) & 2) !== 0,
    transientMapping: transientMapping && e(ECAP.DT) !== 0,
    firstStage1g: c(CAP.FS1GP) !== 0,
    fiveLevels: c(CAP.FS5LP) !== 0,
    domainBits: Math.min(16, 4 + 2 * c(CAP.ND)),
    cachingMode: c(CAP.CM) !== 0,
    zeroLengthReads: c(CAP.ZLR) !== 0,
    pageSelective: c(CAP.PSI) !== 0,
    largestAddressMask: c(CAP.MAMV),
    passThrough: e(ECAP.PT) !== 0,
    deviceTlb: e(ECAP.DT) !== 0,
    snoopControl: e(ECAP.SC) !== 0,
    memoryTypes: e(ECAP.MTS) !== 0,
    interruptRemapping: e(ECAP.IR) !== 0,
    extendedInterrupts: e(ECAP.EIM) !== 0,
    scalableMode: e(ECAP.SMTS) !== 0,
    firstStage: e(ECAP.FSTS) !== 0,
    secondStage: e(ECAP.SSTS) !== 0,
    nested: e(ECAP.NEST) !== 0,
    supervisorRequests: e(ECAP.SRS) !== 0,
    executeRequests: e(ECAP.ERS) !== 0,
    extendedAccessed: e(ECAP.EAFS) !== 0,
    noWriteFlag: e(ECAP.NWFS) !== 0,
    secondStageAccessedDirty: e(ECAP.SSADS) !== 0,
    pageRequests: e(ECAP.PRS) !== 0,
    pasid,
    pasidBits: pasid ? Math.min(20, e(ECAP.PSS) + 1) : 20,
    ridPasid: e(ECAP.RPS) !== 0,
    ridPrivilege: e(ECAP.RPRIVS) !== 0,
    coherentWalks: e(ECAP.SMPWCS) !== 0,
    abortDma: e(ECAP.ADMS) !== 0,
  };
}

function words(value: bigint): Int32Array {
  return Int32Array.of(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
}

/** Bits of an address's high word from bit `bits` of the address on. */
export function highBeyond(bits: number): number {
  return bits >= 64 ? 0 : bits <= 32 ? -1 : -1 << (bits - 32);
}

/** The same of its low word. */
export function lowBeyond(bits: number): number {
  return bits >= 32 ? 0 : -1 << bits;
}

/** Whether an address has bits from bit `bits` on. */
export function isBeyond(bits: number, high: number, low: number): boolean {
  return ((high & highBeyond(bits)) | (low & lowBeyond(bits))) !== 0;
}
