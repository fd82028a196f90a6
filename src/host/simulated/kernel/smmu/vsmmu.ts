import { type HwptAllocRequest, HWPT_ARM_SMMUV3_BYTES, HwptAllocFlags, HwptDataType, type InvalidateRequest, type InvalidateResult, VeventqType } from "../../../../iommufd/index.js";
import { encodeCommand, OP } from "../../../../smmuv3/spec/index.js";
import type { ViommuPort, ViommuShare } from "../iommu-driver.js";
import type { Refuse } from "../objects.js";
import { SmmuNestedDomain, type SmmuPagingDomain } from "./domains.js";
import type { SmmuDriver, SmmuMaster } from "./driver.js";
import { invalidateVsmmu } from "./invalidation.js";
import { readGuestEntry } from "./stream-entries.js";

/** A vSMMU's share of a physical SMMU: its VMID on a nesting parent. */
export class Vsmmu implements ViommuShare {
  readonly vmid: number;

  /** Throws HostError where the SMMU has no VMID left. */
  constructor(
    readonly driver: SmmuDriver,
    readonly parent: SmmuPagingDomain,
    private readonly port: ViommuPort,
  ) {
    // A VMID of its own: two guests' SMMUs on one parent use the same ASIDs for different things.
    this.vmid = driver.vmids.take();
    parent.vmids.add(this.vmid);
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
    if (request.dataType !== HwptDataType.ARM_SMMUV3 || request.data.length < HWPT_ARM_SMMUV3_BYTES) {
      throw refuse("EINVAL", `data type ${request.dataType}, ${request.data.length} bytes`);
    }
    if (request.data.subarray(HWPT_ARM_SMMUV3_BYTES).some((byte) => byte !== 0)) {
      throw refuse("E2BIG", "data beyond what is known");
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

  release(): void {
    const { driver, vmid } = this;
    this.parent.vmids.delete(vmid);
    driver.run(encodeCommand(OP.TLBI_S12_VMALL, { VMID: vmid }));
    driver.sync();
    driver.vmids.give(vmid);
  }
}
