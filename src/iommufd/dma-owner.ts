/** Who may own the DMA of an IOMMU group, in Linux's rules (drivers/iommu/iommu.c, iommu_device_claim_dma_owner). */

/** Drivers beside VFIO's that a group's functions may have: they leave DMA alone (driver_managed_dma). */
const HARMLESS = new Set(["pcieport", "pci-stub", "pci-pf-stub", "shpchp"]);

/** Whether a function with that driver leaves its group to VFIO; empty or null: it has none. */
export function leavesDmaToVfio(driver: string | null): boolean {
  return driver === null || driver === "" || HARMLESS.has(driver) || driver.includes("vfio");
}

/** What QEMU says of a group that somebody else's driver has a part of (hw/vfio/container-legacy.c, vfio_group_get). */
export function notViable(group: number | string): string {
  return `group ${group} is not viable`;
}

/** Its hint. */
export const VIABLE_GROUP = "all devices within the iommu_group bound to their vfio bus driver";

/** What Linux logs where a function with a reserved range of type "direct" is to be given away (__iommu_device_set_domain). */
export const FIRMWARE_WANTS_DIRECT =
  "Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.";

/** Why a function behind an IOMMU without IOMMU_CAP_CACHE_COHERENCY is bound to no iommufd (VFIO answers EINVAL). */
export const WALKS_INCOHERENTLY = "no IOMMU with coherent table walks";
