/** Fault reasons and fault recording registers (Intel VT-d 5.x, 7.1 and 11.4.7). */
import { address, field, put } from "../../support/index.js";

export const FAULT_RECORD_BYTES = 16;
export const FAULT_RECORD_WORDS = 4;

/** Fault recording register (11.4.7.6): four 32-bit words. */
export const FRCD = {
  /** Page of the faulted address; of an interrupt its index in bits 63:48. */
  FI: address(0, 12, 63),
  SID: field(2, 0, 16),
  /** Bit 1 of the request's type. */
  T2: field(2, 28),
  PRIV: field(2, 29),
  EXE: field(2, 30),
  PP: field(2, 31),
  FR: field(3, 0, 8),
  PV: field(3, 8, 20),
  /** 0 untranslated, 1 translation request, 2 translated. */
  AT: field(3, 28, 2),
  /** Bit 0 of the request's type: 0 write, 1 read. */
  T1: field(3, 30),
  F: field(3, 31),
} as const;

/** Reasons, with the specification's names of the conditions (7.1.3, tables). */
export const FAULT = {
  /** Legacy mode. */
  ROOT_NOT_PRESENT: 0x01,
  CONTEXT_NOT_PRESENT: 0x02,
  CONTEXT_INVALID: 0x03,
  ADDRESS_BEYOND_MGAW: 0x04,
  WRITE: 0x05,
  READ: 0x06,
  PAGING_ENTRY_ACCESS: 0x07,
  ROOT_ACCESS: 0x08,
  CONTEXT_ACCESS: 0x09,
  ROOT_RESERVED: 0x0a,
  CONTEXT_RESERVED: 0x0b,
  PAGING_ENTRY_RESERVED: 0x0c,
  /** A translation request or translated request that the context entry blocks. */
  REQUEST_BLOCKED: 0x0d,
  INTERRUPT_RANGE: 0x0e,
  /** Interrupt remapping. */
  IR_REQUEST_RESERVED: 0x20,
  IR_INDEX: 0x21,
  IR_NOT_PRESENT: 0x22,
  IR_ACCESS: 0x23,
  IR_ENTRY_RESERVED: 0x24,
  IR_COMPATIBILITY_BLOCKED: 0x25,
  IR_SOURCE_ID: 0x26,
  /** A request without PASID to the interrupt range that is no interrupt request, such as a read. */
  IR_ILLEGAL_REQUEST: 0x29,
  /** Root table address register: TTM that is reserved, or not supported. */
  SM_ROOT_TABLE_ADDRESS: 0x30,
  SM_TTM_WITH_PASID: 0x31,
  /** A Page Request in legacy mode. */
  SM_TTM_PAGE_REQUEST: 0x32,
  /** TTM is abort-DMA. */
  SM_ABORT_DMA: 0x33,
  SM_ROOT_ACCESS: 0x38,
  SM_ROOT_NOT_PRESENT: 0x39,
  SM_ROOT_RESERVED: 0x3a,
  SM_CONTEXT_ACCESS: 0x40,
  SM_CONTEXT_NOT_PRESENT: 0x41,
  SM_CONTEXT_RESERVED: 0x42,
  SM_CONTEXT_INVALID: 0x43,
  /** A translation request or translated request with DTE clear. */
  SM_DTE: 0x44,
  SM_PASIDE: 0x45,
  /** The PASID is beyond the directory. */
  SM_PASID_LIMIT: 0x46,
  SM_PRE: 0x47,
  SM_RID_PASID: 0x48,
  SM_DIRECTORY_ACCESS: 0x50,
  SM_DIRECTORY_NOT_PRESENT: 0x51,
  SM_DIRECTORY_RESERVED: 0x52,
  SM_PASID_ACCESS: 0x58,
  SM_PASID_NOT_PRESENT: 0x59,
  SM_PASID_RESERVED: 0x5a,
  SM_PASID_INVALID: 0x5b,
  SM_ERE: 0x5c,
  SM_SRE: 0x5d,
  SM_FS_ACCESS: 0x70,
  SM_FS_NOT_PRESENT: 0x71,
  SM_FS_RESERVED: 0x72,
  SM_FS_ROOT_ACCESS: 0x73,
  /** Nested: a first-stage entry's address is beyond the second stage's width. */
  SM_FS_BEYOND_SECOND_STAGE: 0x74,
  /** Nested: the second stage does not let the first table, another table be read, or A and D bits be written. */
  SM_FS_ROOT_READ: 0x75,
  SM_FS_READ: 0x76,
  SM_FS_UPDATE: 0x77,
  SM_SS_ACCESS: 0x78,
  SM_SS_NOT_PERMITTED: 0x79,
  SM_SS_RESERVED: 0x7a,
  SM_SS_ROOT_ACCESS: 0x7b,
  /** Accessed and dirty flags of the second stage: walks are not snooped; the update failed. */
  SM_SS_UPDATE: 0x7c,
  SM_SS_UPDATE_FAILED: 0x7d,
  SM_NOT_CANONICAL: 0x80,
  /** A user request to a supervisor page. */
  SM_PRIVILEGE: 0x81,
  SM_EXECUTE: 0x82,
  /** The input of pass-through and of Translated requests is beyond the host's address width. */
  SM_ADDRESS_BEYOND_HAW: 0x83,
  /** The input is beyond what the second stage has. */
  SM_ADDRESS_BEYOND_MGAW: 0x84,
  SM_WRITE: 0x85,
  SM_READ: 0x86,
  SM_INTERRUPT_RANGE: 0x87,
  /** The PASID is wider than ECAP.PSS. */
  SM_PASID_SIZE: 0x89,
  /** Accessed and dirty flags of the first stage: walks are not snooped; the update failed. */
  SM_FS_UPDATE_NOT_SNOOPED: 0x90,
  SM_FS_UPDATE_FAILED: 0x91,
} as const;

const names = new Map<number, string>(Object.entries(FAULT).map(([name, reason]) => [reason, name]));

/** The name above; FAULT_0xNN for one that is not defined. */
export function faultName(reason: number): string {
  return names.get(reason) ?? `FAULT_0x${reason.toString(16).padStart(2, "0")}`;
}

/** A faulted request, as a record shows it. */
export interface FaultedRequest {
  /** Requester id. */
  readonly source: number;
  /** Its PASID, or -1. */
  readonly pasid: number;
  /** Its address type: 0 untranslated, 1 translation request, 2 translated. */
  readonly addressType: number;
  /** Its address, or of an interrupt the index in bits 63:48. */
  readonly high: number;
  readonly low: number;
  readonly write: boolean;
  /** An AtomicOp. */
  readonly atomic?: boolean;
  /** With a PASID: execution, privileged mode was asked for. */
  readonly execute: boolean;
  readonly privileged: boolean;
}

/**
 * Fills a fault record (11.4.7.6) with F set: what becomes a fault recording register's content.
 *
 * @param out four words
 * @param pasids ECAP.PASID: without it the PASID's fields are zero
 * @param deviceTlb ECAP.DT: without it AT is zero
 */
export function fillFault(out: Int32Array, reason: number, request: FaultedRequest, pasids: boolean, deviceTlb: boolean): void {
  out[0] = request.low & FRCD.FI.lowMask;
  out[1] = request.high;
  out[2] = 0;
  out[3] = 0;
  put(out, FRCD.SID, request.source);
  put(out, FRCD.FR, reason);
  // T1 and T2: write 00, read 10, AtomicOp 11; Page Requests (01) are of no unit here.
  const atomic = request.atomic === true;
  put(out, FRCD.T1, request.write && !atomic ? 0 : 1);
  put(out, FRCD.T2, atomic ? 1 : 0);
  put(out, FRCD.F, 1);
  if (deviceTlb) {
    put(out, FRCD.AT, request.addressType);
  }
  if (pasids && request.pasid >= 0) {
    put(out, FRCD.PP, 1);
    put(out, FRCD.PV, request.pasid);
    put(out, FRCD.EXE, request.execute && !request.write ? 1 : 0);
    put(out, FRCD.PRIV, request.privileged ? 1 : 0);
  }
}
