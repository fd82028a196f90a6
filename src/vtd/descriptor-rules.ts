import { get } from "../support/index.js";
import type { RegisterFile } from "./register-file.js";
import {
  CAP,
  CONTEXT_CACHE_DESC,
  DESCRIPTOR_RESERVED,
  DESCRIPTOR_TYPE,
  DESCRIPTOR_WORDS,
  ECAP,
  GRANULARITY_SELECTIVE,
  IOTLB_DESC,
  IQEI,
  PASID_CACHE_DESC,
  PASID_CACHE_DOMAIN,
  PASID_CACHE_GLOBAL,
  PASID_CACHE_PASID,
  PASID_IOTLB_DESC,
  PASID_IOTLB_PAGE,
  PASID_IOTLB_PASID,
  TTM_ABORT_DMA,
  TTM_LEGACY,
  TTM_SCALABLE,
  WAIT_DESC,
  WIDE_DESCRIPTOR_WORDS,
} from "./spec/index.js";

/** What is wrong with a descriptor: the reason for IQERCD, and in words. */
export interface DescriptorProblem {
  readonly iqei: number;
  readonly text: string;
}

const INVALID_TYPE: DescriptorProblem = { iqei: IQEI.INVALID_TYPE, text: "no such type, or its capability is not offered" };
const RESERVED_BITS: DescriptorProblem = { iqei: IQEI.RESERVED_FIELD, text: "reserved bits are set" };
const RESERVED_GRANULARITY: DescriptorProblem = { iqei: IQEI.RESERVED_FIELD, text: "the granularity is reserved" };
const NARROW: DescriptorProblem = { iqei: IQEI.INVALID_WIDTH, text: "scalable mode needs descriptors of 256 bits (IQA.DW)" };
const WIDE: DescriptorProblem = { iqei: IQEI.INVALID_WIDTH, text: "descriptors of 256 bits (IQA.DW) need scalable mode (ECAP.SMTS)" };
const TABLE_MODE: DescriptorProblem = { iqei: IQEI.INVALID_TTM, text: "RTADDR.TTM is reserved" };
const WRONG_MODE: DescriptorProblem = { iqei: IQEI.INVALID_TYPE, text: "the type is scalable mode's, and RTADDR.TTM says legacy mode" };
const ADDRESS_MASK: DescriptorProblem = { iqei: IQEI.RESERVED_FIELD, text: "the address mask is larger than CAP.MAMV" };
const EMPTY_WAIT: DescriptorProblem = { iqei: IQEI.RESERVED_FIELD, text: "none of IF, SW, FN and PD is set" };

const names = new Map<number, string>(
  Object.entries(DESCRIPTOR_TYPE).map(([name, type]) => [type, name.toLowerCase().replaceAll("_", "-")]),
);

/** `pasid-cache`; `type 0x2a` for one that is not defined. */
export function descriptorTypeName(type: number): string {
  return names.get(type) ?? `type 0x${type.toString(16)}`;
}

/** The capability that a type needs: ECAP bits (6.5.2). */
function offered(type: number, ecap: Int32Array): boolean {
  switch (type) {
    case DESCRIPTOR_TYPE.CONTEXT_CACHE:
    case DESCRIPTOR_TYPE.IOTLB:
    case DESCRIPTOR_TYPE.WAIT:
      return true;
    case DESCRIPTOR_TYPE.DEVICE_TLB:
      return get(ecap, ECAP.DT) !== 0;
    case DESCRIPTOR_TYPE.INTERRUPT_ENTRY_CACHE:
      return get(ecap, ECAP.IR) !== 0;
    case DESCRIPTOR_TYPE.PASID_IOTLB:
    case DESCRIPTOR_TYPE.PASID_CACHE:
      return get(ecap, ECAP.SMTS) !== 0;
    case DESCRIPTOR_TYPE.PASID_DEVICE_TLB:
      return get(ecap, ECAP.SMTS) !== 0 && get(ecap, ECAP.DT) !== 0;
    case DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE:
      return get(ecap, ECAP.PRS) !== 0;
    default:
      return false;
  }
}

/** Why no descriptor can be done in a table mode (RTADDR.TTM) and width (6.5.2.11, table of valid types; 11.4.9.9), or null. */
function queueProblem(wide: boolean, mode: number, ecap: Int32Array): DescriptorProblem | null {
  const scalable = get(ecap, ECAP.SMTS) !== 0;
  if (mode !== TTM_LEGACY && mode !== TTM_SCALABLE && (mode !== TTM_ABORT_DMA || get(ecap, ECAP.ADMS) === 0)) {
    return TABLE_MODE;
  }
  if (wide) {
    return scalable ? null : WIDE;
  }
  return mode === TTM_LEGACY ? null : NARROW;
}

/** What makes a descriptor invalid (6.5.2.11), or null. `wide`: IQA.DW; `mode`: RTADDR.TTM in use. */
export function descriptorProblem(d: Int32Array, type: number, wide: boolean, mode: number, registers: RegisterFile): DescriptorProblem | null {
  const general = queueProblem(wide, mode, registers.ecap);
  if (general !== null) {
    return general;
  }
  if (!offered(type, registers.ecap)) {
    return INVALID_TYPE;
  }
  if (mode === TTM_LEGACY && type >= DESCRIPTOR_TYPE.PASID_IOTLB) {
    return WRONG_MODE;
  }
  const reserved = DESCRIPTOR_RESERVED[type];
  if (reserved !== undefined && reserved.some((mask, word) => (d[word] & mask) !== 0)) {
    return RESERVED_BITS;
  }
  for (let word = DESCRIPTOR_WORDS; wide && type !== DESCRIPTOR_TYPE.PAGE_GROUP_RESPONSE && word < WIDE_DESCRIPTOR_WORDS; word++) {
    if (d[word] !== 0) {
      return RESERVED_BITS;
    }
  }
  switch (type) {
    case DESCRIPTOR_TYPE.CONTEXT_CACHE:
      return get(d, CONTEXT_CACHE_DESC.G) === 0 ? RESERVED_GRANULARITY : null;
    case DESCRIPTOR_TYPE.IOTLB:
      if (get(d, IOTLB_DESC.G) === 0) {
        return RESERVED_GRANULARITY;
      }
      return get(d, IOTLB_DESC.G) === GRANULARITY_SELECTIVE && get(d, IOTLB_DESC.AM) > get(registers.cap, CAP.MAMV) ? ADDRESS_MASK : null;
    case DESCRIPTOR_TYPE.PASID_CACHE: {
      const granularity = get(d, PASID_CACHE_DESC.G);
      return granularity === PASID_CACHE_DOMAIN || granularity === PASID_CACHE_PASID || granularity === PASID_CACHE_GLOBAL ? null : RESERVED_GRANULARITY;
    }
    case DESCRIPTOR_TYPE.PASID_IOTLB: {
      const granularity = get(d, PASID_IOTLB_DESC.G);
      return granularity === PASID_IOTLB_PASID || granularity === PASID_IOTLB_PAGE ? null : RESERVED_GRANULARITY;
    }
    case DESCRIPTOR_TYPE.WAIT:
      if (get(d, WAIT_DESC.PD) !== 0 && get(registers.ecap, ECAP.PDS) === 0) {
        return RESERVED_BITS;
      }
      return get(d, WAIT_DESC.IF) + get(d, WAIT_DESC.SW) + get(d, WAIT_DESC.FN) + get(d, WAIT_DESC.PD) === 0 ? EMPTY_WAIT : null;
    default:
      return null;
  }
}
