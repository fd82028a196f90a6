/** Device models that QEMU knows and viommu does not, each with what comes nearest here. */
import { deviceModels } from "./device-table.js";
import { listed, nearest } from "./nearest.js";
import { Refusal } from "../../support/index.js";

/** Other names for models that we have (QEMU's aliases on `virt`). */
const ALIASES: Record<string, string> = { "virtio-net": "virtio-net-pci", "virtio-blk": "virtio-blk-pci", "vfio-pci-nohotplug": "vfio-pci" };

interface Family {
  readonly names: RegExp;
  /** What it is. */
  readonly what: string;
  readonly instead: string;
}

/** Names as `qemu-system-aarch64 -device help` prints them (QEMU 11.1); the first family that matches speaks. */
const FAMILIES: readonly Family[] = [
  { names: /^(?:amd-iommu|virtio-iommu(?:-pci|-device)?|riscv-iommu-pci)$/, what: "another IOMMU", instead: "arm-smmuv3 on virt, intel-iommu on q35" },
  { names: /^(?:pxb|pxb-cxl)$/, what: "another expander bridge", instead: "pxb-pcie" },
  { names: /^(?:ioh3420|cxl-rp|aspeed\.pcie-root-port)$/, what: "another root port", instead: "pcie-root-port" },
  { names: /^cxl-upstream$/, what: "a CXL switch port", instead: "x3130-upstream" },
  { names: /^cxl-(?:downstream|switch-mailbox-cci)$/, what: "a CXL switch port", instead: "xio3130-downstream" },
  { names: /^(?:i82801b11-bridge|pci-bridge|pci-bridge-seat)$/, what: "a conventional PCI bridge", instead: "pcie-pci-bridge" },
  {
    names: /^(?:vfio-(?:platform|ap|ccw|user-pci)|vhost-vdpa-device.*|virtio-.*-vdpa.*)$/,
    what: "another kind of passed-through device",
    instead: "vfio-pci",
  },
  { names: /^(?:virtio-net-(?:device|pci-(?:non-)?transitional))$/, what: "another form of the virtio network card", instead: "virtio-net-pci" },
  { names: /^(?:e1000(?:-.*)?|igb|igbvf|i82.*|rtl8139|ne2k_pci|pcnet|tulip|vmxnet3|rocker|usb-net)$/, what: "another network card", instead: "e1000e or virtio-net-pci" },
  { names: /^(?:virtio-blk-.*|vhost-user-blk.*|virtio-scsi.*|vhost-scsi.*|vhost-user-scsi.*|virtio-9p.*|vhost-user-fs.*)$/, what: "another virtio storage device", instead: "virtio-blk-pci" },
  {
    names: /^(?:nvme-(?:ns|subsys)|ufs.*|ich9-ahci|ahci|megasas.*|mptsas1068|lsi53c.*|pvscsi|am53c974|dc390|sdhci-pci|ide-.*|scsi-.*|sd-card.*|cxl-type3)$/,
    what: "another storage device",
    instead: "nvme or virtio-blk-pci",
  },
  {
    names: /^(?:qemu-xhci|nec-usb-xhci|usb-.*|ich9-usb-.*|piix[34]-usb-uhci|pci-ohci)$/,
    what: "a USB device or controller",
    instead: "nothing like it; for any function that does DMA: virtio-net-pci, e1000e, edu",
  },
  {
    names: /^(?:VGA|.*-vga|virtio-gpu.*|virtio-vga.*|bochs-display|ramfb|qxl.*|vhost-user-gpu.*|vhost-user-vga|AC97|ES1370|hda-.*|.*intel-hda|virtio-sound.*|vhost-user-snd.*)$/,
    what: "a display or sound device",
    instead: "nothing like it; for any function that does DMA: virtio-net-pci, e1000e, edu",
  },
  {
    names: /^(?:virtio-.*|vhost-.*|virtserialport|virtconsole|pci-serial.*|tpm-.*|ivshmem-.*|i6300esb|acpi-erst|pci-testdev|ctucan_pci|kvaser_pci|mioe3680_pci|pcm3680_pci|tpci200|ipoctal232)$/,
    what: "another device of QEMU",
    instead: "for any function that does DMA: virtio-net-pci, virtio-blk-pci, e1000e, edu",
  },
  { names: /^nvdimm$/, what: "persistent memory", instead: "pc-dimm" },
  { names: /^(?:loader|guest-loader|vmcoreinfo|generic-loader)$/, what: "for a guest's kernel", instead: "--guest NAME|FILE" },
];

/** The model of that name. @throws Refusal in QEMU's words, with the nearest model that there is */
export function modelName(name: string): string {
  const known = ALIASES[name] ?? name;
  if (deviceModels.has(known)) {
    return known;
  }
  const family = FAMILIES.find((one) => one.names.test(name));
  if (family !== undefined) {
    throw new Refusal(`'${name}' is not a valid device model name`, {
      found: `${name}: QEMU has it (${family.what}), viommu does not yet`,
      wouldWork: family.instead,
    });
  }
  const near = nearest(name, [...deviceModels.keys(), ...Object.keys(ALIASES)]);
  throw new Refusal(`'${name}' is not a valid device model name`, {
    found: near === null ? `-device ${name}` : `-device ${name}; did you mean ${near}?`,
    wouldWork: listed(deviceModels.keys()),
  });
}
