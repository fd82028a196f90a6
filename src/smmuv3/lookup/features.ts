import {
  extract,
  IDR0,
  IDR1,
  IDR3,
  IDR5,
  OAS_BITS,
} from "../spec/index.js";

/**
 * What an SMMU's identification registers say about configuration and translation. No SMMU here shows EL2 streams
 * (IDR0.HYP), stalls (IDR0.STALL_MODEL other than 0b01) or 52-bit virtual addresses (IDR5.VAX): entries are judged as
 * the architecture has it without them.
 */
export interface LookupFeatures {
  readonly stage1: boolean;
  readonly stage2: boolean;
  /** VMSAv8-64 tables (IDR0.TTF). */
  readonly aarch64: boolean;
  /** VMSAv8-32 LPAE tables (IDR0.TTF); they are recognized, not walked. */
  readonly aarch32: boolean;
  /** Hardware update of access flag and dirty state (IDR0.HTTU); judged, not done. */
  readonly httu: number;
  readonly ats: boolean;
  /** Split-stage ATS is not supported (IDR0.NS1ATS). */
  readonly noSplitStageAts: boolean;
  readonly asid16: boolean;
  readonly vmid16: boolean;
  readonly twoLevelCd: boolean;
  readonly twoLevelStreamTable: boolean;
  /** RAZ/WI termination is not supported (IDR0.TERM_MODEL). */
  readonly abortOnly: boolean;
  /** Errors of ATS Translated transactions can be recorded (IDR0.ATSRECERR). */
  readonly atsErrors: boolean;
  /** IDR0.TTENDIAN: IDR0_TTENDIAN_*. */
  readonly endianness: number;
  readonly sidBits: number;
  readonly ssidBits: number;
  /** STE.PRIVCFG and INSTCFG have an effect (IDR1.ATTR_PERMS_OVR). */
  readonly permissionOverrides: boolean;
  /** CD.HAD0 and HAD1 have an effect. */
  readonly hierarchicalDisable: boolean;
  readonly executeNeverPerPrivilege: boolean;
  readonly forceWriteBack: boolean;
  readonly smallTables: boolean;
  readonly rangeInvalidation: boolean;
  readonly e0pd: boolean;
  readonly granule4k: boolean;
  readonly granule16k: boolean;
  readonly granule64k: boolean;
  /** OAS in bits. */
  readonly outputBits: number;
  /** IAS in bits (Arm IHI 0070, 3.4). */
  readonly inputBits: number;
}

/** Decodes IDR0 to IDR5, given in this order. */
export function featuresOf(idr: ArrayLike<number>): LookupFeatures {
  const bit0 = (f: (typeof IDR0)[keyof typeof IDR0]): boolean => extract(idr[0], f) !== 0;
  const bit3 = (f: (typeof IDR3)[keyof typeof IDR3]): boolean => extract(idr[3], f) !== 0;
  const ttf = extract(idr[0], IDR0.TTF);
  const outputBits = OAS_BITS[extract(idr[5], IDR5.OAS)];
  const aarch32 = (ttf & 1) !== 0;
  return {
    stage1: bit0(IDR0.S1P),
    stage2: bit0(IDR0.S2P),
    aarch64: (ttf & 2) !== 0,
    aarch32,
    httu: extract(idr[0], IDR0.HTTU),
    ats: bit0(IDR0.ATS),
    noSplitStageAts: bit0(IDR0.NS1ATS),
    asid16: bit0(IDR0.ASID16),
    vmid16: bit0(IDR0.VMID16),
    twoLevelCd: bit0(IDR0.CD2L),
    twoLevelStreamTable: extract(idr[0], IDR0.ST_LEVEL) !== 0,
    abortOnly: bit0(IDR0.TERM_MODEL),
    atsErrors: bit0(IDR0.ATSRECERR),
    endianness: extract(idr[0], IDR0.TTENDIAN),
    sidBits: extract(idr[1], IDR1.SIDSIZE),
    ssidBits: extract(idr[1], IDR1.SSIDSIZE),
    permissionOverrides: extract(idr[1], IDR1.ATTR_PERMS_OVR) !== 0,
    hierarchicalDisable: bit3(IDR3.HAD),
    executeNeverPerPrivilege: bit3(IDR3.XNX),
    forceWriteBack: bit3(IDR3.FWB),
    smallTables: bit3(IDR3.STT),
    rangeInvalidation: bit3(IDR3.RIL),
    e0pd: bit3(IDR3.E0PD),
    granule4k: extract(idr[5], IDR5.GRAN4K) !== 0,
    granule16k: extract(idr[5], IDR5.GRAN16K) !== 0,
    granule64k: extract(idr[5], IDR5.GRAN64K) !== 0,
    outputBits,
    // 3.4: IAS is MAX(40, OAS) with VMSAv8-32 LPAE, else OAS.
    inputBits: aarch32 ? Math.max(40, outputBits) : outputBits,
  };
}

/** log2 of the granule that STE.S2TG or CD.TG0 selects; 0 where it is reserved or not supported. */
export function granuleOfTg0(tg: number, features: LookupFeatures): 0 | 12 | 14 | 16 {
  switch (tg) {
    case 0:
      return features.granule4k ? 12 : 0;
    case 1:
      return features.granule64k ? 16 : 0;
    case 2:
      return features.granule16k ? 14 : 0;
    default:
      return 0;
  }
}

/** log2 of the granule that CD.TG1 selects; 0 where it is reserved or not supported. */
export function granuleOfTg1(tg: number, features: LookupFeatures): 0 | 12 | 14 | 16 {
  switch (tg) {
    case 1:
      return features.granule16k ? 14 : 0;
    case 2:
      return features.granule4k ? 12 : 0;
    case 3:
      return features.granule64k ? 16 : 0;
    default:
      return 0;
  }
}

/** Largest valid TxSZ of a granule (5.2 STE.S2T0SZ, 5.4 CD.T0SZ). */
export function largestTxsz(granuleBits: number, features: LookupFeatures): number {
  return features.smallTables ? (granuleBits === 16 ? 47 : 48) : 39;
}

/** Bits that a table of this granule can put out or lie at: 52-bit addresses need the 64K granule (no FEAT_LPA2). */
export function outputBitsOf(encoded: number, granuleBits: number, features: LookupFeatures): number {
  const bits = Math.min(OAS_BITS[encoded], features.outputBits);
  return granuleBits === 16 ? bits : Math.min(bits, 48);
}
