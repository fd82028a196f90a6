import type { FaultQueue, QueueStream, VirtualEventQueue } from "./event-queue.js";
import type { PhysicalFunction } from "./hardware-port.js";
import { IoPagetable } from "./io-pagetable.js";
import type { IommuDriver, Master, NestedDomain, PagingDomain, ViommuPort, ViommuShare } from "./iommu-driver.js";
import { guarded, KernelObject, refusing, type ObjectType, type Refuse } from "./objects.js";
import type { ProcessMemory } from "./process-memory.js";

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
   * @param driver of the function that it was made for
   * @param auto made by attaching a function to the IOAS itself: it goes with its last attachment
   * @param forPasids may be attached where PASIDs are used
   */
  constructor(
    readonly ioas: IoasObject,
    readonly driver: IommuDriver,
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
      guarded(() => this.domain.mapDoorbell(Number(this.driver.reserved.start) + page * 4096, doorbellPage), refuse);
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

/** What a guest says of a function: on a vIOMMU, or straight on a parent. */
export class HwptNested extends KernelObject {
  readonly type: ObjectType = "hwpt-nested";
  fault: FaultQueue | null = null;

  /** @param forPasids may be attached where PASIDs are used */
  constructor(
    readonly base: ViommuObject | HwptPaging,
    readonly domain: NestedDomain,
    readonly forPasids: boolean,
  ) {
    super();
    base.users++;
  }

  release(): void {
    this.domain.release();
    if (this.fault !== null) {
      this.fault.users--;
    }
    this.base.users--;
  }
}

export type Hwpt = HwptPaging | HwptNested;

/** The kernel-managed table under an attachment. */
export function pagingOf(hwpt: Hwpt): HwptPaging {
  if (hwpt instanceof HwptPaging) {
    return hwpt;
  }
  return hwpt.base instanceof HwptPaging ? hwpt.base : hwpt.base.parentHwpt;
}

/** A vIOMMU: the share of one physical IOMMU that belongs to one guest. */
export class ViommuObject extends KernelObject implements ViommuPort {
  readonly type: ObjectType = "viommu";
  readonly devices = new Map<bigint, Master>();
  readonly queues = new Map<number, VirtualEventQueue>();
  readonly share: ViommuShare;

  constructor(
    readonly driver: IommuDriver,
    readonly parentHwpt: HwptPaging,
    refuse: Refuse,
  ) {
    super();
    this.share = driver.allocateViommu(this, refuse);
    parentHwpt.users++;
  }

  get parent(): PagingDomain {
    return this.parentHwpt.domain;
  }

  reportEvent(type: number, data: Uint8Array): boolean {
    const queue = this.queues.get(type);
    queue?.report(data);
    return queue !== undefined;
  }

  release(): void {
    this.share.release();
    this.parentHwpt.users--;
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
  /** `hwpt` was attached by PASID 0. */
  attachedAsPasid = false;
  readonly pasids = new Map<number, Hwpt>();
  vdevice: VdeviceObject | null = null;
  /** The stream of its guest's faults, while it is open. */
  faults: QueueStream | null = null;
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

/** A vIOMMU is of one physical IOMMU, and serves functions behind it alone. @throws HostError EINVAL */
export function checkSameIommu(viommu: ViommuObject, device: DeviceObject, refuse: Refuse): void {
  const { driver } = device.master;
  if (viommu.driver !== driver) {
    throw refuse("EINVAL", `the vIOMMU belongs to ${viommu.driver.name}, the function to ${driver.name}`);
  }
}
