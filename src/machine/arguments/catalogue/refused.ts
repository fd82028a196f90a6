/** Device types of QEMU that a machine here cannot have, with the reason and what would work. */

export interface RefusedFamily {
  readonly names: RegExp;
  /** What it is, and why it is not here. */
  readonly reason: string;
  readonly instead: string;
}

/** The first that matches speaks. */
const FAMILIES: readonly RefusedFamily[] = [
  { names: /^(?:amd-iommu|AMDVI-PCI|virtio-iommu(?:-pci|-device)?|riscv-iommu-pci)$/, reason: "another IOMMU: DMA would not go where its guest's tables say", instead: "arm-smmuv3 on virt, intel-iommu on q35" },
  { names: /^pxb$/, reason: "an expander of conventional PCI, which machines with PCI Express do not take", instead: "pxb-pcie" },
  { names: /^pxb-cxl$/, reason: "a host bridge of CXL, which is not modelled", instead: "pxb-pcie" },
  { names: /^(?:cxl-rp|aspeed\.pcie-root-port)$/, reason: "a root port of a host bridge that is not modelled", instead: "pcie-root-port" },
  { names: /^cxl-upstream$/, reason: "a CXL switch port: CXL is not modelled", instead: "x3130-upstream" },
  { names: /^cxl-(?:downstream|switch-mailbox-cci)$/, reason: "of a CXL switch: CXL is not modelled", instead: "xio3130-downstream" },
  { names: /^cxl-type3$/, reason: "memory of CXL, which is not modelled", instead: "pc-dimm, or nvme for a disk" },
  { names: /^vfio-pci-igd-lpc-bridge$/, reason: "a dummy for the legacy passing through of Intel's graphics", instead: "vfio-pci" },
  { names: /^(?:vfio-(?:platform|ap|ccw|user-pci|amd-xgbe|calxeda-xgmac)|x-pci-proxy-dev|vhost-vdpa-device.*)$/, reason: "passed through in another way than VFIO's: what its function is like is told by its back end alone", instead: "vfio-pci" },
  { names: /^(?:nvdimm|sp-mem|virtio-pmem(?:-pci)?|virtio-mem(?:-pci)?)$/, reason: "memory of a kind that is not modelled: DMA to it would reach nothing", instead: "pc-dimm" },
  { names: /^(?:loader|guest-loader|generic-loader)$/, reason: "it fills a guest's memory", instead: "--guest NAME|FILE, or -kernel" },
  { names: /^(?:xen-.*|vmbus-bridge|hv-.*)$/, reason: "a device of another hypervisor's guests", instead: "the same device of virtio" },
];

export function refusedFamily(name: string): RefusedFamily | null {
  return FAMILIES.find((one) => one.names.test(name)) ?? null;
}
