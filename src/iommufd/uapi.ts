/**
 * Numbers of the kernel's interface (Linux uapi: linux/iommufd.h, linux/vfio.h), by the kernel's names
 * without their prefix.
 */
export const HwptAllocFlags = {
  NEST_PARENT: 1 << 0,
  DIRTY_TRACKING: 1 << 1,
  FAULT_ID_VALID: 1 << 2,
  PASID: 1 << 3,
} as const;

export const HwptDataType = { NONE: 0, VTD_S1: 1, ARM_SMMUV3: 2 } as const;
export const HwInfoType = { NONE: 0, INTEL_VTD: 1, ARM_SMMUV3: 2, TEGRA241_CMDQV: 3 } as const;
export const HwInfoFlags = { INPUT_TYPE: 1 << 0 } as const;
export const HwCapabilities = {
  DIRTY_TRACKING: 1 << 0,
  PCI_PASID_EXEC: 1 << 1,
  PCI_PASID_PRIV: 1 << 2,
  PCI_ATS_NOT_SUPPORTED: 1 << 3,
} as const;
/** Data types of HWPT_INVALIDATE: the first is for a nested HWPT, the second for a vIOMMU. */
export const InvalidateDataType = { VTD_S1: 0, ARM_SMMUV3: 1 } as const;
export const ViommuType = { DEFAULT: 0, ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;
export const VeventqType = { DEFAULT: 0, ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;
export const VEVENTQ_FLAG_LOST_EVENTS = 1 << 0;
export const DIRTY_BITMAP_NO_CLEAR = 1 << 0;
export const OptionId = { RLIMIT_MODE: 0, HUGE_PAGES: 1 } as const;

/** Bytes of struct iommu_hw_info_arm_smmuv3: flags, reserved, idr[6], iidr, aidr, all u32. */
export const HW_INFO_ARM_SMMUV3_BYTES = 40;
/** Byte offsets in it. */
export const HW_INFO_ARM_SMMUV3 = { FLAGS: 0, IDR: 8, IIDR: 32, AIDR: 36 } as const;
/** enum iommu_hw_info_arm_smmuv3_flags: user space issues TLBI, CFGI and their CMD_SYNC twice. */
export const HwInfoArmSmmuv3Flags = { ERRATA_REPEAT_TLBI_CFGI: 1 << 0 } as const;
/** Bytes of struct iommu_hwpt_arm_smmuv3: ste[2], little-endian u64. */
export const HWPT_ARM_SMMUV3_BYTES = 16;
/** Bytes of struct iommu_viommu_arm_smmuv3_invalidate: cmd[2], little-endian u64. */
export const INVALIDATE_ARM_SMMUV3_BYTES = 16;
/** Bytes of struct iommufd_vevent_header: flags, sequence, u32 each. */
export const VEVENT_HEADER_BYTES = 8;
/** Byte offsets in it. */
export const VEVENT_HEADER = { FLAGS: 0, SEQUENCE: 4 } as const;
/** Bytes of struct iommu_vevent_arm_smmuv3: evt[4], little-endian u64. */
export const VEVENT_ARM_SMMUV3_BYTES = 32;

/** Bytes of struct iommu_hw_info_vtd. */
export const HW_INFO_VTD_BYTES = 24;
/** Byte offsets in it: u32 FLAGS, u64 CAP_REG and ECAP_REG (the registers as VT-d 11.4.2 and 11.4.3 have them). */
export const HW_INFO_VTD = { FLAGS: 0, CAP_REG: 8, ECAP_REG: 16 } as const;
/** enum iommu_hw_info_vtd_flags: no read-only mappings in a nesting parent. */
export const HwInfoVtdFlags = { ERRATA_772415_SPR17: 1 << 0 } as const;
/** Bytes of struct iommu_hwpt_vtd_s1. */
export const HWPT_VTD_S1_BYTES = 24;
/** Byte offsets in it: u64 FLAGS and PGTBL_ADDR, u32 ADDR_WIDTH (bits of input addresses: 48 or 57) and RESERVED. */
export const HWPT_VTD_S1 = { FLAGS: 0, PGTBL_ADDR: 8, ADDR_WIDTH: 16, RESERVED: 20 } as const;
/** enum iommu_hwpt_vtd_s1_flags: supervisor requests, extended access flag, write protect. */
export const HwptVtdS1Flags = { SRE: 1 << 0, EAFE: 1 << 1, WPE: 1 << 2 } as const;
/** Bytes of struct iommu_hwpt_vtd_s1_invalidate. */
export const INVALIDATE_VTD_S1_BYTES = 24;
/** Byte offsets in it: u64 ADDR and NPAGES (of 4 KiB; 2^64 - 1: everything), u32 FLAGS and RESERVED. */
export const INVALIDATE_VTD_S1 = { ADDR: 0, NPAGES: 8, FLAGS: 16, RESERVED: 20 } as const;
/** enum iommu_hwpt_vtd_s1_invalidate_flags: only leaf entries have changed. */
export const InvalidateVtdFlags = { LEAF: 1 << 0 } as const;

/** VFIO PCI region indexes (linux/vfio.h, VFIO_PCI_BAR0_REGION_INDEX and on). */
export const VfioRegion = { BAR0: 0, BAR1: 1, BAR2: 2, BAR3: 3, BAR4: 4, BAR5: 5, ROM: 6, CONFIG: 7 } as const;
/** VFIO PCI interrupt indexes. */
export const VfioIrq = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
/** Features of VFIO_DEVICE_FEATURE. */
export const VfioFeature = {
  PCI_VF_TOKEN: 0,
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  LOW_POWER_ENTRY: 3,
  LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  LOW_POWER_EXIT: 5,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
  MIG_DATA_SIZE: 9,
  BUS_MASTER: 10,
  DMA_BUF: 11,
} as const;
/** What is asked of a feature: its data, to take data, or whether it would. */
export const VfioFeatureFlags = { GET: 1 << 16, SET: 1 << 17, PROBE: 1 << 18 } as const;
/** Bytes of struct iommu_hwpt_pgfault, a page request, and of struct iommu_hwpt_page_response, its answer. */
export const HWPT_PGFAULT_BYTES = 40;
export const HWPT_PAGE_RESPONSE_BYTES = 8;
