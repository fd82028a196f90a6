/** What a function is by its class code (PCI Code and ID Assignment). */

/** Names of classes that QEMU has for what is here (hw/pci/pci.c, pci_class_descriptions). */
export const PCI_CLASSES: ReadonlyMap<number, string> = new Map([
  [0x0001, "VGA controller"],
  [0x0100, "SCSI controller"],
  [0x0101, "IDE controller"],
  [0x0104, "RAID controller"],
  [0x0106, "SATA controller"],
  [0x0107, "SAS controller"],
  [0x0180, "Storage controller"],
  [0x0200, "Ethernet controller"],
  [0x0280, "Network controller"],
  [0x0300, "VGA controller"],
  [0x0302, "3D controller"],
  [0x0380, "Display controller"],
  [0x0600, "Host bridge"],
  [0x0604, "PCI bridge"],
]);

/** NVM Express: QEMU has no name for it. */
const NVME = 0x0108;

/** For people, of a class code of 24 bits. */
export function className(classCode: number): string {
  const id = classCode >>> 8;
  return PCI_CLASSES.get(id) ?? (id === NVME ? "NVMe controller" : `device of class 0x${classCode.toString(16).padStart(6, "0")}`);
}
