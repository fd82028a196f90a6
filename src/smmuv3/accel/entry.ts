/**
 * A guest's stream table entry as the host may take it: the kernel refuses, with EIO, every bit outside
 * those that struct iommu_hwpt_arm_smmuv3 names, and the guest was not offered the use of all of these.
 */
import type { AcceleratedFeatures } from "../device/index.js";
import { type AddressField, type Field, get, put, STE, STE_EATS_ABORT, STE_EATS_FULL } from "../spec/index.js";

interface AllowedField {
  readonly field: Field | AddressField;
  /** Why the field is RES0 or IGNORED for this guest; null: it is offered. */
  readonly withheld: (features: AcceleratedFeatures) => string | null;
}

const always = (): null => null;
const withSubstreams = (features: AcceleratedFeatures): string | null => (features.ssidBits > 0 ? null : "IDR1.SSIDSIZE is 0");

/** Fields of a stage-1 entry that go to the host (linux/iommufd.h), each with the ID register bit that offers it (IHI 0070, 5.2). */
export const forwardedFields: Readonly<Record<string, AllowedField>> = {
  V: { field: STE.V, withheld: always },
  CONFIG: { field: STE.CONFIG, withheld: always },
  S1FMT: { field: STE.S1FMT, withheld: (f) => withSubstreams(f) ?? (f.cd2l ? null : "IDR0.CD2L is 0") },
  S1CONTEXTPTR: { field: STE.S1CONTEXTPTR, withheld: always },
  S1CDMAX: { field: STE.S1CDMAX, withheld: withSubstreams },
  S1DSS: { field: STE.S1DSS, withheld: withSubstreams },
  S1CIR: { field: STE.S1CIR, withheld: always },
  S1COR: { field: STE.S1COR, withheld: always },
  S1CSH: { field: STE.S1CSH, withheld: always },
  EATS: { field: STE.EATS, withheld: (f) => (f.ats ? null : "IDR0.ATS is 0") },
};

/** Bits 51:48 of S1ContextPtr's high word and above: beyond 48 bits the model shows no addresses (IDR5.OAS). */
const CONTEXT_POINTER_HIGH_MASK = 0xffff;

/**
 * Reduces a stage-1 entry (Config 0b101) to the words that the host takes, into `out` (four words). The guest's
 * S1STALLD is never passed on: the model shows IDR0.STALL_MODEL 0b01, where it is RES0, and CD.S is ILLEGAL. It is so
 * on a host that can stall where S1STALLD is set (5.2, 5.4). EATS 0b11 is as 0b00 without IDR3.DPT, and a value that
 * the kernel refuses.
 *
 * @param canStall the host has IDR0.STALL_MODEL 0b00
 */
export function reduceEntry(entry: Int32Array, features: AcceleratedFeatures, canStall: boolean, out: Int32Array): void {
  out.fill(0, 0, 4);
  for (const allowed of Object.values(forwardedFields)) {
    if (allowed.withheld(features) !== null) {
      continue;
    }
    const { field } = allowed;
    if ("inPlace" in field) {
      out[field.word] |= entry[field.word] & field.inPlace;
    } else {
      out[field.word] |= entry[field.word] & field.lowMask;
      out[field.word + 1] |= entry[field.word + 1] & field.highMask & CONTEXT_POINTER_HIGH_MASK;
    }
  }
  if (get(out, STE.EATS) !== STE_EATS_FULL) {
    put(out, STE.EATS, STE_EATS_ABORT);
  }
  put(out, STE.S1STALLD, canStall ? 1 : 0);
}

