/** The boards that there are, as the command line and those who tell of them know them. */
export interface BoardTraits {
  /** Of its machine types, before the version; the name of the last one. */
  readonly prefix: string;
  readonly alias: string;
  /** Of QEMU's program. */
  readonly architecture: "aarch64" | "x86_64";
  readonly maxCpus: number;
  /** Serial ports at the most. */
  readonly serialPorts: number;
  /** The model of its own IOMMU. */
  readonly iommu: string;
  /** What QEMU adds where -nodefaults is not said, each unless an option has been. */
  readonly defaultDevices: ReadonlyArray<{ readonly what: string; readonly unless: string }>;
  /** The network card of -nic without a model. */
  readonly defaultNic: string;
  /** What -drive is without if=. */
  readonly defaultDrive: string;
  /** QEMU's type of the PCI host bridge's device. */
  readonly hostBridge: string;
}

export const boardTraits = {
  virt: { prefix: "virt", alias: "virt", architecture: "aarch64", maxCpus: 512, serialPorts: 2, iommu: "arm-smmuv3", defaultDevices: [{ what: "a virtio-net-pci to pcie.0", unless: "nic" }], defaultNic: "virtio-net-pci", defaultDrive: "virtio", hostBridge: "gpex-pcihost" },
  q35: { prefix: "pc-q35", alias: "q35", architecture: "x86_64", maxCpus: 4096, serialPorts: 4, iommu: "intel-iommu", defaultDevices: [{ what: "an e1000e", unless: "nic" }, { what: "a VGA", unless: "vga" }, { what: "a CD drive", unless: "cdrom" }], defaultNic: "e1000e", defaultDrive: "ide", hostBridge: "q35-pcihost" },
} as const satisfies Readonly<Record<string, BoardTraits>>;

export type BoardKind = keyof typeof boardTraits;

export const BOARD_KINDS = Object.keys(boardTraits) as readonly BoardKind[];
