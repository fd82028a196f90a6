/**
 * All that is read of a Linux host, and so all that a capture of it holds. There are no serial numbers, no addresses of
 * networks, no names of hosts or users, no logs, and of the firmware's tables the IORT alone; of files that have such beside what is wanted the
 * wanted lines alone.
 */

/** In the folder of each PCI function (Documentation/ABI/testing/sysfs-bus-pci). `config` is blanked (config-space.ts). */
export const FUNCTION_FILES = ["vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device", "numa_node", "resource", "reset_method", "driver_override", "sriov_totalvfs", "sriov_numvfs"] as const;
export const FUNCTION_LINKS = ["driver", "iommu", "iommu_group", "physfn"] as const;

/** In the folder of each of /sys/class/iommu. */
export const IOMMU_FILES = ["intel-iommu/version", "intel-iommu/address", "intel-iommu/cap", "intel-iommu/ecap", "amd-iommu/cap", "amd-iommu/features"] as const;

/** In the folder of each of /sys/kernel/iommu_groups. */
export const GROUP_FILES = ["type", "reserved_regions"] as const;

/** In the folder of each NUMA node. */
export const NODE_FILES = ["cpulist", "distance", "meminfo"] as const;
export const HUGEPAGE_FILES = ["nr_hugepages", "free_hugepages"] as const;

/** The firmware's table of SMMUs and of what is behind them (Arm DEN 0049), which root may read. */
export const IORT_FILE = "sys/firmware/acpi/tables/IORT";

/** Files of /proc, with the lines, or of the command line the words, that are taken of them; null: all of it. */
export const PROC_FILES: ReadonlyArray<readonly [name: string, wanted: RegExp | null, separator: string]> = [
  ["sys/kernel/osrelease", null, "\n"],
  ["sys/kernel/arch", null, "\n"],
  ["cmdline", /^(?:intel_iommu|amd_iommu|iommu|iommu\.\w+|iommufd\.\w+|arm-smmu-v3\.\w+|vfio[\w.-]*|kvm[\w.-]*|intremap|pcie_acs_override|hugepages|hugepagesz|default_hugepagesz)(?:=[\w.,:@-]*)?$/, " "],
  ["cpuinfo", /^(?:address sizes|vendor_id|CPU implementer|CPU part)\s*:/, "\n"],
  ["meminfo", /^(?:MemTotal|HugePages_Total|HugePages_Free|Hugepagesize):/, "\n"],
  ["self/limits", /^Max locked memory /, "\n"],
  ["self/status", /^CapEff:/, "\n"],
];

/** Options of the kernel's configuration that matter to who passes functions through. */
export const KERNEL_OPTIONS = [
  "CONFIG_IOMMU_SUPPORT",
  "CONFIG_IOMMUFD",
  "CONFIG_IOMMUFD_DRIVER",
  "CONFIG_VFIO",
  "CONFIG_VFIO_PCI",
  "CONFIG_VFIO_DEVICE_CDEV",
  "CONFIG_VFIO_GROUP",
  "CONFIG_VFIO_NOIOMMU",
  "CONFIG_VFIO_PCI_DMABUF",
  "CONFIG_NVGRACE_GPU_VFIO_PCI",
  "CONFIG_ARM_SMMU_V3",
  "CONFIG_ARM_SMMU_V3_SVA",
  "CONFIG_ARM_SMMU_V3_IOMMUFD",
  "CONFIG_TEGRA241_CMDQV",
  "CONFIG_INTEL_IOMMU",
  "CONFIG_INTEL_IOMMU_SVM",
  "CONFIG_INTEL_IOMMU_DEFAULT_ON",
  "CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON",
  "CONFIG_AMD_IOMMU",
  "CONFIG_IRQ_REMAP",
  "CONFIG_IOMMU_DEFAULT_DMA_STRICT",
  "CONFIG_IOMMU_DEFAULT_DMA_LAZY",
  "CONFIG_IOMMU_DEFAULT_PASSTHROUGH",
  "CONFIG_PCI_PASID",
  "CONFIG_PCI_ATS",
  "CONFIG_PCI_PRI",
  "CONFIG_KVM",
  "CONFIG_KVM_INTEL",
  "CONFIG_KVM_AMD",
  "CONFIG_ARM64_64K_PAGES",
  "CONFIG_ARM64_4K_PAGES",
  "CONFIG_HUGETLBFS",
  "CONFIG_DMABUF_MOVE_NOTIFY",
  "CONFIG_PCI_P2PDMA",
] as const;

/** The lines of a text, or its words, that are wanted; of /proc/cpuinfo those of the first processor. */
export function wantedOf(text: string, wanted: RegExp | null, separator: string): string {
  if (wanted === null) {
    return text;
  }
  const seen = new Set<string>();
  const parts = text.trim().split(separator === " " ? /\s+/ : separator);
  return `${parts.filter((part) => wanted.test(part) && !seen.has(part) && seen.add(part)).join(separator)}\n`;
}

/** Lines of a kernel's configuration for the options above; what is not set at all is "not set". */
export function wantedOptions(config: string): string {
  const values = new Map([...config.matchAll(/^(?:# )?(CONFIG_[A-Z0-9_]+)(?:=(\S+)| is not set)$/gm)].map(([, name, value]) => [name, value as string | undefined]));
  return KERNEL_OPTIONS.map((name) => {
    const value = values.get(name);
    return `${value === undefined ? `# ${name} is not set` : `${name}=${value}`}\n`;
  }).join("");
}
