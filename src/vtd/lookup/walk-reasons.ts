import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_WRITE,
  WALK_ADDRESS_SIZE_FAULT,
  WALK_EXTERNAL_ABORT,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_RESERVED_FAULT,
  WALK_UPDATE_FAULT,
  type LoopWalker,
  type X86Tables,
} from "../../translation/index.js";
import { FAULT } from "../spec/index.js";
import type { PasidView } from "./pasid-entry.js";

/** Level, as walks count, of the first table. */
function rootLevel(levels: number): number {
  return 4 - levels;
}

/**
 * The reason of a walk's fault in legacy mode (Intel VT-d 5.10, 7.1.3: LCT.4.3, LSS, LGN).
 *
 * @param code WALK_*, not WALK_OK; `walker`'s fault fields describe it
 */
export function legacyReasonOf(code: number, walker: LoopWalker, tables: X86Tables, access: number): number {
  switch (code) {
    case WALK_EXTERNAL_ABORT:
      return walker.faultLevel === rootLevel(tables.levels) ? FAULT.CONTEXT_INVALID : FAULT.PAGING_ENTRY_ACCESS;
    case WALK_RESERVED_FAULT:
      return FAULT.PAGING_ENTRY_RESERVED;
    case WALK_ADDRESS_SIZE_FAULT:
      return FAULT.ADDRESS_BEYOND_MGAW;
    case WALK_PERMISSION_FAULT:
      return (walker.faultAccess & ACCESS_WRITE) !== 0 ? FAULT.WRITE : FAULT.READ;
    default:
      // R = W = 0 somewhere: neither is permitted.
      return (access & ACCESS_WRITE) !== 0 ? FAULT.WRITE : FAULT.READ;
  }
}

/** The same in scalable mode (SFS, SSS, SGN). */
export function scalableReasonOf(code: number, walker: LoopWalker, view: PasidView): number {
  if (walker.faultStage === 1) {
    return firstStageReason(code, walker, view);
  }
  return view.stage1 === undefined ? secondStageReason(code, walker, view) : nestedReason(code, walker, view);
}

function firstStageReason(code: number, walker: LoopWalker, view: PasidView): number {
  switch (code) {
    case WALK_EXTERNAL_ABORT:
      return walker.faultLevel === rootLevel(view.firstStageLevels) ? FAULT.SM_FS_ROOT_ACCESS : FAULT.SM_FS_ACCESS;
    case WALK_RESERVED_FAULT:
      return FAULT.SM_FS_RESERVED;
    case WALK_ADDRESS_SIZE_FAULT:
      return FAULT.SM_NOT_CANONICAL;
    case WALK_UPDATE_FAULT:
      return view.stage1!.unsnoopedWalk === true ? FAULT.SM_FS_UPDATE_NOT_SNOOPED : FAULT.SM_FS_UPDATE_FAILED;
    case WALK_PERMISSION_FAULT:
      if (walker.faultAccess === ACCESS_PRIVILEGED) {
        return FAULT.SM_PRIVILEGE;
      }
      return (walker.faultAccess & ACCESS_WRITE) !== 0
        ? FAULT.SM_WRITE
        : (walker.faultAccess & ACCESS_EXECUTE) !== 0
          ? FAULT.SM_EXECUTE
          : FAULT.SM_READ;
    default:
      return FAULT.SM_FS_NOT_PRESENT;
  }
}

function secondStageReason(code: number, walker: LoopWalker, view: PasidView): number {
  switch (code) {
    case WALK_EXTERNAL_ABORT:
      return walker.faultLevel === rootLevel(view.secondStageLevels) ? FAULT.SM_SS_ROOT_ACCESS : FAULT.SM_SS_ACCESS;
    case WALK_RESERVED_FAULT:
      return FAULT.SM_SS_RESERVED;
    case WALK_ADDRESS_SIZE_FAULT:
      return FAULT.SM_ADDRESS_BEYOND_MGAW;
    case WALK_UPDATE_FAULT:
      return view.stage2!.unsnoopedWalk === true ? FAULT.SM_SS_UPDATE : FAULT.SM_SS_UPDATE_FAILED;
    case WALK_PERMISSION_FAULT: {
      // SSS.2: neither is permitted. A look at what is leaves flags behind where they are kept: not then.
      const reason = (walker.faultAccess & ACCESS_WRITE) !== 0 ? FAULT.SM_WRITE : FAULT.SM_READ;
      const none =
        !view.accessedDirty &&
        walker.walkStage2(view.stage2!, walker.faultHigh, walker.faultLow, 0) === WALK_OK &&
        walker.outPermissions === 0;
      return none ? FAULT.SM_SS_NOT_PERMITTED : reason;
    }
    default:
      return FAULT.SM_SS_NOT_PERMITTED;
  }
}

/** Faults of the second stage below a first one: on the output, on a first-stage entry, or on its flags' update. */
function nestedReason(code: number, walker: LoopWalker, view: PasidView): number {
  if (code === WALK_ADDRESS_SIZE_FAULT) {
    return FAULT.SM_FS_BEYOND_SECOND_STAGE;
  }
  if (code !== WALK_PERMISSION_FAULT || walker.faultOnTableWalk === 0) {
    return secondStageReason(code, walker, view);
  }
  // SFS.6 to SFS.8.
  if ((walker.faultAccess & ACCESS_WRITE) !== 0) {
    return FAULT.SM_FS_UPDATE;
  }
  return walker.faultTableLevel === rootLevel(view.firstStageLevels) ? FAULT.SM_FS_ROOT_READ : FAULT.SM_FS_READ;
}
