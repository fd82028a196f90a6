import {
  deposit,
  extract,
  type Field,
  IDR0,
  IDR0_STALL_MODEL_TERMINATE,
  IDR0_TTF_AARCH64,
  IDR1,
  IDR3,
  IDR5,
} from "../../../../smmuv3/spec/index.js";
import type { KnownSmmu } from "../known.js";

/** Larger encodings of IDR5.OAS mean 52 bits and more; tables hold 48-bit addresses here. */
const OAS_48 = 5;

/** IDR0.HTTU: access flag and dirty state. */
const HTTU_DIRTY = 2;

/** Bits of IDR0, IDR1, IDR3 that name things which the simulated SMMU does. */
const KEPT0 = mask(
  IDR0.S2P,
  IDR0.S1P,
  IDR0.COHACC,
  IDR0.HTTU,
  IDR0.ATS,
  IDR0.NS1ATS,
  IDR0.ASID16,
  IDR0.MSI,
  IDR0.SEV,
  IDR0.VMID16,
  IDR0.CD2L,
  IDR0.TTENDIAN,
  IDR0.TERM_MODEL,
  IDR0.ST_LEVEL,
);
const KEPT1 = mask(IDR1.SIDSIZE, IDR1.SSIDSIZE, IDR1.PRIQS, IDR1.EVENTQS, IDR1.CMDQS, IDR1.ATTR_PERMS_OVR, IDR1.ATTR_TYPES_OVR);
const KEPT3 = mask(IDR3.HAD, IDR3.XNX, IDR3.FWB, IDR3.STT, IDR3.RIL, IDR3.BBML, IDR3.E0PD);
const KEPT5 = mask(IDR5.OAS, IDR5.GRAN4K, IDR5.GRAN16K, IDR5.GRAN64K);

function mask(...fields: readonly Field[]): number {
  return fields.reduce((bits, field) => bits | field.inPlace, 0);
}

/**
 * IDR0 to IDR5 that the SMMU shows: the description's, without what the simulated hardware does not do
 * (hardware access flag and dirty state, stalls, PRI, EL2 streams, broadcast TLB maintenance, ATOS, 52-bit
 * addresses, VMSAv8-32, MPAM, DPT, ECMDQ). Arm IHI 0070, 6.3.1 to 6.3.6.
 */
export function shownIdRegisters(smmu: KnownSmmu): Int32Array {
  let idr0 = smmu.idr0 & KEPT0;
  idr0 = deposit(idr0, IDR0.TTF, IDR0_TTF_AARCH64);
  idr0 = deposit(idr0, IDR0.STALL_MODEL, IDR0_STALL_MODEL_TERMINATE);
  if (extract(idr0, IDR0.HTTU) !== HTTU_DIRTY) {
    idr0 = deposit(idr0, IDR0.HTTU, 0);
  }
  let idr5 = smmu.idr5 & KEPT5;
  idr5 = deposit(idr5, IDR5.OAS, Math.min(extract(idr5, IDR5.OAS), OAS_48));
  return Int32Array.of(idr0, smmu.idr1 & KEPT1, 0, smmu.idr3 & KEPT3, 0, idr5);
}
