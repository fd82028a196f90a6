/** Names that device types had, or have in other ways, and the present one: QEMU's aliases are in the record. */

export interface PresentName {
  readonly name: string;
  /** What is said of the one that was given. */
  readonly note: string;
  /** Properties that the older name stands for. */
  readonly properties?: Readonly<Record<string, string>>;
}

const of = (name: string, note: string, properties?: Readonly<Record<string, string>>): PresentName => ({ name, note, properties });

/** Spellings that need no word: QEMU's own aliases for functions that are modelled. */
export const SAME: ReadonlyMap<string, string> = new Map([
  ["virtio-net", "virtio-net-pci"],
  ["virtio-blk", "virtio-blk-pci"],
  ["vfio-pci-nohotplug", "vfio-pci"],
]);

const MODERN = "the modern device, as disable-legacy=on says today";
const TRANSITIONAL = "its modern device is made: the legacy one's I/O ports are not modelled";
const GONE = "gone from QEMU";

export const OLDER_NAMES: ReadonlyMap<string, PresentName> = new Map([
  ["virtio-net-pci-non-transitional", of("virtio-net-pci", MODERN)],
  ["virtio-blk-pci-non-transitional", of("virtio-blk-pci", MODERN)],
  ["virtio-net-pci-transitional", of("virtio-net-pci", TRANSITIONAL)],
  ["virtio-blk-pci-transitional", of("virtio-blk-pci", TRANSITIONAL)],
  // Of patches and of versions before.
  ["arm-smmuv3-accel", of("arm-smmuv3", "the name of patches", { accel: "on" })],
  ["arm-smmuv3-nested", of("arm-smmuv3", "the name of patches", { accel: "on" })],
  ["pci-assign", of("vfio-pci", `${GONE} 2.12`)],
  ["kvm-pci-assign", of("vfio-pci", `${GONE} 2.12`)],
  ["ivshmem", of("ivshmem-plain", `${GONE} 4.0`)],
  ["ide-drive", of("ide-hd", `${GONE} 6.0`)],
  ["scsi-disk", of("scsi-hd", `${GONE} 6.0`)],
]);
