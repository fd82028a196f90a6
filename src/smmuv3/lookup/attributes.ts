import {
  ACCESS_EXECUTE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_WRITE,
  PERM_EXECUTE,
  PERM_READ,
  PERM_WRITE,
} from "../../translation/index.js";
import { OVERRIDE_SET } from "../spec/index.js";
import type { SteView } from "./ste-view.js";

/** ACCESS_* after the STE's PRIVCFG and INSTCFG (Arm IHI 0070, 13.4); a write is never an instruction fetch (13.1.2). */
export function overridden(access: number, ste: SteView): number {
  let result = access;
  if (ste.privileged !== 0) {
    result = ste.privileged === OVERRIDE_SET ? result | ACCESS_PRIVILEGED : result & ~ACCESS_PRIVILEGED;
  }
  if (ste.instruction !== 0) {
    result = ste.instruction === OVERRIDE_SET ? result | ACCESS_EXECUTE : result & ~ACCESS_EXECUTE;
  }
  return (result & ACCESS_WRITE) !== 0 ? result & ~ACCESS_EXECUTE : result;
}

/**
 * The ACCESS_* of a Translation Completion (13.7.1). Execution and reads follow INSTCFG.
 *
 * @param granted PERM_* of the request's privilege
 * @param asked ACCESS_* as they came in
 */
export function completedPermissions(granted: number, asked: number, ste: SteView): number {
  const readable = (granted & PERM_READ) !== 0;
  const executable = (granted & PERM_EXECUTE) !== 0;
  const reads = ste.instruction === OVERRIDE_SET ? executable : readable;
  const executes = ste.instruction === 0 ? readable && executable : reads;
  return (
    (reads ? ACCESS_READ : 0) |
    ((granted & PERM_WRITE & asked) !== 0 ? ACCESS_WRITE : 0) |
    ((asked & ACCESS_EXECUTE) !== 0 && executes ? ACCESS_EXECUTE : 0)
  );
}
