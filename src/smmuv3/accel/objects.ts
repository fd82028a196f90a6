/** Host objects of one accelerated SMMU: made in order, freed in the order of their dependence. */
import {
  HWPT_ARM_SMMUV3_BYTES,
  HwptDataType,
  type IommufdDevice,
  type Iommufd,
  ViommuType,
} from "../../iommufd/index.js";
import type { Graveyard } from "../../nesting/index.js";
import { put, STE, STE_CONFIG_ABORT, STE_CONFIG_BYPASS } from "../spec/index.js";

/** struct iommu_hwpt_arm_smmuv3: the first four words of an STE. */
export function nestedData(words: Int32Array): Uint8Array {
  const data = new Uint8Array(HWPT_ARM_SMMUV3_BYTES);
  const view = new DataView(data.buffer);
  for (let i = 0; i < 4; i++) {
    view.setInt32(4 * i, words[i], true);
  }
  return data;
}

function fixedEntry(config: number): Int32Array {
  const words = new Int32Array(4);
  put(words, STE.V, 1);
  put(words, STE.CONFIG, config);
  return words;
}

/** The vIOMMU of an accelerated SMMU and the two tables that every function of it may be put on. */
export class ViommuObjects {
  private constructor(
    readonly iommufd: Iommufd,
    readonly iommufdName: string,
    /** The physical SMMU, by the host's name. */
    readonly hostIommu: string | null,
    readonly parentHwptId: number,
    /** The function that brought it, for messages. */
    readonly firstDevice: string,
    readonly viommuId: number,
    readonly abortHwptId: number,
    readonly bypassHwptId: number,
  ) {}

  /** Throws HostError and leaves nothing behind. */
  static make(device: IommufdDevice, graveyard: Graveyard): ViommuObjects {
    const { iommufd } = device;
    const made: Array<{ id: number; what: string }> = [];
    const nested = (viommuId: number, config: number): number =>
      iommufd.hwptAlloc({
        flags: 0,
        devId: device.devId,
        ptId: viommuId,
        dataType: HwptDataType.ARM_SMMUV3,
        data: nestedData(fixedEntry(config)),
      });
    try {
      const viommuId = iommufd.viommuAlloc({ type: ViommuType.ARM_SMMUV3, devId: device.devId, hwptId: device.parentHwptId });
      made.push({ id: viommuId, what: "vIOMMU" });
      const abort = nested(viommuId, STE_CONFIG_ABORT);
      made.push({ id: abort, what: "abort HWPT" });
      const bypass = nested(viommuId, STE_CONFIG_BYPASS);
      return new ViommuObjects(
        iommufd,
        device.iommufdName,
        device.hostIommu,
        device.parentHwptId,
        device.name,
        viommuId,
        abort,
        bypass,
      );
    } catch (error) {
      for (const object of made.reverse()) {
        graveyard.destroy(iommufd, object.id, object.what);
      }
      throw error;
    }
  }

  free(graveyard: Graveyard): void {
    graveyard.destroy(this.iommufd, this.bypassHwptId, "bypass HWPT");
    graveyard.destroy(this.iommufd, this.abortHwptId, "abort HWPT");
    graveyard.destroy(this.iommufd, this.viommuId, "vIOMMU");
  }
}
