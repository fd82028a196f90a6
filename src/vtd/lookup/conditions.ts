import { FAULT } from "../spec/index.js";
import { ATS_ABORTED, ATS_UNSUPPORTED, TRANSLATED } from "./answers.js";
import type { ContextView } from "./context-entry.js";
import type { VtdFeatures } from "./features.js";

/** Flags of CONDITIONS. */
const COMPLETER_ABORT = 1;
/** A Translation Request succeeds with R = W = 0: a recoverable fault, which is not recorded. */
const NO_PERMISSION = 2;
const UNQUALIFIED = 4;
/** Recorded though the Translation Request succeeds. */
const RECORDED = 8;

/**
 * By fault reason: how a Translation Request that meets it is completed, if not Unsupported Request, and
 * whether FPD suppresses its report (Intel VT-d 5.10, table 30; interrupt remapping, table 15).
 */
const CONDITIONS = new Uint8Array(256);

function set(flags: number, ...reasons: number[]): void {
  for (const reason of reasons) {
    CONDITIONS[reason] |= flags;
  }
}

set(
  COMPLETER_ABORT,
  FAULT.ROOT_ACCESS,
  FAULT.ROOT_RESERVED,
  FAULT.CONTEXT_ACCESS,
  FAULT.CONTEXT_RESERVED,
  FAULT.CONTEXT_INVALID,
  FAULT.PAGING_ENTRY_ACCESS,
  FAULT.PAGING_ENTRY_RESERVED,
  FAULT.INTERRUPT_RANGE,
  FAULT.SM_ROOT_TABLE_ADDRESS,
  FAULT.SM_ROOT_ACCESS,
  FAULT.SM_ROOT_RESERVED,
  FAULT.SM_CONTEXT_ACCESS,
  FAULT.SM_CONTEXT_RESERVED,
  FAULT.SM_CONTEXT_INVALID,
  FAULT.SM_DIRECTORY_ACCESS,
  FAULT.SM_DIRECTORY_RESERVED,
  FAULT.SM_PASID_ACCESS,
  FAULT.SM_PASID_RESERVED,
  FAULT.SM_PASID_INVALID,
  FAULT.SM_SS_ACCESS,
  FAULT.SM_SS_RESERVED,
  FAULT.SM_SS_ROOT_ACCESS,
  FAULT.SM_SS_UPDATE,
  FAULT.SM_SS_UPDATE_FAILED,
  FAULT.SM_INTERRUPT_RANGE,
);
set(
  NO_PERMISSION,
  FAULT.ADDRESS_BEYOND_MGAW,
  FAULT.WRITE,
  FAULT.READ,
  FAULT.SM_DIRECTORY_NOT_PRESENT,
  FAULT.SM_PASID_NOT_PRESENT,
  FAULT.SM_ERE,
  FAULT.SM_SRE,
  FAULT.SM_FS_ACCESS,
  FAULT.SM_FS_NOT_PRESENT,
  FAULT.SM_FS_RESERVED,
  FAULT.SM_FS_ROOT_ACCESS,
  FAULT.SM_FS_BEYOND_SECOND_STAGE,
  FAULT.SM_FS_ROOT_READ,
  FAULT.SM_FS_READ,
  FAULT.SM_FS_UPDATE,
  FAULT.SM_FS_UPDATE_NOT_SNOOPED,
  FAULT.SM_FS_UPDATE_FAILED,
  FAULT.SM_SS_NOT_PERMITTED,
  FAULT.SM_NOT_CANONICAL,
  FAULT.SM_PRIVILEGE,
  FAULT.SM_EXECUTE,
  FAULT.SM_ADDRESS_BEYOND_HAW,
  FAULT.SM_ADDRESS_BEYOND_MGAW,
  FAULT.SM_WRITE,
  FAULT.SM_READ,
);
set(RECORDED, FAULT.SM_FS_UPDATE_FAILED);
set(
  UNQUALIFIED,
  FAULT.ROOT_NOT_PRESENT,
  FAULT.ROOT_ACCESS,
  FAULT.ROOT_RESERVED,
  FAULT.CONTEXT_ACCESS,
  FAULT.IR_REQUEST_RESERVED,
  FAULT.IR_INDEX,
  FAULT.IR_ACCESS,
  FAULT.IR_COMPATIBILITY_BLOCKED,
  FAULT.IR_ILLEGAL_REQUEST,
  FAULT.SM_ROOT_TABLE_ADDRESS,
  FAULT.SM_TTM_WITH_PASID,
  FAULT.SM_TTM_PAGE_REQUEST,
  FAULT.SM_ABORT_DMA,
  FAULT.SM_ROOT_ACCESS,
  FAULT.SM_ROOT_NOT_PRESENT,
  FAULT.SM_ROOT_RESERVED,
  FAULT.SM_CONTEXT_ACCESS,
  FAULT.SM_DIRECTORY_ACCESS,
  FAULT.SM_PASID_ACCESS,
);

/** Whether the report of a fault is suppressed where an entry on the way has FPD. */
export function isQualified(reason: number): boolean {
  return (CONDITIONS[reason] & UNQUALIFIED) === 0;
}

/** How a Translation Request ends that meets a condition: TRANSLATED stands for Success with R = W = 0. */
export function completionOf(reason: number): number {
  const flags = CONDITIONS[reason];
  return (flags & NO_PERMISSION) !== 0 ? TRANSLATED : (flags & COMPLETER_ABORT) !== 0 ? ATS_ABORTED : ATS_UNSUPPORTED;
}

/** Whether a Translation Request that meets a condition leaves a fault record, FPD aside. */
export function isRecordedOfTranslationRequest(reason: number): boolean {
  return (CONDITIONS[reason] & (NO_PERMISSION | RECORDED)) !== NO_PERMISSION;
}

/** Whether a context entry lets a PASID through (SCT.6, SGN.10, SCT.7, SCT.9): 0, or the FAULT reason. */
export function pasidReasonOf(context: ContextView, pasid: number, features: VtdFeatures): number {
  if (!context.pasids) {
    return FAULT.SM_PASIDE;
  }
  if (pasid >>> features.pasidBits !== 0) {
    return FAULT.SM_PASID_SIZE;
  }
  if (pasid >= context.pasidLimit) {
    return FAULT.SM_PASID_LIMIT;
  }
  return pasid === context.ridPasid ? FAULT.SM_RID_PASID : 0;
}
