/** VFIO_DEVICE_FEATURE: what the functions have of it, and how requests are judged (Linux vfio_ioctl_device_feature, vfio_check_feature). */
import { VfioFeature, VfioFeatureFlags } from "../../../iommufd/index.js";
import type { Refuse } from "./objects.js";

const { GET, SET, PROBE } = VfioFeatureFlags;

/** The kernel's MIG_PRECOPY_INFOv2: without migration it is EINVAL, where the other ones of migration are ENOTTY. */
const MIG_PRECOPY_INFO_V2 = 12;

/** What can be done by a feature that vfio-pci has for every function: GET or SET. Dma-bufs are made by `regionFile`. */
const HAS = new Map<number, number>([
  [VfioFeature.LOW_POWER_ENTRY, SET],
  [VfioFeature.LOW_POWER_ENTRY_WITH_WAKEUP, SET],
  [VfioFeature.LOW_POWER_EXIT, SET],
  [VfioFeature.DMA_BUF, GET],
]);

/** Lets pass what can be asked for, which does nothing here: power management has no power to save. @throws HostError */
export function checkFeature(feature: number, flags: number, address: string, refuse: Refuse): void {
  const asked = flags & (GET | SET);
  if ((flags & ~(GET | SET | PROBE)) !== 0 || ((flags & PROBE) === 0 && asked === (GET | SET))) {
    throw refuse("EINVAL", `flags 0x${(flags >>> 0).toString(16)}`);
  }
  if (feature === MIG_PRECOPY_INFO_V2) {
    throw refuse("EINVAL", `${address} does not migrate`);
  }
  const has = HAS.get(feature);
  if (has === undefined) {
    throw refuse("ENOTTY", `${address} has no feature ${feature}`);
  }
  if ((asked & ~has) !== 0 || ((flags & PROBE) === 0 && asked === 0)) {
    throw refuse("EINVAL", `feature ${feature} with flags 0x${(flags >>> 0).toString(16)}`);
  }
  if ((flags & PROBE) === 0 && feature === VfioFeature.DMA_BUF) {
    throw refuse("EINVAL", "no range of a BAR");
  }
}
