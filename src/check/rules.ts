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
  rule("function-taken-twice", "error", "one function of the host twice", "A function of the host can be given away once.", "QEMU hw/vfio/pci.c"),
  rule("function-not-bound", "error", "a function that is not bound to vfio-pci", "Only a function that the host's own driver has left can be passed through.", "Linux drivers/vfio/vfio_main.c"),
  rule("function-in-use", "error", "a function that is in use", "Another machine, or another vfio-pci of this one, has it.", "Linux drivers/vfio/device_cdev.c"),

  // ---- intel-iommu ----
  rule("caching-mode", "error", "a function of the host behind an intel-iommu without caching-mode", "Without first-stage nesting the guest's mappings are followed by the invalidations of mappings that come to be, which caching-mode=on asks the guest for.", "Intel VT-d 6.1; QEMU hw/i386/intel_iommu.c"),
  rule("vtd-properties", "error", "properties of an intel-iommu that exclude each other", "QEMU checks them when the device is made.", "QEMU hw/i386/intel_iommu.c, vtd_decide_config"),
  rule("intremap-needs-split", "error", "interrupt remapping with the whole interrupt controller in the kernel", "KVM's I/O APIC does not ask the IOMMU: kernel-irqchip=split leaves it to QEMU.", "QEMU hw/i386/x86-iommu.c"),
  rule("eim-needs-intremap", "error", "extended interrupt mode without interrupt remapping", "32-bit APIC ids are in remapped interrupts alone.", "Intel VT-d 5.1.2; QEMU hw/i386/intel_iommu.c"),

  // ---- properties of an arm-smmuv3 ----
  rule("needs-accel", "error", "a property that needs accel=on", "What an emulated SMMU offers is fixed.", "QEMU hw/arm/smmuv3.c"),
  rule("accel-needs-kvm", "error", "an accelerated SMMU without KVM", "Messages of functions go to the guest by KVM's interrupt controller.", "QEMU hw/arm/virt.c"),
  rule("accel-stage", "error", "an accelerated SMMU with a stage 2 for the guest", "Stage 2 is the host's.", "QEMU hw/arm/smmuv3.c"),
  rule("cmdqv", "error", "virtual command queues that are not there", "cmdqv=on needs a host with Tegra241's, and is not modelled here.", "QEMU hw/arm/tegra241-cmdqv.c"),
  rule("oas-value", "error", "an output size that QEMU's model has not", "44, 48 and auto are.", "QEMU hw/arm/smmuv3.c"),

  // ---- PCI ----
  rule("bus-number-collision", "error", "a bus number that another root bus has, or beyond configuration space", "Root buses have numbers of their own.", "PCI Firmware Specification 3.3, 4.1"),
  rule("numa-node-missing", "error", "a NUMA node that the machine has not", "numa_node names a node of -numa.", "QEMU hw/pci-bridge/pci_expander_bridge.c"),
  rule("chassis-collision", "error", "two ports with one chassis and slot", "(chassis, slot) is unique in a machine.", "QEMU hw/pci/pcie_port.c"),
  rule("no-such-bus", "error", "a bus that is not there", "bus= names a bus that an option before it makes.", "QEMU system/qdev-monitor.c"),
  rule("bus-kind", "error", "a device on a bus that takes none of its kind", "A root bus of a pxb-pcie takes bridges and root ports, a port one device.", "PCI Express 6.0, 1.3"),
  rule("slot", "error", "a slot or function that is taken or not there", "Each function of a bus has a device and function number of its own.", "PCI Express 6.0, 2.2.4.2"),

  // ---- the line itself ----
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
