import { HwCapabilities, HwInfoFlags, HwInfoType, type HwInfo } from "../../../iommufd/index.js";
import type { Master } from "./iommu-driver.js";
import type { Refuse } from "./objects.js";

/** PASID capability register: Execute and Privileged supported (PCIe 7.8.9.2). */
const PCI_EXT_CAP_PASID = 0x1b;
const PASID_EXECUTE = 1 << 1;
const PASID_PRIVILEGED = 1 << 2;

/** GET_HW_INFO of a function: its IOMMU's structure, and what it can do itself. */
export function hwInfoOf(
  master: Master,
  request: { dataLength?: number; flags?: number; inputType?: number },
  refuse: Refuse,
): HwInfo {
  const flags = request.flags ?? 0;
  if ((flags & ~HwInfoFlags.INPUT_TYPE) !== 0) {
    throw refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)}`);
  }
  const wanted = (flags & HwInfoFlags.INPUT_TYPE) !== 0 ? (request.inputType ?? HwInfoType.NONE) : HwInfoType.NONE;
  const { driver } = master;
  if (wanted !== HwInfoType.NONE && wanted !== driver.hwInfoType) {
    throw refuse("EOPNOTSUPP", `no information of type ${wanted}`);
  }
  const info = driver.hwInfo();
  const data = new Uint8Array(request.dataLength ?? info.length);
  data.set(info.subarray(0, data.length));
  return {
    type: driver.hwInfoType,
    data,
    dataLength: info.length,
    maxPasidLog2: master.pasidBits,
    capabilities:
      (driver.tracksDirty ? HwCapabilities.DIRTY_TRACKING : 0) |
      (master.pasidBits > 0 ? pasidCapabilities(master) : 0) |
      (master.atsPossible ? 0 : HwCapabilities.PCI_ATS_NOT_SUPPORTED),
  };
}

function pasidCapabilities(master: Master): number {
  const { device } = master;
  let offset = 0x100;
  for (let hops = 0; offset >= 0x100 && hops < 960; hops++) {
    const header = device.configRead(offset, 4);
    if ((header & 0xffff) === PCI_EXT_CAP_PASID) {
      const capability = device.configRead(offset + 4, 2);
      return (
        ((capability & PASID_EXECUTE) !== 0 ? HwCapabilities.PCI_PASID_EXEC : 0) |
        ((capability & PASID_PRIVILEGED) !== 0 ? HwCapabilities.PCI_PASID_PRIV : 0)
      );
    }
    offset = (header >>> 20) & ~3;
  }
  return 0;
}
