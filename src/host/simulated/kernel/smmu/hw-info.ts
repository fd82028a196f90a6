import { HW_INFO_ARM_SMMUV3, HW_INFO_ARM_SMMUV3_BYTES, HwInfoArmSmmuv3Flags } from "../../../../iommufd/index.js";
import type { PhysicalSmmu } from "../hardware-port.js";

/** struct iommu_hw_info_arm_smmuv3 of an SMMU. */
export function hwInfoOf(smmu: PhysicalSmmu): Uint8Array {
  const info = new DataView(new ArrayBuffer(HW_INFO_ARM_SMMUV3_BYTES));
  if (smmu.hasErratum("nvidia-t264-smmu-3")) {
    info.setUint32(HW_INFO_ARM_SMMUV3.FLAGS, HwInfoArmSmmuv3Flags.ERRATA_REPEAT_TLBI_CFGI, true);
  }
  for (let i = 0; i < 6; i++) {
    info.setInt32(HW_INFO_ARM_SMMUV3.IDR + 4 * i, smmu.idr[i], true);
  }
  info.setInt32(HW_INFO_ARM_SMMUV3.IIDR, smmu.iidr, true);
  info.setInt32(HW_INFO_ARM_SMMUV3.AIDR, smmu.aidr, true);
  return new Uint8Array(info.buffer);
}
