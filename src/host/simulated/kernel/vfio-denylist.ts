/**
 * Functions that vfio-pci does not take, for errata that let a user of them hang or compromise the host (Linux
 * drivers/vfio/pci/vfio_pci.c, vfio_pci_dev_in_denylist). Its module parameter disable_denylist is off here.
 */
import type { PhysicalFunctionDescription } from "./hardware-port.js";

const INTEL = 0x8086;

/** Device ids of Intel, by the kernel's names. */
const DENYLIST: ReadonlyMap<number, string> = new Map([
  [0x0435, "QAT_DH895XCC"],
  [0x0443, "QAT_DH895XCC_VF"],
  [0x0b25, "DSA_SPR0"],
  [0x0cfe, "IAX_SPR0"],
  [0x19e2, "QAT_C3XXX"],
  [0x19e3, "QAT_C3XXX_VF"],
  [0x37c8, "QAT_C62X"],
  [0x37c9, "QAT_C62X_VF"],
]);

/** Why vfio-pci refuses the function, in the kernel's words; null: it does not. */
export function denylisted({ vendor, device }: Pick<PhysicalFunctionDescription, "vendor" | "device">): string | null {
  if (vendor !== INTEL || !DENYLIST.has(device)) {
    return null;
  }
  const id = [vendor, device].map((part) => part.toString(16).padStart(4, "0")).join(":");
  return `${id} exists in vfio-pci device denylist, driver probing disallowed`;
}
