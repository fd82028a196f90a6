import { HostError, VeventqType } from "../../../iommufd/index.js";
import { encodeCommand, OP } from "../../../smmuv3/spec/index.js";
import type { NestedDomain, PagingDomain, Vsmmu } from "./domains.js";
import type { VirtualEventQueue, FaultQueue } from "./event-queue.js";
import type { PhysicalFunction } from "./hardware-port.js";
import { IoPagetable } from "./io-pagetable.js";
import { KernelObject, refusing, type ObjectType, type Refuse } from "./objects.js";
import type { ProcessMemory } from "./process-memory.js";
import type { Master, SmmuDriver } from "./smmu-driver.js";

/** The window of IOVAs for MSIs that the SMMUv3 driver asks for (IOMMU_RESV_SW_MSI). */
export const MSI_WINDOW_START = 0x800_0000;
export const MSI_WINDOW_BYTES = 0x10_0000;

export class IoasObject extends KernelObject {
  readonly type: ObjectType = "ioas";
  readonly pagetable: IoPagetable;
  readonly hwpts: HwptPaging[] = [];

  constructor(memory: ProcessMemory) {
    super();
    this.pagetable = new IoPagetable(memory);
  }

  release(): void {
    this.pagetable.unmapAll(refusing("DESTROY"));
  }
}

/** A table that the kernel keeps in step with an IOAS. */
export class HwptPaging extends KernelObject {
  readonly type: ObjectType = "hwpt-paging";
  fault: FaultQueue | null = null;
  /** Pages of the MSI window that are mapped. */
  private readonly msiPages = new Set<number>();

  /**
   * @param auto made by attaching a function to the IOAS itself: it goes with its last attachment
   * @param forPasids may be attached where PASIDs are used
   */
  constructor(
    readonly ioas: IoasObject,
    readonly domain: PagingDomain,
    readonly auto: boolean,
    readonly forPasids: boolean,
  ) {
    super();
    ioas.users++;
  }

  get nestParent(): boolean {
    return this.domain.nestParent;
  }

  /** Maps a doorbell's page at its place in the MSI window, once. */
  installMsi(page: number, doorbellPage: number, refuse: Refuse): void {
    if (!this.msiPages.has(page)) {
      try {
        this.domain.mapDoorbell(MSI_WINDOW_START + page * 4096, doorbellPage);
      } catch (error) {
        throw error instanceof HostError ? refuse(error.errno, error.message) : error;
      }
      this.msiPages.add(page);
    }
  }

  release(): void {
    const index = this.ioas.hwpts.indexOf(this);
    if (index >= 0) {
      this.ioas.hwpts.splice(index, 1);
      this.ioas.pagetable.removeDomain(this.domain);
    }
    this.domain.release();
    if (this.fault !== null) {
      this.fault.users--;
    }
    this.ioas.users--;
  }
}

/** A guest's stream table entry, on a vIOMMU. */
export class HwptNested extends KernelObject {
  readonly type: ObjectType = "hwpt-nested";
  fault: FaultQueue | null = null;

  constructor(
    readonly viommu: ViommuObject,
    readonly domain: NestedDomain,
  ) {
    super();
    viommu.users++;
  }

  release(): void {
    if (this.fault !== null) {
      this.fault.users--;
    }
    this.viommu.users--;
  }
}

export type Hwpt = HwptPaging | HwptNested;

/** The kernel-managed table under an attachment. */
export function pagingOf(hwpt: Hwpt): HwptPaging {
  return hwpt instanceof HwptPaging ? hwpt : hwpt.viommu.parentHwpt;
}

/** A vIOMMU: the share of one physical SMMU that belongs to one guest. */
export class ViommuObject extends KernelObject implements Vsmmu {
  readonly type: ObjectType = "viommu";
  readonly vmid: number;
  readonly devices = new Map<bigint, Master>();
  readonly queues = new Map<number, VirtualEventQueue>();
  private readonly hwpt: HwptPaging;

  /** Throws HostError where the SMMU has no VMID left. */
  constructor(
    readonly driver: SmmuDriver,
    hwpt: HwptPaging,
  ) {
    super();
    this.hwpt = hwpt;
    // A VMID of its own: two guests' SMMUs on one parent use the same ASIDs for different things.
    this.vmid = driver.vmids.take();
    hwpt.domain.vmids.add(this.vmid);
    hwpt.users++;
  }

  /** The table's object, and the table as the SMMU's driver takes it. */
  get parentHwpt(): HwptPaging {
    return this.hwpt;
  }

  get parent(): PagingDomain {
    return this.hwpt.domain;
  }

  reportEvent(record: Int32Array): boolean {
    const queue = this.queues.get(VeventqType.ARM_SMMUV3);
    if (queue === undefined) {
      return false;
    }
    const data = new Uint8Array(4 * record.length);
    const view = new DataView(data.buffer);
    for (let i = 0; i < record.length; i++) {
      view.setInt32(4 * i, record[i], true);
    }
    queue.report(data);
    return true;
  }

  release(): void {
    this.hwpt.domain.vmids.delete(this.vmid);
    this.driver.run(encodeCommand(OP.TLBI_S12_VMALL, { VMID: this.vmid }));
    this.driver.sync();
    this.driver.vmids.give(this.vmid);
    this.hwpt.users--;
  }
}

/** A function's place on a vIOMMU: its virtual StreamID there. */
export class VdeviceObject extends KernelObject {
  readonly type: ObjectType = "vdevice";

  constructor(
    readonly viommu: ViommuObject,
    readonly device: DeviceObject,
    readonly virtId: bigint,
  ) {
    super();
    viommu.users++;
    viommu.devices.set(virtId, device.master);
    device.vdevice = this;
  }

  release(): void {
    this.viommu.devices.delete(this.virtId);
    this.viommu.users--;
    this.device.vdevice = null;
  }
}

/** A function that a process has bound to its iommufd. */
export class DeviceObject extends KernelObject {
  readonly type: ObjectType = "device";
  hwpt: Hwpt | null = null;
  readonly pasids = new Map<number, Hwpt>();
  vdevice: VdeviceObject | null = null;
  /** Pages of the MSI window that the function's vectors write to. */
  readonly msiPages = new Set<number>();

  constructor(
    readonly device: PhysicalFunction,
    readonly master: Master,
    private readonly onRelease: () => void,
  ) {
    super();
  }

  release(): void {
    this.onRelease();
  }
}
