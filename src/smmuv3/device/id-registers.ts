import { deposit, IDR0, IDR1, IDR3, IDR5, IDR0_STALL_MODEL_TERMINATE, IDR0_TTENDIAN_LITTLE, IDR0_TTF_AARCH64, oasCode } from "../spec/index.js";

/** What a vSMMU offers, with every `auto` decided. */
export interface SmmuProperties {
  /** Stages of translation: "1", "2", or "nested". */
  readonly stage: "1" | "2" | "nested";
  /** Range invalidation and level hint (IDR3.RIL). */
  readonly ril: boolean;
  /** Address Translation Services (IDR0.ATS). */
  readonly ats: boolean;
  /** Output address size in bits (IDR5.OAS): 44 or 48. */
  readonly oas: number;
  /** Bits of SubstreamID (IDR1.SSIDSIZE), 0 to 20; 0: no substreams. */
  readonly ssidsize: number;
  /** Two-level context descriptor tables (IDR0.CD2L). */
  readonly cd2l: boolean;
  /** The SMMU's own interrupts may be messages (IDR0.MSI). */
  readonly msi: boolean;
}

/** What `auto` and no property at all come to without acceleration. */
export const DEFAULT_PROPERTIES: SmmuProperties = { stage: "1", ril: true, ats: false, oas: 44, ssidsize: 0, cd2l: false, msi: false };

/** log2 of the most entries that a queue may have (IDR1.CMDQS, EVENTQS): the architecture's maximum. */
export const QUEUE_LOG2_LIMIT = 19;

/** Bits of StreamID: a PCI requester id (IDR1.SIDSIZE). */
export const STREAM_ID_BITS = 16;

/** AIDR: SMMUv3.1 (6.3.8). IIDR reads as zero: no implementer is claimed. */
export const AIDR_VALUE = 1;

/** The CoreSight registers at 0xfd0 to 0xffc (PIDR4..7, PIDR0..3, CIDR0..3), one byte each: those of QEMU's model. */
export const CORESIGHT_IDS: readonly number[] = [0x04, 0, 0, 0, 0x84, 0xb4, 0xf0, 0x10, 0x0d, 0xf0, 0x05, 0xb1];

/**
 * IDR0 to IDR5 for the properties, equal to what QEMU's model shows for the same ones: AArch64 tables of
 * all three granules, little-endian, coherent, 16-bit ASIDs and VMIDs, two-level stream tables, no stalls.
 * Throws RangeError for an OAS that has no encoding.
 */
export function idRegisters(properties: SmmuProperties): Int32Array {
  if (properties.oas > 48) {
    throw new RangeError(`oas: ${properties.oas} bits need 52-bit addresses, which the model has not`);
  }
  const oas = oasCode(properties.oas);
  const stage2 = properties.stage !== "1";
  const flag = (value: boolean): number => (value ? 1 : 0);

  let idr0 = deposit(0, IDR0.S1P, flag(properties.stage !== "2"));
  idr0 = deposit(idr0, IDR0.S2P, flag(stage2));
  idr0 = deposit(idr0, IDR0.TTF, IDR0_TTF_AARCH64);
  idr0 = deposit(idr0, IDR0.COHACC, 1);
  idr0 = deposit(idr0, IDR0.ATS, flag(properties.ats));
  idr0 = deposit(idr0, IDR0.ASID16, 1);
  idr0 = deposit(idr0, IDR0.MSI, flag(properties.msi));
  idr0 = deposit(idr0, IDR0.VMID16, 1);
  idr0 = deposit(idr0, IDR0.CD2L, flag(properties.cd2l));
  idr0 = deposit(idr0, IDR0.TTENDIAN, IDR0_TTENDIAN_LITTLE);
  idr0 = deposit(idr0, IDR0.STALL_MODEL, IDR0_STALL_MODEL_TERMINATE);
  idr0 = deposit(idr0, IDR0.TERM_MODEL, 1);
  idr0 = deposit(idr0, IDR0.ST_LEVEL, 1);

  let idr1 = deposit(0, IDR1.SIDSIZE, STREAM_ID_BITS);
  idr1 = deposit(idr1, IDR1.SSIDSIZE, properties.ssidsize);
  idr1 = deposit(idr1, IDR1.EVENTQS, QUEUE_LOG2_LIMIT);
  idr1 = deposit(idr1, IDR1.CMDQS, QUEUE_LOG2_LIMIT);

  let idr3 = deposit(0, IDR3.HAD, 1);
  idr3 = deposit(idr3, IDR3.XNX, flag(stage2));
  idr3 = deposit(idr3, IDR3.RIL, flag(properties.ril));
  idr3 = deposit(idr3, IDR3.BBML, 2);

  let idr5 = deposit(0, IDR5.OAS, oas);
  idr5 = deposit(idr5, IDR5.GRAN4K, 1);
  idr5 = deposit(idr5, IDR5.GRAN16K, 1);
  idr5 = deposit(idr5, IDR5.GRAN64K, 1);

  return Int32Array.of(idr0, idr1, 0, idr3, 0, idr5);
}
