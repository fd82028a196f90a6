/**
 * Where QEMU's translation differs. Ids: docs/differences.md. A difference is explained where `predictVtd`, with the rows
 * that a version of QEMU has switched on, says exactly what that QEMU showed.
 */
import type { QemuVersion } from "../driver.js";
import { QUIRKS, type Quirk } from "./reference.js";
import { isOld } from "./register-differences.js";

/** Rows of 7.2 alone, and of 11.1 alone; the others are of both. */
const OLD: ReadonlySet<Quirk> = new Set<Quirk>(["V-5", "V-6", "V-11", "V-15", "V-25", "V-27"]);
const NEW: ReadonlySet<Quirk> = new Set<Quirk>(["V-22", "V-28"]);

/** The rows that a QEMU has. */
export function vtdQuirksOf(version: QemuVersion): ReadonlySet<Quirk> {
  const others = isOld(version) ? NEW : OLD;
  return new Set(QUIRKS.filter((quirk) => !others.has(quirk)));
}
