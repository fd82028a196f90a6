/*
 * Prints the numbers of Linux's user-space interface that src/iommufd/uapi.ts states, one "name value" a
 * line: uapi-layout.txt is its output for Linux 7.2. Build with -I to a folder that has linux/iommufd.h
 * and linux/vfio.h of that version.
 */
#include <stddef.h>
#include <stdio.h>
#include <linux/stddef.h>
#ifndef __counted_by
#define __counted_by(member) /* older systems' linux/stddef.h lacks it */
#endif
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define VALUE(name, value) printf("%s %llu\n", name, (unsigned long long)(value))

int main(void)
{
	VALUE("HwptAllocFlags.NEST_PARENT", IOMMU_HWPT_ALLOC_NEST_PARENT);
	VALUE("HwptAllocFlags.DIRTY_TRACKING", IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
	VALUE("HwptAllocFlags.FAULT_ID_VALID", IOMMU_HWPT_FAULT_ID_VALID);
	VALUE("HwptAllocFlags.PASID", IOMMU_HWPT_ALLOC_PASID);
	VALUE("HwptDataType.NONE", IOMMU_HWPT_DATA_NONE);
	VALUE("HwptDataType.VTD_S1", IOMMU_HWPT_DATA_VTD_S1);
	VALUE("HwptDataType.ARM_SMMUV3", IOMMU_HWPT_DATA_ARM_SMMUV3);
	VALUE("HwInfoType.NONE", IOMMU_HW_INFO_TYPE_NONE);
	VALUE("HwInfoType.INTEL_VTD", IOMMU_HW_INFO_TYPE_INTEL_VTD);
	VALUE("HwInfoType.ARM_SMMUV3", IOMMU_HW_INFO_TYPE_ARM_SMMUV3);
	VALUE("HwInfoType.TEGRA241_CMDQV", IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV);
	VALUE("HwInfoFlags.INPUT_TYPE", IOMMU_HW_INFO_FLAG_INPUT_TYPE);
	VALUE("HwCapabilities.DIRTY_TRACKING", IOMMU_HW_CAP_DIRTY_TRACKING);
	VALUE("HwCapabilities.PCI_PASID_EXEC", IOMMU_HW_CAP_PCI_PASID_EXEC);
	VALUE("HwCapabilities.PCI_PASID_PRIV", IOMMU_HW_CAP_PCI_PASID_PRIV);
	VALUE("HwCapabilities.PCI_ATS_NOT_SUPPORTED", IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);
	VALUE("InvalidateDataType.VTD_S1", IOMMU_HWPT_INVALIDATE_DATA_VTD_S1);
	VALUE("InvalidateDataType.ARM_SMMUV3", IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3);
	VALUE("ViommuType.DEFAULT", IOMMU_VIOMMU_TYPE_DEFAULT);
	VALUE("ViommuType.ARM_SMMUV3", IOMMU_VIOMMU_TYPE_ARM_SMMUV3);
	VALUE("ViommuType.TEGRA241_CMDQV", IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV);
	VALUE("VeventqType.DEFAULT", IOMMU_VEVENTQ_TYPE_DEFAULT);
	VALUE("VeventqType.ARM_SMMUV3", IOMMU_VEVENTQ_TYPE_ARM_SMMUV3);
	VALUE("VeventqType.TEGRA241_CMDQV", IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV);
	VALUE("VEVENTQ_FLAG_LOST_EVENTS", IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
	VALUE("DIRTY_BITMAP_NO_CLEAR", IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR);
	VALUE("OptionId.RLIMIT_MODE", IOMMU_OPTION_RLIMIT_MODE);
	VALUE("OptionId.HUGE_PAGES", IOMMU_OPTION_HUGE_PAGES);

	VALUE("HW_INFO_ARM_SMMUV3_BYTES", sizeof(struct iommu_hw_info_arm_smmuv3));
	VALUE("HW_INFO_ARM_SMMUV3.FLAGS", offsetof(struct iommu_hw_info_arm_smmuv3, flags));
	VALUE("HW_INFO_ARM_SMMUV3.IDR", offsetof(struct iommu_hw_info_arm_smmuv3, idr));
	VALUE("HW_INFO_ARM_SMMUV3.IIDR", offsetof(struct iommu_hw_info_arm_smmuv3, iidr));
	VALUE("HW_INFO_ARM_SMMUV3.AIDR", offsetof(struct iommu_hw_info_arm_smmuv3, aidr));
	VALUE("HwInfoArmSmmuv3Flags.ERRATA_REPEAT_TLBI_CFGI", IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI);
	VALUE("HWPT_ARM_SMMUV3_BYTES", sizeof(struct iommu_hwpt_arm_smmuv3));
	VALUE("INVALIDATE_ARM_SMMUV3_BYTES", sizeof(struct iommu_viommu_arm_smmuv3_invalidate));
	VALUE("VEVENT_HEADER_BYTES", sizeof(struct iommufd_vevent_header));
	VALUE("VEVENT_HEADER.FLAGS", offsetof(struct iommufd_vevent_header, flags));
	VALUE("VEVENT_HEADER.SEQUENCE", offsetof(struct iommufd_vevent_header, sequence));
	VALUE("VEVENT_ARM_SMMUV3_BYTES", sizeof(struct iommu_vevent_arm_smmuv3));
	VALUE("HW_INFO_VTD_BYTES", sizeof(struct iommu_hw_info_vtd));
	VALUE("HW_INFO_VTD.FLAGS", offsetof(struct iommu_hw_info_vtd, flags));
	VALUE("HW_INFO_VTD.CAP_REG", offsetof(struct iommu_hw_info_vtd, cap_reg));
	VALUE("HW_INFO_VTD.ECAP_REG", offsetof(struct iommu_hw_info_vtd, ecap_reg));
	VALUE("HwInfoVtdFlags.ERRATA_772415_SPR17", IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17);
	VALUE("HWPT_VTD_S1_BYTES", sizeof(struct iommu_hwpt_vtd_s1));
	VALUE("HWPT_VTD_S1.FLAGS", offsetof(struct iommu_hwpt_vtd_s1, flags));
	VALUE("HWPT_VTD_S1.PGTBL_ADDR", offsetof(struct iommu_hwpt_vtd_s1, pgtbl_addr));
	VALUE("HWPT_VTD_S1.ADDR_WIDTH", offsetof(struct iommu_hwpt_vtd_s1, addr_width));
	VALUE("HWPT_VTD_S1.RESERVED", offsetof(struct iommu_hwpt_vtd_s1, __reserved));
	VALUE("HwptVtdS1Flags.SRE", IOMMU_VTD_S1_SRE);
	VALUE("HwptVtdS1Flags.EAFE", IOMMU_VTD_S1_EAFE);
	VALUE("HwptVtdS1Flags.WPE", IOMMU_VTD_S1_WPE);
	VALUE("INVALIDATE_VTD_S1_BYTES", sizeof(struct iommu_hwpt_vtd_s1_invalidate));
	VALUE("INVALIDATE_VTD_S1.ADDR", offsetof(struct iommu_hwpt_vtd_s1_invalidate, addr));
	VALUE("INVALIDATE_VTD_S1.NPAGES", offsetof(struct iommu_hwpt_vtd_s1_invalidate, npages));
	VALUE("INVALIDATE_VTD_S1.FLAGS", offsetof(struct iommu_hwpt_vtd_s1_invalidate, flags));
	VALUE("INVALIDATE_VTD_S1.RESERVED", offsetof(struct iommu_hwpt_vtd_s1_invalidate, __reserved));
	VALUE("InvalidateVtdFlags.LEAF", IOMMU_VTD_INV_FLAGS_LEAF);

	VALUE("VfioRegion.BAR0", VFIO_PCI_BAR0_REGION_INDEX);
	VALUE("VfioRegion.BAR1", VFIO_PCI_BAR1_REGION_INDEX);
	VALUE("VfioRegion.BAR2", VFIO_PCI_BAR2_REGION_INDEX);
	VALUE("VfioRegion.BAR3", VFIO_PCI_BAR3_REGION_INDEX);
	VALUE("VfioRegion.BAR4", VFIO_PCI_BAR4_REGION_INDEX);
	VALUE("VfioRegion.BAR5", VFIO_PCI_BAR5_REGION_INDEX);
	VALUE("VfioRegion.ROM", VFIO_PCI_ROM_REGION_INDEX);
	VALUE("VfioRegion.CONFIG", VFIO_PCI_CONFIG_REGION_INDEX);
	VALUE("VfioIrq.INTX", VFIO_PCI_INTX_IRQ_INDEX);
	VALUE("VfioIrq.MSI", VFIO_PCI_MSI_IRQ_INDEX);
	VALUE("VfioIrq.MSIX", VFIO_PCI_MSIX_IRQ_INDEX);
	VALUE("VfioIrq.ERR", VFIO_PCI_ERR_IRQ_INDEX);
	VALUE("VfioIrq.REQ", VFIO_PCI_REQ_IRQ_INDEX);
	VALUE("VfioFeature.PCI_VF_TOKEN", VFIO_DEVICE_FEATURE_PCI_VF_TOKEN);
	VALUE("VfioFeature.MIGRATION", VFIO_DEVICE_FEATURE_MIGRATION);
	VALUE("VfioFeature.MIG_DEVICE_STATE", VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE);
	VALUE("VfioFeature.LOW_POWER_ENTRY", VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
	VALUE("VfioFeature.LOW_POWER_ENTRY_WITH_WAKEUP", VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP);
	VALUE("VfioFeature.LOW_POWER_EXIT", VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
	VALUE("VfioFeature.DMA_LOGGING_START", VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
	VALUE("VfioFeature.DMA_LOGGING_STOP", VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP);
	VALUE("VfioFeature.DMA_LOGGING_REPORT", VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT);
	VALUE("VfioFeature.MIG_DATA_SIZE", VFIO_DEVICE_FEATURE_MIG_DATA_SIZE);
	VALUE("VfioFeature.BUS_MASTER", VFIO_DEVICE_FEATURE_BUS_MASTER);
	VALUE("VfioFeature.DMA_BUF", VFIO_DEVICE_FEATURE_DMA_BUF);
	VALUE("VfioFeatureFlags.GET", VFIO_DEVICE_FEATURE_GET);
	VALUE("VfioFeatureFlags.SET", VFIO_DEVICE_FEATURE_SET);
	VALUE("VfioFeatureFlags.PROBE", VFIO_DEVICE_FEATURE_PROBE);
	VALUE("HWPT_PGFAULT_BYTES", sizeof(struct iommu_hwpt_pgfault));
	VALUE("HWPT_PAGE_RESPONSE_BYTES", sizeof(struct iommu_hwpt_page_response));
	return 0;
}
