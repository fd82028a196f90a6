/**
 * Where QEMU's translation differs. Ids: docs/differences.md. A difference is explained where `predict`, with
 * the rows that a version of QEMU has switched on, says exactly what that QEMU showed.
 */
import type { QemuVersion } from "../driver.js";
import { atLeast } from "../find-qemu.js";
import { QUIRKS, type Quirk } from "./reference.js";

/** Rows of versions before 9.0 alone, the others are of all. */
const OLD: ReadonlySet<Quirk> = new Set<Quirk>(["S-3", "S-15", "S-33", "S-34", "S-35", "S-36", "S-37", "S-38", "S-47", "S-48"]);

/** Rows that versions before 9.0 do not have, and could show. */
const NEW: ReadonlySet<Quirk> = new Set<Quirk>(["S-7"]);

/** The rows that a QEMU has. */
export function quirksOf(version: QemuVersion): ReadonlySet<Quirk> {
  const others = atLeast(version, 9, 0) ? OLD : NEW;
  return new Set(QUIRKS.filter((quirk) => !others.has(quirk)));
}
