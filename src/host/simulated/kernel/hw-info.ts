import { HW_INFO_ARM_SMMUV3, HW_INFO_ARM_SMMUV3_BYTES, HwCapabilities, HwInfoFlags, HwInfoType, type HwInfo } from "../../../iommufd/index.js";
import type { Refuse } from "./objects.js";
import type { Master } from "./smmu-driver.js";

/** PASID capability register: Execute and Privileged supported (PCIe 7.8.9.2). */
const PCI_EXT_CAP_PASID = 0x1b;
const PASID_EXECUTE = 1 << 1;
const PASID_PRIVILEGED = 1 << 2;

/** GET_HW_INFO of a function behind an SMMUv3. */
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
  if (wanted !== HwInfoType.NONE && wanted !== HwInfoType.ARM_SMMUV3) {
    throw refuse("EOPNOTSUPP", `no information of type ${wanted}`);
  }
  const { smmu, features } = master.driver;
  const info = new DataView(new ArrayBuffer(HW_INFO_ARM_SMMUV3_BYTES));
  for (let i = 0; i < 6; i++) {
    info.setInt32(HW_INFO_ARM_SMMUV3.IDR + 4 * i, smmu.idr[i], true);
  }
  info.setInt32(HW_INFO_ARM_SMMUV3.IIDR, smmu.iidr, true);
  info.setInt32(HW_INFO_ARM_SMMUV3.AIDR, smmu.aidr, true);
  const data = new Uint8Array(request.dataLength ?? HW_INFO_ARM_SMMUV3_BYTES);
  data.set(new Uint8Array(info.buffer).subarray(0, data.length));
  return {
    type: HwInfoType.ARM_SMMUV3,
    data,
    dataLength: HW_INFO_ARM_SMMUV3_BYTES,
    maxPasidLog2: master.substreamBits,
    capabilities:
      (features.dirty ? HwCapabilities.DIRTY_TRACKING : 0) |
      (master.substreamBits > 0 ? pasidCapabilities(master) : 0) |
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
