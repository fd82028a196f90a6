/** The rules of `viommu check`: what each looks for, why, and where that is written. Their names stay the same. */

export interface Rule {
  readonly id: string;
  readonly level: "error" | "warning" | "note";
  /** One line. */
  readonly title: string;
  /** Why it matters, and what to do. */
  readonly help: string;
  /** Where the rule is from: a specification, the kernel, QEMU. */
  readonly source: string;
}

const KERNEL_IOMMUFD = "Linux drivers/iommu/iommufd";

const table = [
  // ---- which IOMMU a function is behind ----
  rule("wrong-smmu", "error", "a function behind a vSMMU of another physical SMMU", "A vSMMU is one vIOMMU object of one physical SMMU: the kernel binds no function of another to it. Each physical SMMU needs an expander bus with an arm-smmuv3 of its own.", "Linux arm_vsmmu_init; QEMU docs/system/arm/virt.rst"),
  rule("wrong-host-iommu", "error", "a vIOMMU of another architecture than the host's", "A guest's tables are walked by the host's IOMMU, so both have to be of one kind.", "QEMU smmuv3_accel, vtd_check_hiod_accel"),
  rule("emulated-behind-accel", "error", "an emulated function behind an accelerated SMMU", "Its translations would be QEMU's, while invalidations go to the host alone. It belongs on a bus that no accelerated SMMU covers.", "QEMU hw/arm/smmuv3-accel.c"),
  rule("behind-software-iommu", "error", "a function of the host behind an SMMU without accel=on", "A translation in software cannot serve a function of the host: nobody tells of the guest's mappings.", "QEMU hw/arm/smmuv3.c"),
  rule("several-iommufds", "error", "functions of one vSMMU through several iommufds", "A vIOMMU object belongs to one iommufd.", KERNEL_IOMMUFD),
  rule("no-iommufd", "error", "a function of the host without an iommufd behind an accelerated IOMMU", "Nested translation is asked for by iommufd alone; a legacy VFIO container has none.", "QEMU docs/devel/vfio-iommufd.rst"),
  rule("no-such-iommufd", "error", "an iommufd that is no object of the line", "iommufd= names an -object iommufd that stands in the line.", "QEMU hw/vfio/iommufd.c"),
  rule("shared-bridge", "error", "functions behind one conventional bridge", "What is below a PCIe-to-PCI bridge has the bridge's requester id: an IOMMU cannot tell one from the other.", "PCI Express to PCI/PCI-X Bridge Specification 1.0, 2.3"),
  rule("auto-without-function", "error", "auto properties of an accelerated SMMU without a cold-plugged function", "auto takes what the host's SMMU offers, which the first function tells of. QEMU ends where there is none.", "QEMU hw/arm/smmuv3-accel.c"),
  rule("smmu-bus", "error", "an SMMU on a bus that is no root bus, or not there", "primary-bus names pcie.0 or a pxb-pcie that stands before the SMMU.", "QEMU hw/arm/smmu-common.c"),
  rule("smmu-bus-bypassed", "error", "an SMMU on a bus that bypasses it", "bypass_iommu and an SMMU exclude each other.", "QEMU hw/arm/virt.c"),
  rule("iommu-twice", "error", "two IOMMUs for one bus", "A root bus has one IOMMU.", "QEMU hw/pci/pci.c, pci_setup_iommu"),
  rule("too-many-smmus", "error", "more SMMUs than the platform bus has interrupts for", "An arm-smmuv3 takes 4 of the platform bus's 64 interrupts.", "QEMU hw/core/platform-bus.c"),

  // ---- what the host can give ----
  rule("host-ssidsize", "error", "more SubstreamID bits than the host's SMMU has", "The guest's context descriptor tables are walked by the host's SMMU.", "Arm IHI 0070, 6.3.2 IDR1.SSIDSIZE"),
  rule("host-ril", "error", "range invalidation that the host's SMMU has not", "A guest that is offered ranges sends commands that the host's SMMU does not know.", "Arm IHI 0070, 6.3.4 IDR3.RIL"),
  rule("host-ats", "error", "ATS that the host's SMMU has not", "A guest that is offered ATS lets functions ask for translations.", "Arm IHI 0070, 6.3.1 IDR0.ATS"),
  rule("host-oas", "error", "wider addresses than the host's SMMU has", "The output size of the guest's stage 1 is the input size of the host's stage 2.", "Arm IHI 0070, 6.3.6 IDR5.OAS"),
  rule("host-granules", "error", "a translation granule that the host's SMMU has not", "The guest is shown 4K, 16K and 64K, and may use any.", "Arm IHI 0070, 6.3.6 IDR5.GRAN4K to GRAN64K"),
  rule("host-smmu-format", "error", "a host SMMU with other table formats", "What the guest's ID registers show must be what the host's SMMU walks.", "Arm IHI 0070, 6.3.1 to 6.3.6"),
  rule("host-nesting", "error", "a host IOMMU without nested translation", "Both stages, one on top of the other, are needed: an SMMU with S1P, S2P and coherent walks, a VT-d with ECAP.SMTS, FSTS and NEST.", "Intel VT-d 11.4.3; Arm IHI 0070, 3.3.2"),
  rule("host-aw-bits", "error", "more address bits than the host's IOMMU has", "aw-bits is shown to the guest, and its tables are as wide.", "Intel VT-d 11.4.2 CAP.MGAW"),
  rule("host-fs1gp", "error", "1-GiB pages that the host's IOMMU has not", "The guest's first-stage tables are walked by the host's IOMMU.", "Intel VT-d 11.4.2 CAP.FS1GP"),
  rule("host-pasid-bits", "error", "more PASID bits than the host's IOMMU has", "The guest's PASIDs are the host's.", "Intel VT-d 11.4.3 ECAP.PSS"),
  rule("host-memory", "error", "more memory than the host has", "The guest's RAM is taken from the host's.", "QEMU system/physmem.c"),
  rule("host-call-refused", "error", "a call that the host's kernel refuses", "Building the machine needs it.", KERNEL_IOMMUFD),
  rule("function-ats", "error", "ATS of a function that has none or cannot use it", "vfio-pci with ats=on asks for the capability.", "QEMU hw/vfio/pci.c"),
  rule("no-such-function", "error", "a function that the host does not have", "host= names a PCI function of the host.", "QEMU hw/vfio/pci.c"),
  rule("unknown-descriptor", "note", "a function that the line names by a descriptor", "--fd N=ADDRESS says which of the host's it is.", "QEMU hw/vfio/pci.c"),
  rule("no-host-iommu", "error", "a function that no IOMMU of the host is in front of", "Without one it has no IOMMU group, and VFIO gives it to no process.", "QEMU hw/vfio/device.c; Linux drivers/vfio/group.c"),
  rule("function-taken-twice", "error", "one function of the host twice", "A function of the host can be given away once.", "QEMU hw/vfio/pci.c"),
  rule("function-not-bound", "error", "a function that is not bound to vfio-pci", "Only a function that the host's own driver has left can be passed through.", "Linux drivers/vfio/vfio_main.c"),

  rule("group-not-viable", "error", "a group that a driver of the host's has a function of", "Functions of an IOMMU group reach memory by one another: one process has all of them, or nobody has.", "Linux drivers/iommu/iommu.c, iommu_device_claim_dma_owner"),
  rule("group-companions", "note", "functions of a group that the machine does not take", "They are bound to vfio-pci or to nothing, and nobody else can use them meanwhile.", "Linux drivers/iommu/iommu.c"),
  rule("firmware-mapping", "error", "a function that the firmware wants mapped one to one", "The kernel gives away no function whose reserved ranges are direct (RMRR).", "Linux drivers/iommu/iommu.c, __iommu_device_set_domain"),
  rule("kernel-option", "error", "a kernel that was built without what the line asks for", "Debian's kernels, among others, have CONFIG_IOMMUFD unset.", "Linux drivers/iommu/iommufd/Kconfig, drivers/vfio/Kconfig, drivers/iommu/arm/Kconfig"),
  rule("kernel-version", "error", "a kernel that is too old for what the line asks for", "iommufd is there from Linux 6.2 on, its character devices for functions from 6.6, nested tables of an SMMUv3 from 6.13.", "Linux's releases"),
  rule("memory-lock", "error", "less memory that may be locked than the machine pins", "A function's stage-2 table pins the guest's RAM: once for an iommufd, once for each legacy container; -overcommit mem-lock=on locks it as well.", "Linux drivers/iommu/iommufd/pages.c; setrlimit(2), RLIMIT_MEMLOCK"),
  rule("address-width", "error", "memory or windows beyond what the host's processors address", "A guest with the host's processor has its width: QEMU ends where memory does not fit, and a virt machine goes without a window that does not.", "QEMU hw/i386/pc.c, hw/arm/virt.c"),
  rule("no-kvm", "error", "a host without KVM", "Accelerated SMMUs need KVM's interrupt controller.", "QEMU hw/arm/virt.c"),

  // ---- intel-iommu ----
  rule("caching-mode", "error", "a function of the host behind an intel-iommu without caching-mode", "Without first-stage nesting the guest's mappings are followed by the invalidations of mappings that come to be, which caching-mode=on asks the guest for.", "Intel VT-d 6.1; QEMU hw/i386/intel_iommu.c"),
  rule("vtd-properties", "error", "properties of an intel-iommu that exclude each other", "QEMU checks them when the device is made.", "QEMU hw/i386/intel_iommu.c, vtd_decide_config"),
  rule("intremap-needs-split", "error", "interrupt remapping with the whole interrupt controller in the kernel", "KVM's I/O APIC does not ask the IOMMU: kernel-irqchip=split leaves it to QEMU.", "QEMU hw/i386/x86-iommu.c"),
  rule("eim-needs-intremap", "error", "extended interrupt mode without interrupt remapping", "32-bit APIC ids are in remapped interrupts alone.", "Intel VT-d 5.1.2; QEMU hw/i386/intel_iommu.c"),

  // ---- properties of an arm-smmuv3 ----
  rule("needs-accel", "error", "a property that needs accel=on", "What an emulated SMMU offers is fixed.", "QEMU hw/arm/smmuv3.c"),
  rule("accel-needs-kvm", "error", "an accelerated SMMU without KVM", "Messages of functions go to the guest by KVM's interrupt controller.", "QEMU hw/arm/virt.c"),
  rule("accel-stage", "error", "an accelerated SMMU with a stage 2 for the guest", "Stage 2 is the host's.", "QEMU hw/arm/smmuv3.c"),
  rule("cmdqv", "note", "virtual command queues that only some hosts have", "cmdqv=on needs Tegra241's, and a guest's queue in one piece of memory.", "QEMU hw/arm/tegra241-cmdqv.c"),
  rule("oas-value", "error", "an output size that QEMU's model has not", "44, 48 and auto are.", "QEMU hw/arm/smmuv3.c"),

  // ---- PCI ----
  rule("bus-number-collision", "error", "a bus number that another root bus has, or beyond configuration space", "Root buses have numbers of their own.", "PCI Firmware Specification 3.3, 4.1"),
  rule("numa-node-missing", "error", "a NUMA node that the machine has not", "numa_node names a node of -numa.", "QEMU hw/pci-bridge/pci_expander_bridge.c"),
  rule("chassis-collision", "error", "two ports with one chassis and slot", "(chassis, slot) is unique in a machine.", "QEMU hw/pci/pcie_port.c"),
  rule("no-such-bus", "error", "a bus that is not there", "bus= names a bus that an option before it makes.", "QEMU system/qdev-monitor.c"),
  rule("bus-kind", "error", "a device on a bus that takes none of its kind", "A root bus of a pxb-pcie takes bridges and root ports, a port one device.", "PCI Express 6.0, 1.3"),
  rule("slot", "error", "a slot or function that is taken or not there", "Each function of a bus has a device and function number of its own.", "PCI Express 6.0, 2.2.4.2"),

  rule("bus-room", "error", "a root bus with too few numbers for the buses below", "A guest numbers on into the next root bus's numbers, and finds functions under another IOMMU, or not at all.", "PCI Firmware Specification 3.3, 4.1"),
  rule("window-too-small", "error", "a window too small for the BARs of functions", "A BAR that finds no place leaves its function unusable. highmem-mmio-size (virt) and pci-hole64-size (q35) are the window.", "QEMU hw/arm/virt.c, hw/pci-host/q35.c"),

  // ---- how an IOMMU stands to its functions ----
  rule("iommu-after-function", "error", "an IOMMU that stands after a function that it is to cover", "QEMU asks for a function's IOMMU when it makes the function: one that comes later does not cover it.", "QEMU hw/vfio/pci.c, vfio_pci_realize"),
  rule("acpi-off", "error", "an IOMMU that a guest is told of by ACPI, and acpi=off", "DMAR and IORT tell of the IOMMU, RMR nodes of the window of messages.", "Intel VT-d 8.1; Arm DEN 0049, 3.1.1.5"),
  rule("no-firmware", "note", "an accelerated SMMU without firmware", "QEMU builds ACPI's tables for firmware, and refuses accel=on where none is loaded.", "QEMU hw/arm/virt.c"),
  rule("outside-iommu", "note", "a function of the host that no IOMMU of the machine covers", "Its DMA reaches all of the guest's memory.", "QEMU docs/bypass-iommu.txt"),
  rule("caching-mode-unsaid", "note", "first-stage nesting without caching-mode", "A guest need not tell of entries that come to be, so a function or PASID may stay unbound for a while.", "Intel VT-d 6.1"),
  rule("mixed-containers", "warning", "legacy containers beside iommufds", "Each maps and pins the guest's memory for itself, and peers do not reach each other.", "QEMU docs/devel/vfio-iommufd.rst"),
  rule("legacy-container", "warning", "a function of the host by a legacy VFIO container", "QEMU takes it. It nests no guest's tables, pins memory for each container, and viommu does not run it.", "QEMU docs/devel/vfio-iommufd.rst"),

  rule("peer-to-peer", "note", "functions of the host that do not reach each other, or past the IOMMU", "BARs are in other functions' tables where the kernel gives them as dma-bufs; ports with ACS send what goes between functions through the IOMMU.", "Linux drivers/vfio/pci, CONFIG_VFIO_PCI_DMABUF; PCI Express 6.0, 6.12"),

  // ---- NUMA ----
  rule("numa-mismatch", "warning", "a NUMA node that is not where the function is", "A guest that takes memory near the function takes it from the other node.", "ACPI 6.5, 6.2.14 _PXM"),
  rule("numa-node-unsaid", "note", "an expander without a NUMA node in a machine with several", "A guest is not told where the functions below are.", "ACPI 6.5, 6.2.14 _PXM"),

  // ---- what is slow, or cannot be done later ----
  rule("invalidation-calls", "note", "invalidations that are a system call each", "QEMU 11.1 passes each command of a guest's by a call of its own.", "QEMU hw/arm/smmuv3-accel.c"),
  rule("ril-unused", "warning", "range invalidation that the host has and the guest is not shown", "Without it a guest invalidates each page by a command, and each command is a system call.", "Arm IHI 0070, 4.4.1.1"),
  rule("lost-invalidations", "warning", "a host SMMU whose invalidations count the second time", "The kernel repeats its own commands, and passes a guest's once.", "Linux include/uapi/linux/iommufd.h, IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI"),
  rule("migration-blocked", "note", "a machine that cannot be migrated", "Nested tables are the hardware's: their state is not in QEMU.", "QEMU hw/arm/smmuv3-accel.c"),

  // ---- the line itself ----
  rule("older-spelling", "warning", "a property by a name that QEMU has no more", "QEMU 11.1 names some properties anew, and has not kept the older names.", "QEMU hw/i386/intel_iommu.c"),
  rule("qemu-version", "error", "what the QEMU of the line has not", "The text says which QEMU it is of, and that one has no such device, property or machine.", "QEMU's releases"),
  rule("rom-file", "note", "an expansion ROM of a file", "Whether the file is there is not seen here.", "QEMU hw/pci/pci.c"),
  rule("unknown-property", "error", "a property that a device has not", "Names are told apart by case: ssidsize, not ssidSize.", "QEMU qom/object.c"),
  rule("device-refused", "error", "a device that cannot be", "What its argument says does not fit.", "QEMU system/qdev-monitor.c"),
  rule("duplicate-id", "error", "one id twice", "Ids of devices are unique, and so are ids of objects.", "QEMU system/qdev-monitor.c"),
  rule("multiple-iommus", "error", "two vIOMMUs of an x86 machine", "QEMU has one at the most.", "QEMU hw/i386/x86-iommu.c"),
  rule("no-machine", "error", "no machine", "-machine says which one.", "QEMU system/vl.c"),
  rule("unsupported-machine", "error", "a machine that is not there", "virt and q35 are, by their aliases and versions.", "QEMU system/vl.c"),
  rule("unknown-program", "error", "a program that is no QEMU of these machines", "qemu-system-aarch64 and qemu-system-x86_64 are.", "viommu run"),
  rule("too-many-cpus", "error", "more processors than the machine has", "-smp's maxcpus is limited by the machine.", "QEMU hw/core/machine-smp.c"),
  rule("invalid-option", "error", "an option that is not there, or an argument that does not fit", "QEMU ends at it.", "QEMU system/vl.c"),
  rule("domain-xml", "error", "a domain XML that libvirt refuses", "libvirt checks it when the domain is defined or started.", "libvirt 12.9"),
  rule("machine-refused", "error", "what building the machine refuses", "It was built without a guest, as `viommu run` would.", "viommu run"),
] as const;

export type RuleId = (typeof table)[number]["id"];

export const rules: ReadonlyMap<string, Rule> = new Map(table.map((one) => [one.id, one]));

export function isRule(id: string | undefined): id is RuleId {
  return id !== undefined && rules.has(id);
}

function rule<Id extends string>(id: Id, level: Rule["level"], title: string, help: string, source: string): Rule & { readonly id: Id } {
  return { id, level, title, help, source };
}
