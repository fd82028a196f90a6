import { type HwptAllocRequest, HWPT_ARM_SMMUV3_BYTES, HwptAllocFlags, HwptDataType, type InvalidateRequest, type InvalidateResult, VeventqType } from "../../../../iommufd/index.js";
import type { ViommuPort, ViommuShare } from "../iommu-driver.js";
import type { Refuse } from "../objects.js";
import { SmmuNestedDomain, type SmmuPagingDomain } from "./domains.js";
import type { SmmuDriver } from "./driver.js";
import type { SmmuMaster } from "./master.js";
import { invalidateVsmmu } from "./invalidation.js";
import { readGuestEntry } from "./stream-entries.js";

/**
 * A vSMMU's share of a physical SMMU. Its VMID is its nesting parent's (Linux arm_vsmmu_init): vSMMUs on one parent
 * share their guests' ASIDs, and what is cached under it stays until the parent goes.
 */
export class Vsmmu implements ViommuShare {
  constructor(
    readonly driver: SmmuDriver,
    readonly parent: SmmuPagingDomain,
    private readonly port: ViommuPort,
  ) {}

  get vmid(): number {
    return this.parent.tag;
  }

  /** Functions by vSID: iommufd has seen to it that they are this driver's. */
  get devices(): ReadonlyMap<bigint, SmmuMaster> {
    return this.port.devices as ReadonlyMap<bigint, SmmuMaster>;
  }

  /** Takes an event record (8 words) whose StreamID is replaced already. */
  reportEvent(record: Int32Array): boolean {
    const data = new Uint8Array(4 * record.length);
    const view = new DataView(data.buffer);
    for (let i = 0; i < record.length; i++) {
      view.setInt32(4 * i, record[i], true);
    }
    return this.port.reportEvent(VeventqType.ARM_SMMUV3, data);
  }

  /** A nested domain of a guest's stream table entry (struct iommu_hwpt_arm_smmuv3). */
  allocateNested(request: HwptAllocRequest, refuse: Refuse): SmmuNestedDomain {
    if ((request.flags & ~HwptAllocFlags.FAULT_ID_VALID) !== 0 || request.data.length === 0) {
      throw refuse("EOPNOTSUPP", `flags 0x${(request.flags >>> 0).toString(16)}, ${request.data.length} bytes of data`);
    }
    // iommu_copy_struct_from_user: neither shorter nor longer, whatever the rest holds.
    if (request.dataType !== HwptDataType.ARM_SMMUV3 || request.data.length !== HWPT_ARM_SMMUV3_BYTES) {
      throw refuse("EINVAL", `data type ${request.dataType}, ${request.data.length} bytes`);
    }
    const view = new DataView(request.data.buffer, request.data.byteOffset);
    const words = Int32Array.from({ length: 4 }, (_unused, i) => view.getInt32(4 * i, true));
    const guest = readGuestEntry(words);
    if (guest === null) {
      throw refuse("EIO", `stream table entry ${Array.from(words, (word) => (word >>> 0).toString(16).padStart(8, "0")).join(" ")}`);
    }
    return new SmmuNestedDomain(this, guest);
  }

  invalidate(request: InvalidateRequest): InvalidateResult {
    return invalidateVsmmu(this, request);
  }

  /** Linux's arm_vsmmu_ops has nothing to undo. */
  release(): void {}
}
