/** What the IOMMU in front of a function says of itself, for who only wants to know. */
import type { ReadHwInfo } from "../sysfs/index.js";
import { LinuxHost } from "./host.js";

/**
 * Binds a function that VFIO has to an iommufd for as long as it takes to ask (IOMMU_GET_HW_INFO).
 * @returns null where this user may not, where somebody uses the function, or where the kernel does not tell
 */
export function readHwInfo(address: string): ReadHwInfo | null {
  let host: LinuxHost | null = null;
  try {
    host = new LinuxHost();
    const iommufd = host.openIommufd();
    try {
      const device = host.openDevice(address);
      try {
        const info = iommufd.getHwInfo(device.bind(iommufd.fd));
        return { type: info.type, data: Buffer.from(info.data.subarray(0, info.dataLength)).toString("hex"), maxPasidLog2: info.maxPasidLog2, capabilities: info.capabilities };
      } finally {
        device.close();
      }
    } finally {
      iommufd.close();
    }
  } catch {
    // Of no use here: what cannot be asked is not known.
    return null;
  } finally {
    host?.close();
  }
}
