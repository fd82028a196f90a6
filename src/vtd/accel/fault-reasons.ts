/** What a fault of the hardware is to the guest, whose function the host has put on another table than the guest's own. */
import { isQualified } from "../lookup/index.js";
import { FAULT, TTM_SCALABLE } from "../spec/index.js";
import type { PassthroughFunction } from "./function.js";

/**
 * The reason that the guest's fault record gets; 0: the fault is the host's, or the guest has reporting off (FPD of the
 * PASID entry or the context entry, 9.4, 9.6).
 *
 * @param against what the guest's tables have against a request with a PASID (`Placement.reasonAgainst`)
 * @param pasid of the request; -1: none
 * @param address IOVA in bytes
 * @param reason as the hardware has it, of nested tables as `VtdFaultSource` gives it
 */
export function guestReason(fn: PassthroughFunction, against: (pasid: number) => number, tableMode: number, pasid: number, reason: number, write: boolean, address: number): number {
  const binding = fn.bindings.get(pasid < 0 ? fn.ridPasid : pasid);
  const nested = typeof binding?.hwptId === "number";
  if (!nested && pasid >= 0 && binding === undefined && reason !== FAULT.IR_ILLEGAL_REQUEST) {
    // Of an entry that is in order it is the host that has refused a table, or has none yet.
    return against(pasid);
  }
  const shown = nested ? reason : shownReason(fn, tableMode, pasid, reason, write, address);
  return shown !== 0 && isQualified(shown) && (binding?.faultsDisabled ?? fn.faultsDisabled) ? 0 : shown;
}

/** Of a request that no nested table has translated. */
function shownReason(fn: PassthroughFunction, tableMode: number, pasid: number, reason: number, write: boolean, address: number): number {
  if (reason === FAULT.IR_ILLEGAL_REQUEST) {
    // 3.15: a read of the interrupt range is wrong whatever the tables say.
    return reason;
  }
  if (pasid >= 0) {
    return 0;
  }
  switch (fn.table) {
    case "shadow":
      // Whatever stage the host's mirror is: to the guest its own second stage has the page for less, or not at all.
      if (tableMode !== TTM_SCALABLE) {
        return write ? FAULT.WRITE : FAULT.READ;
      }
      return fn.shadow?.has(address) !== true ? FAULT.SM_SS_NOT_PERMITTED : write ? FAULT.SM_WRITE : FAULT.SM_READ;
    case "blocked":
      return fn.faultReason;
    default:
      return 0;
  }
}
