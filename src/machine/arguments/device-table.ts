/**
 * The models that `-device` knows: their properties with QEMU's names, types and defaults (QEMU 11.1,
 * `-device NAME,help`), and which of them have an effect here.
 */
import type { BoardKind } from "./boards.js";
import type { RecordedDevice } from "./catalogue/record.js";
import type { PropertyType, PropertyValue } from "./property.js";

export interface PropertyDescription {
  readonly name: string;
  readonly type: PropertyType;
  /** As QEMU prints it; empty: none. */
  readonly default: string;
  readonly description: string;
  /** Accepted for the command line's sake: what it controls is not modelled. */
  readonly withoutEffect?: boolean;
  /** QEMU has it and it cannot be had here: the reason. Its default is accepted. */
  readonly refused?: string;
}

/** `placed` are PCI functions with nothing behind their configuration space, `other` devices of buses that are not modelled. */
export type DeviceCategory = "iommu" | "bridge" | "passthrough" | "endpoint" | "memory" | "placed" | "other";

export interface DeviceModel<Name extends string = string> {
  readonly name: Name;
  readonly category: DeviceCategory;
  readonly description: string;
  /** A PCI function (an IOMMU is none). */
  readonly isPci: boolean;
  /** The only board that has it; null: any. */
  readonly board: BoardKind | null;
  /** Properties of older versions and of patches that people run. */
  readonly older: ReadonlyMap<string, OlderProperty>;
  readonly hotpluggable: boolean;
  readonly properties: ReadonlyMap<string, PropertyDescription>;
  /** What was recorded of it, where it is not modelled. */
  readonly recorded?: RecordedDevice;
}

export interface OlderProperty {
  readonly type: PropertyType;
  /** What it is in today's properties, by name and value; none: what it asks for is so anyway, or not here. */
  readonly now: (value: PropertyValue) => ReadonlyArray<readonly [name: string, value: boolean | number | string]>;
  /** Why there is no property for it today. */
  readonly gone?: string;
  /** The only value that can be had. */
  readonly only?: boolean;
}

/** The same under another name. */
function renamed(name: string, type: PropertyType = "bool"): OlderProperty {
  return { type, now: (value) => [[name, value as boolean]] };
}

/** Today it cannot be turned off, or on. */
function settled(only: boolean, gone: string): OlderProperty {
  return { type: "bool", now: () => [], gone, only };
}

function property(name: string, type: PropertyType, defaultValue: string, description: string): PropertyDescription {
  return { name, type, default: defaultValue, description };
}

/** `name:type` words: properties without effect, for what they control is not modelled. */
function withoutEffect(words: string): PropertyDescription[] {
  return words.split(/\s+/).map((word) => {
    const [name, type] = word.split(":");
    return { name, type: type as PropertyType, default: "", description: "no effect here", withoutEffect: true };
  });
}

function refused(name: string, type: PropertyType, defaultValue: string, reason: string): PropertyDescription {
  return { name, type, default: defaultValue, description: `not here: ${reason}`, refused: reason };
}

/** Properties of every PCI device. `bus` and `id` are the option's own. */
const PCI: readonly PropertyDescription[] = [
  property("addr", "pci-address", "-1", "slot[.function] in hexadecimal; -1: the first free slot"),
  property("multifunction", "bool", "off", "other functions may be in function 0's slot"),
  ...withoutEffect(
    "acpi-index:uint32 rombar:int32 romfile:str romsize:uint32 x-max-bounce-buffer-size:size x-pcie-ari-nextfn-1:bool x-pcie-err-unc-mask:bool x-pcie-ext-tag:bool x-pcie-lnksta-dllla:bool",
  ),
  refused("failover_pair_id", "str", "", "there is no network failover"),
  refused("sriov-pf", "str", "", "emulated devices have no virtual functions"),
];

const PCIE_SLOT: readonly PropertyDescription[] = [
  property("port", "uint8", "0", "port number in the link capabilities"),
  property("chassis", "uint8", "0", "chassis; (chassis, slot) is unique in the machine"),
  property("slot", "uint16", "0", "physical slot number"),
  property("hotplug", "bool", "on", "the slot can be plugged and unplugged while the machine runs"),
  property("power_controller_present", "bool", "on", "the slot has a power controller"),
  ...withoutEffect("aer_log_max:uint16 x-do-not-expose-native-hotplug-cap:bool x-pci-express-writeable-slt-bug:bool"),
];

const VIRTIO =
  "aer:bool any_layout:bool disable-legacy:OnOffAuto disable-modern:bool event_idx:bool in_order:bool indirect_desc:bool ioeventfd:bool iommu_platform:bool modern-pio-notify:bool notify_on_empty:bool packed:bool page-per-vq:bool queue_reset:bool use-disabled-flag:bool use-started:bool vectors:uint32 virtio-pci-bus-master-bug-migration:bool x-ats-page-aligned:bool x-disable-legacy-check:bool x-pcie-flr-init:bool x-pcie-pm-no-soft-reset:bool bootindex:int32";
const BLOCK =
  "account-failed:OnOffAuto account-invalid:OnOffAuto backend_defaults:OnOffAuto discard_granularity:size drive:str logical_block_size:size min_io_size:size opt_io_size:size physical_block_size:size share-rw:bool stats-intervals:any write-cache:OnOffAuto serial:str";

function model<Name extends string>(
  name: Name,
  category: DeviceCategory,
  description: string,
  properties: readonly PropertyDescription[],
  options: { isPci?: boolean; hotpluggable?: boolean; board?: BoardKind; older?: DeviceModel["older"] } = {},
): DeviceModel<Name> {
  const isPci = options.isPci ?? true;
  const all = isPci ? [...properties, ...PCI.filter(({ name: common }) => !properties.some((own) => own.name === common))] : properties;
  return {
    name,
    category,
    description,
    isPci,
    board: options.board ?? null,
    older: options.older ?? new Map(),
    hotpluggable: options.hotpluggable ?? true,
    properties: new Map(all.map((one) => [one.name, one])),
  };
}

/** `modern` and `legacy` were said of the tables in scalable mode, by the patches before QEMU 10. */
function scalableMode(value: PropertyValue): ReadonlyArray<readonly [string, boolean]> {
  const on = value === "modern" || value === "legacy" || value === "on";
  return value === "modern" || value === "legacy" ? [["scalable-mode", on], ["fsts", value === "modern"]] : [["scalable-mode", on]];
}

const PVPANIC: readonly PropertyDescription[] = [property("events", "uint8", "7", "events that a guest is offered: 1 panicked, 2 a crash kernel follows, 4 shut down")];

const models = [
  model(
    "arm-smmuv3",
    "iommu",
    "SMMUv3 of a root bus; with accel=on the host's SMMU translates",
    [
      property("primary-bus", "link", "", "the root bus that it covers: pcie.0 or a pxb-pcie's id; required"),
      property("accel", "bool", "off", "the host's SMMU translates (nested), for vfio-pci functions with an iommufd"),
      property("stage", "str", "1", "stages of translation offered to the guest: 1, 2, nested; 1 with accel=on"),
      property("ril", "OnOffAuto", "auto", "range invalidation; off needs accel=on"),
      property("ats", "OnOffAuto", "auto", "ATS; on needs accel=on"),
      property("oas", "OasMode", "auto", "output address size in bits: 44, 48, auto; 48 needs accel=on"),
      property("ssidsize", "SsidSizeMode", "auto", "bits of a SubstreamID (PASID), 0 to 20; above 0 needs accel=on"),
      property("cmdqv", "OnOffAuto", "auto", "virtual command queues of Tegra241: not modelled, on is refused"),
      property("x-msi", "OnOffAuto", "auto", "messages of the SMMU (IDR0.MSI), ours: CMD_SYNC is told in memory; auto is on for a kernel on vCPUs"),
      property("x-register-pages", "OnOffAuto", "auto", "a kernel's processors read the registers as memory, ours; auto: where that is coherent (FEAT_S2FWB)"),
      refused("msi-gpa", "uint64", "0", "the machine sets it: the doorbell of its MSI controller"),
      refused("smmu_per_bus", "bool", "on", "the machine sets it"),
      refused("bus_num", "uint8", "0", "the machine sets it"),
      refused("identifier", "uint8", "0", "the machine sets it, with its ACPI tables"),
      refused("memory", "link", "", "the machine sets it"),
      refused("secure-memory", "link", "", "the Secure state is not modelled"),
    ],
    { isPci: false, hotpluggable: false, board: "virt", older: new Map<string, OlderProperty>([["pasid", { type: "bool", now: (on) => [["ssidsize", on === true ? "auto" : "0"]] }], ["pci-bus", renamed("primary-bus", "str")]]) },
  ),
  model(
    "intel-iommu",
    "iommu",
    "Intel VT-d for the machine; with fsts=on the host's IOMMU translates for vfio-pci functions with an iommufd",
    [
      property("scalable-mode", "bool", "off", "context entries with PASID tables are offered to the guest"),
      property("fsts", "bool", "off", "first-stage tables: the guest's are nested in the host's; needs scalable-mode=on"),
      property("fs1gp", "bool", "on", "pages of 1 GiB in first-stage tables"),
      property("pasid-bits", "uint8", "0", "bits of a PASID, 0 to 20; above 0 needs scalable-mode=on"),
      property("aw-bits", "uint8", "48", "address width: 39 or 48; 48 with fsts=on"),
      property("caching-mode", "bool", "off", "the guest tells of mappings that come to be, too; needed by vfio-pci without fsts=on"),
      property("device-iotlb", "bool", "off", "device TLBs (ATS) are offered"),
      property("dma-translation", "bool", "on", "DMA is translated; off: interrupts alone are remapped"),
      property("snoop-control", "bool", "off", "snoop control of second-stage tables is offered"),
      property("svm", "bool", "off", "shared virtual memory is offered; needs device-iotlb, pasid-bits and fsts"),
      property("intremap", "OnOffAuto", "auto", "interrupt remapping; auto: on, but with kernel-irqchip=on"),
      property("eim", "OnOffAuto", "auto", "extended interrupt mode (32-bit APIC IDs); needs intremap=on"),
      property("stale-tm", "bool", "off", "the TM bit of second-stage entries is not reserved with device-iotlb=on, as up to QEMU 9.1"),
      ...withoutEffect("version:uint32"),
      property("x-require-nesting", "bool", "off", "no shadowing of the guest's tables: vfio-pci is refused where they cannot be nested"),
      property("x-numa-node", "uint16", "128", "NUMA node of the remapping hardware, told by an RHSA structure; 128: none"),
      property("x-satc", "bool", "off", "ATS functions on pcie.0 are told by a SATC structure; needs device-iotlb=on"),
    ],
    {
      isPci: false,
      hotpluggable: false,
      board: "q35",
      older: new Map<string, OlderProperty>([
        ["x-scalable-mode", { type: "ScalableMode", now: scalableMode }],
        ["x-flts", renamed("fsts")],
        ["flts", renamed("fsts")],
        ["x-cap-fs1gp", renamed("fs1gp")],
        // ECAP.PSS was 7, for 8 bits (VTD_ECAP_PSS of QEMU 10).
        ["x-pasid-mode", { type: "bool", now: (on) => [["pasid-bits", on === true ? 8 : 0]] }],
        ["dma-drain", settled(true, "draining is always offered")],
        ["pt", settled(true, "pass-through is always offered")],
        ["x-buggy-eim", settled(false, "eim=on says what it was for")],
      ]),
    },
  ),
  model(
    "pxb-pcie",
    "bridge",
    "PCI Express expander bridge: a further root bus, named by its id",
    [
      property("bus_nr", "uint8", "", "number of the root bus that it makes, 1 to 255; not said: a free one"),
      property("bypass_iommu", "bool", "off", "functions below bypass the IOMMU"),
      property("numa_node", "uint16", "128", "NUMA node of what is below; 128: none"),
    ],
    { hotpluggable: false },
  ),
  model("pcie-root-port", "bridge", "PCI Express root port: makes a bus with one slot, named by its id", [
    ...PCIE_SLOT,
    property("x-speed", "PCIELinkSpeed", "16", "link speed in GT/s"),
    property("x-width", "PCIELinkWidth", "32", "link width in lanes"),
    property("x-pm", "OnOffAuto", "auto", "power management with PME, ours: a port that sleeps hears of its slot; auto is on for a kernel on vCPUs"),
    property("bus-reserve", "uint32", "", "bus numbers that firmware keeps free below it"),
    property("mem-reserve", "size", "", "bytes of memory that firmware keeps free below it for devices that come later"),
    property("pref32-reserve", "size", "", "the same of prefetchable memory, below 4 GiB"),
    property("pref64-reserve", "size", "", "the same of prefetchable memory"),
    property("io-reserve", "size", "", "the same of I/O ports; 0: the port forwards none"),
  ]),
  model("x3130-upstream", "bridge", "upstream port of a PCI Express switch", [
    property("port", "uint8", "0", "port number in the link capabilities"),
    ...withoutEffect("aer_log_max:uint16 x-pci-express-writeable-slt-bug:bool"),
  ]),
  model("xio3130-downstream", "bridge", "downstream port of a PCI Express switch", PCIE_SLOT),
  model("pcie-pci-bridge", "bridge", "PCI Express to PCI bridge: what is below has the bridge's requester id", [
    property("msi", "OnOffAuto", "auto", "the bridge has an MSI capability"),
    ...withoutEffect("x-pci-express-writeable-slt-bug:bool"),
  ]),
  ...(["pci-bridge", "pci-bridge-seat"] as const).map((name) =>
    model(name, "bridge", `conventional PCI bridge${name === "pci-bridge" ? "" : " of a seat"}: what is below has the bridge's own requester id; no hot-plug`, [
      property("chassis_nr", "uint8", "0", "number of its chassis, 1 to 255; required"),
      property("msi", "OnOffAuto", "auto", "the bridge has an MSI capability"),
      property("shpc", "bool", "on", "QEMU's hot-plug controller, which is not modelled: on virt slot 0 takes no device then"),
      ...withoutEffect("bus-reserve:uint32 io-reserve:size mem-reserve:size pref32-reserve:size pref64-reserve:size x-pci-express-writeable-slt-bug:bool"),
    ])),
  model("i82801b11-bridge", "bridge", "the ICH9's bridge to conventional PCI: what is below has the bridge's own requester id", withoutEffect("x-pci-express-writeable-slt-bug:bool")),
  model("ioh3420", "bridge", "Intel's root port of the X58: as pcie-root-port, with MSI for MSI-X and a slow link", PCIE_SLOT),
  model("vfio-pci", "passthrough", "a PCI function of the host", [
    property("host", "host-address", "", "[domain:]bus:slot.function on the host; or sysfsdev=, or fd="),
    property("sysfsdev", "str", "", "the function's folder in sysfs, such as /sys/bus/pci/devices/0000:01:00.0"),
    property("fd", "str", "", "number of a descriptor of the function's VFIO device that the process was given; with iommufd="),
    property("vf-token", "str", "", "UUID that a virtual function and its physical one are opened with"),
    property("iommufd", "link", "", "id of the -object iommufd that it is bound to; required behind arm-smmuv3,accel=on"),
    property("ats", "OnOffAuto", "auto", "the guest sees the ATS capability; auto: where the host's kernel can use it"),
    property("x-vpasid-cap-offset", "uint16", "0", "where the synthetic PASID capability goes; 0: at the end of the extended space"),
    property("rombar", "int32", "0", "1: the guest sees the function's expansion ROM"),
    property("x-req", "bool", "on", "the host may ask for the function: the guest is asked to give it up"),
    property("x-no-mmap", "bool", "off", "every access to its registers is trapped, and other functions do not reach them"),
    refused("enable-migration", "OnOffAuto", "auto", "Migration not supported with SMMUv3 accelerator mode enabled"),
    refused("x-msix-relocation", "str", "off", "the MSI-X table stays where the device has it"),
    refused("x-vga", "bool", "off", "there is no VGA"),
    ...withoutEffect(
      "bootindex:int32 display:OnOffAuto migration-events:bool skip-vsc-check:bool x-balloon-allowed:bool x-device-dirty-page-tracking:OnOffAuto x-igd-gms:uint32 x-igd-legacy-mode:OnOffAuto x-igd-lpc:bool x-igd-opregion:bool x-intx-mmap-timeout-ms:uint32 x-migration-load-config-after-iter:OnOffAuto x-migration-max-queued-buffers-size:size x-migration-multifd-transfer:OnOffAuto x-no-geforce-quirks:bool x-no-kvm-intx:bool x-no-kvm-ioeventfd:bool x-no-kvm-msi:bool x-no-kvm-msix:bool x-no-vfio-ioeventfd:bool x-nv-gpudirect-clique:uint8 x-pci-class-code:uint32 x-pci-device-id:uint32 x-pci-sub-device-id:uint32 x-pci-sub-vendor-id:uint32 x-pci-vendor-id:uint32 x-pre-copy-dirty-page-tracking:OnOffAuto xres:uint32 yres:uint32",
    ),
  ]),
  model("virtio-net-pci", "endpoint", "virtio network card: placed, found, does DMA; no packets", [
    property("ats", "bool", "off", "the function has an ATS capability"),
    ...withoutEffect(
      `${VIRTIO} csum:bool ctrl_guest_offloads:bool ctrl_mac_addr:bool ctrl_rx:bool ctrl_rx_extra:bool ctrl_vlan:bool ctrl_vq:bool duplex:str ebpf-rss-fds:any failover:bool gso:bool guest_announce:bool guest_csum:bool guest_ecn:bool guest_rsc_ext:bool guest_tso4:bool guest_tso6:bool guest_tunnel:bool guest_tunnel_csum:bool guest_ufo:bool guest_uso4:bool guest_uso6:bool hash-ipv4:OnOffAuto hash-ipv6:OnOffAuto hash-ipv6ex:OnOffAuto hash-tcp4:OnOffAuto hash-tcp6:OnOffAuto hash-tcp6ex:OnOffAuto hash-udp4:OnOffAuto hash-udp6:OnOffAuto hash-udp6ex:OnOffAuto hash:bool host_ecn:bool host_mtu:uint16 host_tso4:bool host_tso6:bool host_tunnel:bool host_tunnel_csum:bool host_ufo:bool host_uso:bool mac:mac mq:bool mrg_rxbuf:bool netdev:str rsc_interval:uint32 rss:bool rx_queue_size:uint16 speed:int32 status:bool tx:str tx_queue_size:uint16 x-txburst:int32 x-txtimer:uint32`,
    ),
  ]),
  model("virtio-blk-pci", "endpoint", "virtio disk: placed, found, does DMA; no blocks", [
    property("ats", "bool", "off", "the function has an ATS capability"),
    ...withoutEffect(
      `${VIRTIO} ${BLOCK} class:uint32 config-wce:bool cyls:uint32 discard:bool heads:uint32 iothread-vq-mapping:any iothread:link lcyls:uint32 lheads:uint32 lsecs:uint32 max-discard-sectors:uint32 max-write-zeroes-sectors:uint32 num-queues:uint16 queue-size:uint16 report-discard-granularity:bool request-merging:bool rerror:str secs:uint32 seg-max-adjust:bool werror:str write-zeroes:bool x-enable-wce-if-config-wce:bool`,
    ),
  ]),
  model("nvme", "endpoint", "NVMe controller with a disk", [
    property("drive", "str", "", "id of the -drive or -blockdev that is namespace 1; not said: there is none"),
    property("serial", "str", "", "serial number, at most 20 characters; required"),
    property("model", "str", "QEMU NVMe Ctrl", "model number"),
    property("firmware-version", "str", "11.1.0", "firmware revision, at most 8 characters"),
    property("max_ioqpairs", "uint32", "64", "I/O queue pairs, 1 to 65535"),
    property("msix_qsize", "uint16", "65", "MSI-X vectors, 1 to 2048"),
    property("mdts", "uint8", "7", "largest transfer: 2^mdts pages of 4 KiB; 0: no limit"),
    property("mqes", "uint16", "2047", "entries of a queue, less one"),
    property("aerl", "uint8", "3", "asynchronous event requests at a time, less one"),
    property("logical_block_size", "size", "512", "bytes of a logical block: a power of two, 512 to 2 MiB"),
    property("physical_block_size", "size", "512", "no smaller than logical_block_size"),
    property("write-cache", "OnOffAuto", "auto", "the volatile write cache is on after a reset; auto: as the drive's cache= says"),
    property("smart_critical_warning", "uint8", "0", "critical warnings of the SMART log"),
    refused("pmrdev", "link", "", "there is no persistent memory region"),
    refused("subsys", "link", "", "there is no NVMe subsystem"),
    refused("sriov_max_vfs", "uint16", "0", "emulated devices have no virtual functions"),
    refused("cmb_size_mb", "uint32", "0", "there is no controller memory buffer"),
    refused("msix-exclusive-bar", "bool", "off", "the MSI-X table is in BAR 0"),
    refused("use-intel-id", "bool", "off", "its ids are 1b36:0010"),
    ...withoutEffect(
      "account-failed:OnOffAuto account-invalid:OnOffAuto backend_defaults:OnOffAuto discard_granularity:size min_io_size:size opt_io_size:size share-rw:bool stats-intervals:any bootindex:int32 aer_max_queued:uint32 atomic.awun:uint16 atomic.awupf:uint16 atomic.dn:bool ctratt.mem:bool dbcs:bool ioeventfd:bool legacy-cmb:bool num_queues:uint32 ocp:bool spdm_port:uint16 spdm_trans:str sriov_max_vi_per_vf:uint32 sriov_max_vq_per_vf:uint32 sriov_vi_flexible:uint16 sriov_vq_flexible:uint16 vsl:uint8 zoned.auto_transition:bool zoned.zasl:uint8",
    ),
  ]),
  model("e1000e", "endpoint", "Intel 82574L network card: placed, found, does DMA; no packets", [
    property("subsys", "uint16", "0", "subsystem ID"),
    property("subsys_ven", "uint16", "32902", "subsystem vendor ID"),
    ...withoutEffect("bootindex:int32 disable_vnet_hdr:uint8 init-vet:bool mac:mac migrate-timadj:bool netdev:str"),
  ]),
  model("edu", "endpoint", "QEMU's educational device, with its documented registers", [
    property("dma_mask", "uint64", "268435455", "addresses that its DMA engine reaches"),
  ]),
  model("pvpanic-pci", "endpoint", "a byte by which a guest tells that it has panicked", PVPANIC),
  model(
    "pvpanic",
    "endpoint",
    "the same at an I/O port",
    [...PVPANIC, property("ioport", "uint16", "1285", "its port; 0: none")],
    { isPci: false, hotpluggable: false, board: "q35" },
  ),
  model(
    "pc-dimm",
    "memory",
    "memory above the machine's RAM, plugged and unplugged while it runs; needs -m with slots and maxmem",
    [
      property("memdev", "link", "", "id of the -object memory-backend-ram that it is made of; required"),
      property("addr", "uint64", "0", "guest-physical address, a multiple of 2 MiB; 0: the first free place"),
      property("slot", "int32", "-1", "slot of -m slots=; -1: the first free one"),
      property("node", "uint32", "0", "NUMA node"),
    ],
    { isPci: false },
  ),
  model("iommu-testdev", "endpoint", "QEMU's device for IOMMU tests, with its documented registers", []),
];

export const deviceModels: ReadonlyMap<string, DeviceModel> = new Map<string, DeviceModel>(models.map((one) => [one.name, one]));

/** Models that are PCI functions: each has a maker in machine/function-maker.ts. */
export type FunctionModel = Exclude<(typeof models)[number]["name"], "arm-smmuv3" | "intel-iommu" | "pc-dimm" | "pvpanic">;
