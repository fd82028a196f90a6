/** What a PCI function is, for people, where nothing but its ids and its class are at hand. */

/** By base class and subclass (PCI Code and ID Assignment, 1). */
const CLASSES: Readonly<Record<number, string>> = {
  0x0100: "SCSI controller",
  0x0104: "RAID controller",
  0x0106: "SATA controller",
  0x0107: "SAS controller",
  0x0108: "NVMe controller",
  0x0200: "Ethernet controller",
  0x0207: "InfiniBand controller",
  0x0280: "network controller",
  0x0300: "VGA controller",
  0x0302: "3D controller",
  0x0380: "display controller",
  0x0401: "audio device",
  0x0403: "audio device",
  0x0480: "multimedia controller",
  0x0500: "RAM",
  0x0600: "host bridge",
  0x0601: "ISA bridge",
  0x0604: "PCI bridge",
  0x0680: "bridge",
  0x0700: "serial controller",
  0x0780: "communication controller",
  0x0800: "interrupt controller",
  0x0806: "IOMMU",
  0x0807: "root complex event collector",
  0x0880: "system peripheral",
  0x0c03: "USB controller",
  0x0c05: "SMBus controller",
  0x0c80: "serial bus controller",
  0x0b40: "co-processor",
  0x1080: "encryption controller",
  0x1101: "performance counters",
  0x1180: "signal processing controller",
  0x1200: "processing accelerator",
};

const VENDORS: Readonly<Record<number, string>> = {
  0x1002: "AMD",
  0x1022: "AMD",
  0x10b5: "PLX",
  0x10de: "NVIDIA",
  0x10ec: "Realtek",
  0x1137: "Cisco",
  0x144d: "Samsung",
  0x14e4: "Broadcom",
  0x15b3: "Mellanox",
  0x15b7: "SanDisk",
  0x177d: "Marvell",
  0x19e5: "Huawei",
  0x1a03: "ASPEED",
  0x1af4: "virtio",
  0x1b36: "QEMU",
  0x1d0f: "Amazon",
  0x1def: "Ampere",
  0x8086: "Intel",
};

/** `NVIDIA 3D controller 10de:2342`. */
export function nameOf(vendor: number, device: number, classCode: number): string {
  const ids = `${hex4(vendor)}:${hex4(device)}`;
  const kind = CLASSES[classCode >>> 8] ?? `class ${(classCode >>> 8).toString(16).padStart(4, "0")}`;
  return [VENDORS[vendor], kind, ids].filter((part) => part !== undefined).join(" ");
}

function hex4(value: number): string {
  return value.toString(16).padStart(4, "0");
}
