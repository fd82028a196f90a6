/** Groups of functions that reach memory by one another: one process has all of one, or nobody has (Linux iommu_device_claim_dma_owner). */
import { FIRMWARE_WANTS_DIRECT, leavesDmaToVfio, notViable, VIABLE_GROUP } from "../../../iommufd/index.js";
import type { PhysicalFunction } from "./hardware-port.js";
import type { Refuse } from "./objects.js";

/** The functions of a function's group, itself among them. */
export function groupOf(device: PhysicalFunction, all: Iterable<PhysicalFunction>): PhysicalFunction[] {
  const { group } = device.description;
  return group === null ? [device] : [...all].filter((one) => one.description.group === group);
}

/**
 * Refuses an iommufd the DMA of a function: EPERM where a driver of the kernel's or another iommufd has a function of
 * its group, EINVAL where the firmware wants one of them mapped one to one.
 *
 * @param owner the iommufd
 * @param ownerOf who has a function; null: nobody
 */
export function checkOwner(group: readonly PhysicalFunction[], owner: object, ownerOf: (device: PhysicalFunction) => object | null, refuse: Refuse): void {
  const words = notViable(group[0].description.group ?? group[0].description.address);
  const foreign = group.filter(({ description }) => !leavesDmaToVfio(description.driver));
  if (foreign.length > 0) {
    throw refuse("EPERM", `${words}: ${foreign.map(({ description }) => `${description.address} (${description.driver})`).join(", ")} in it, and only ${VIABLE_GROUP} go to a process`);
  }
  const other = group.find((device) => (ownerOf(device) ?? owner) !== owner);
  if (other !== undefined) {
    throw refuse("EPERM", `${words}: ${other.description.address} in it is another iommufd's`);
  }
  const direct = group.find(({ description }) => description.reserved?.some(({ type }) => type === "direct") ?? false);
  if (direct !== undefined) {
    throw refuse("EINVAL", `${direct.description.address}: ${FIRMWARE_WANTS_DIRECT}`);
  }
}
