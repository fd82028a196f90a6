/** ATS and PASID extended capabilities (PCIe 6.0, 7.8.8 and 7.8.9). */
import type { AtsControl } from "../iommu/driver.js";
import { EXT_CAP_ATS, EXT_CAP_PASID, type PciFunction } from "./function.js";

const ATS_CAPABILITY = 4;
const ATS_CONTROL = 6;
const ATS_ENABLE = 0x8000;
/** The smallest translation unit is given in units of 4 KiB. */
const ATS_STU_BASE = 12;
const PASID_CAPABILITY = 4;
const PASID_CONTROL = 6;
const PASID_ENABLE = 1;
const PASID_EXECUTE_AND_PRIVILEGED = 6;

/** How the function's ATS is switched; null where it has none. */
export function atsControl(fn: PciFunction): AtsControl | null {
  const at = atsSwitch(fn);
  return at === null
    ? null
    : {
        enable: (log2Stu) => fn.write16(at, ATS_ENABLE | (log2Stu - ATS_STU_BASE)),
        disable: async () => fn.write16(at, (await fn.read16(at)) & ~ATS_ENABLE),
      };
}

/** Offset of the register that switches ATS; null where the function has none. */
export function atsSwitch(fn: PciFunction): number | null {
  const cap = fn.extendedCapabilities.get(EXT_CAP_ATS);
  return cap === undefined ? null : cap + ATS_CONTROL;
}

/** The same of PASID. */
export function pasidSwitch(fn: PciFunction): number | null {
  const cap = fn.extendedCapabilities.get(EXT_CAP_PASID);
  return cap === undefined ? null : cap + PASID_CONTROL;
}

/** Invalidations that the function takes at once: 1 to 32; 0 where it has no ATS. */
export async function atsQueueDepth(fn: PciFunction): Promise<number> {
  const cap = fn.extendedCapabilities.get(EXT_CAP_ATS);
  // A depth of 0 stands for 32 (7.8.9.2).
  return cap === undefined ? 0 : (await fn.read16(cap + ATS_CAPABILITY)) & 0x1f || 32;
}

/** Turns PASID on with all that the function offers; returns the width in bits, 0 where it has none. Has to come before ATS. */
export async function enablePasid(fn: PciFunction): Promise<number> {
  const cap = fn.extendedCapabilities.get(EXT_CAP_PASID);
  if (cap === undefined) {
    return 0;
  }
  const offers = await fn.read16(cap + PASID_CAPABILITY);
  await fn.write16(cap + PASID_CONTROL, PASID_ENABLE | (offers & PASID_EXECUTE_AND_PRIVILEGED));
  return (offers >> 8) & 0x1f;
}

export async function disablePasid(fn: PciFunction): Promise<void> {
  const at = pasidSwitch(fn);
  if (at !== null) {
    await fn.write16(at, 0);
  }
}
