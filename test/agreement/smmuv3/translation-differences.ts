/**
 * Where QEMU's translation differs. Ids: docs/differences.md. A difference is explained where `predict`, with
 * the rows that a version of QEMU has switched on, says exactly what that QEMU showed.
 */
import type { QemuVersion } from "../driver.js";
import { atLeast } from "../find-qemu.js";
import { QUIRKS, type Quirk } from "./reference.js";

/** The rows that a QEMU has. */
export function quirksOf(version: QemuVersion): ReadonlySet<Quirk> {
  return new Set(QUIRKS.filter((quirk) => !atLeast(version, 11, 0) || quirk !== "S-15"));
}
