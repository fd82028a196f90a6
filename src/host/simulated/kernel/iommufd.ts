import {
  OptionId,
  VeventqType,
  ViommuType,
  type CopyRequest,
  type DirtyBitmapRequest,
  type EventStream,
  type FaultStream,
  type HwInfo,
  type HwInfoRequest,
  type HwptAllocRequest,
  type InvalidateRequest,
  type InvalidateResult,
  type Iommufd,
  type IovaRange,
  type MapRequest,
  type VdeviceRequest,
  type VeventqRequest,
  type ViommuRequest,
} from "../../../iommufd/index.js";
import { attachDevice, attachPasid, detachDevice, detachPasid, MsiWindow, prepareMsi, type AttachContext } from "./attachment.js";
import { FaultQueue, FaultQueueStream, QueueStream, VirtualEventQueue, VtdFaultQueue } from "./event-queue.js";
import { hwInfoOf } from "./hw-info.js";
import { allocateHwpt, invalidate, readDirtyBitmap, setDirtyTracking } from "./hwpt.js";
import { copyRange, mapRange, unmapRange } from "./ioas.js";
import { checkSameIommu, DeviceObject, HwptPaging, IoasObject, VdeviceObject, ViommuObject } from "./iommufd-objects.js";
import type { Master } from "./iommu-driver.js";
import type { DmaBuf } from "./dma-buf.js";
import type { Later } from "./host-event.js";
import { ObjectTable, refusing, type KernelObject, type Refuse } from "./objects.js";
import type { PhysicalFunction } from "./hardware-port.js";
import type { KernelRules } from "./kernel-rules.js";
import type { ProcessMemory } from "./process-memory.js";

/** What a vEVENTQ holds at the most (Linux iommufd_veventq_alloc). */
const MOST_QUEUED_EVENTS = 2 ** 19;

/** A table that the kernel keeps in step with an IOAS. */
export interface TableAccount {
  readonly hwptId: number;
  readonly stage: 1 | 2;
  /** Bytes of table memory. */
  readonly tableBytes: number;
  /** Bytes of the IOAS's mappings. */
  readonly mappedBytes: number;
}

/**
 * An open /dev/iommu of the simulated kernel: the object model of Linux's iommufd. A bound
 * device and an open queue keep it alive after `close`, as their files do there.
 */
export class SimulatedIommufd implements Iommufd, AttachContext {
  readonly table = new ObjectTable();
  readonly msiWindow = new MsiWindow();
  private closed = false;
  private holders = 0;
  private readonly streams = new Set<QueueStream>();
  private processAccounting = false;
  /** The IOAS that VFIO's container calls would use (IOMMU_VFIO_IOAS). */
  private compatible: IoasObject | null = null;

  constructor(
    readonly fd: number,
    private readonly memory: ProcessMemory,
    private readonly rules: KernelRules,
    private readonly later: Later,
    private readonly onGone: (iommufd: SimulatedIommufd) => void,
    /** An open dma-buf of the process; null: the descriptor is none. */
    private readonly fileOf: (fd: number) => DmaBuf | null,
  ) {}

  get isClosed(): boolean {
    return this.closed;
  }

  objects(): KernelObject[] {
    return this.table.live();
  }

  /** The kernel-managed tables, and what they cost. */
  tables(): TableAccount[] {
    return this.table.live().flatMap((object) =>
      object instanceof HwptPaging
        ? [
            {
              hwptId: object.id,
              stage: object.domain.stage,
              tableBytes: object.domain.tableBytes,
              mappedBytes: Number(object.ioas.pagetable.mappedBytes),
            },
          ]
        : [],
    );
  }

  close(): void {
    if (!this.closed) {
      this.closed = true;
      this.freeIfUnheld();
    }
  }

  /** Closes the descriptors of all queues: the end of the process. */
  closeStreams(): void {
    for (const stream of [...this.streams]) {
      stream.close();
    }
  }

  destroy(id: number): void {
    this.table.destroy(id, this.enter("DESTROY"));
  }

  ioasAlloc(flags = 0): number {
    const refuse = this.enter("IOAS_ALLOC");
    if (flags !== 0) {
      throw refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)}`);
    }
    return this.table.add(new IoasObject(this.memory)).id;
  }

  ioasIovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint } {
    const { pagetable } = this.table.get(ioasId, IoasObject, this.enter("IOAS_IOVA_RANGES"));
    return { ranges: pagetable.ranges(), alignment: pagetable.alignment };
  }

  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): void {
    const refuse = this.enter("IOAS_ALLOW_IOVAS");
    this.table.get(ioasId, IoasObject, refuse).pagetable.allow(ranges, refuse);
  }

  ioasMap(request: MapRequest): bigint {
    return mapRange(this.table, request, this.fileOf, this.enter("address" in request.source ? "IOAS_MAP" : "IOAS_MAP_FILE"));
  }

  ioasCopy(request: CopyRequest): bigint {
    return copyRange(this.table, request, this.enter("IOAS_COPY"));
  }

  ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint {
    return unmapRange(this.table, ioasId, iova, length, this.enter("IOAS_UNMAP"));
  }

  option(optionId: number, operation: "get" | "set", objectId: number, value: bigint): bigint {
    const refuse = this.enter("OPTION");
    if (optionId === OptionId.HUGE_PAGES) {
      const { pagetable } = this.table.get(objectId, IoasObject, refuse);
      if (operation === "set") {
        pagetable.setLargePages(booleanOption(value, refuse), refuse);
      }
      return pagetable.largePages ? 1n : 0n;
    }
    if (optionId !== OptionId.RLIMIT_MODE || objectId !== 0) {
      throw refuse("EOPNOTSUPP", `option ${optionId} of object ${objectId}`);
    }
    if (operation === "set") {
      if (this.table.live().length > 0) {
        throw refuse("EBUSY", "there are objects already");
      }
      this.processAccounting = booleanOption(value, refuse);
    }
    return this.processAccounting ? 1n : 0n;
  }

  hwptAlloc(request: HwptAllocRequest): number {
    return allocateHwpt(this.table, request, this.enter("HWPT_ALLOC")).id;
  }

  getHwInfo(devId: number, request: HwInfoRequest = {}): HwInfo {
    const refuse = this.enter("GET_HW_INFO");
    return hwInfoOf(this.table.get(devId, DeviceObject, refuse).master, request, refuse);
  }

  hwptSetDirtyTracking(hwptId: number, enable: boolean): void {
    const refuse = this.enter("HWPT_SET_DIRTY_TRACKING");
    setDirtyTracking(this.table.get(hwptId, HwptPaging, refuse), enable, refuse);
  }

  hwptGetDirtyBitmap(request: DirtyBitmapRequest): void {
    readDirtyBitmap(this.table, request, this.rules, this.enter("HWPT_GET_DIRTY_BITMAP"));
  }

  hwptInvalidate(request: InvalidateRequest): InvalidateResult {
    this.enter("HWPT_INVALIDATE");
    return invalidate(this.table, request);
  }

  faultQueueAlloc(): { id: number; stream: FaultStream } {
    this.enter("FAULT_QUEUE_ALLOC");
    const queue = this.table.add(new FaultQueue());
    const stream = new FaultQueueStream(queue, this.later, () => this.streamClosed(stream));
    return { id: queue.id, stream: this.hold(stream) };
  }

  viommuAlloc(request: ViommuRequest): number {
    const refuse = this.enter("VIOMMU_ALLOC");
    if ((request.flags ?? 0) !== 0 || request.type === ViommuType.DEFAULT) {
      throw refuse("EOPNOTSUPP", `flags 0x${(request.flags ?? 0).toString(16)}, type ${request.type}`);
    }
    const { driver } = this.table.get(request.devId, DeviceObject, refuse).master;
    driver.checkViommu(request.type, refuse);
    const hwpt = this.table.get(request.hwptId, HwptPaging, refuse);
    if (!hwpt.nestParent) {
      throw refuse("EINVAL", "the table was not made as a nesting parent");
    }
    return this.table.add(new ViommuObject(driver, hwpt, refuse)).id;
  }

  vdeviceAlloc(request: VdeviceRequest): number {
    const refuse = this.enter("VDEVICE_ALLOC");
    const viommu = this.table.get(request.viommuId, ViommuObject, refuse);
    const device = this.table.get(request.devId, DeviceObject, refuse);
    checkSameIommu(viommu, device, refuse);
    if (device.vdevice !== null) {
      throw refuse("EEXIST", `the function has vDEVICE ${device.vdevice.id}`);
    }
    if (viommu.devices.has(request.virtId)) {
      throw refuse("EEXIST", `virtual id 0x${request.virtId.toString(16)} is taken`);
    }
    return this.table.add(new VdeviceObject(viommu, device, request.virtId)).id;
  }

  veventqAlloc(request: VeventqRequest): { id: number; stream: EventStream } {
    const refuse = this.enter("VEVENTQ_ALLOC");
    if ((request.flags ?? 0) !== 0 || request.type === VeventqType.DEFAULT) {
      throw refuse("EOPNOTSUPP", `flags 0x${(request.flags ?? 0).toString(16)}, type ${request.type}`);
    }
    if (request.depth <= 0 || request.depth > MOST_QUEUED_EVENTS) {
      throw refuse("EINVAL", `depth ${request.depth}`);
    }
    const viommu = this.table.get(request.viommuId, ViommuObject, refuse);
    if (viommu.queues.has(request.type)) {
      throw refuse("EEXIST", `the vIOMMU has a queue of type ${request.type}`);
    }
    const queue = new VirtualEventQueue(request.type, request.depth, () => {
      viommu.queues.delete(request.type);
      viommu.users--;
    });
    this.table.add(queue);
    viommu.queues.set(request.type, queue);
    viommu.users++;
    const stream = this.open(queue);
    queue.stream = stream;
    return { id: queue.id, stream };
  }

  /** IOMMU_VFIO_IOAS, GET. */
  compatibleIoas(refuse: Refuse): number {
    if (this.compatible === null || this.table.find(this.compatible.id) !== this.compatible) {
      throw refuse("ENODEV", "no IOAS is set");
    }
    return this.compatible.id;
  }

  /** IOMMU_VFIO_IOAS, SET and CLEAR (null). */
  setCompatibleIoas(id: number | null, refuse: Refuse): void {
    this.compatible = id === null ? null : this.table.get(id, IoasObject, refuse);
  }

  /** IOMMU_IOAS_CHANGE_PROCESS: mappings of files alone can change their process. */
  changeProcess(refuse: Refuse): void {
    if (this.table.live().some((object) => object instanceof IoasObject && object.pagetable.mapsMemory)) {
      throw refuse("EINVAL", "memory of the process is mapped");
    }
  }

  /** IOMMU_HW_QUEUE_ALLOC: vIOMMUs of this host have no such queues. */
  refuseHwQueue(flags: number, type: number, viommuId: number, length: bigint, refuse: Refuse): never {
    if (flags !== 0 || type === 0) {
      throw refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)}, type ${type}`);
    }
    if (length === 0n) {
      throw refuse("EINVAL", "length 0");
    }
    this.table.get(viommuId, ViommuObject, refuse);
    throw refuse("EOPNOTSUPP", "the vIOMMU has no hardware queues");
  }

  openVtdFaults(devId: number): EventStream {
    const refuse = this.enter("VTD_FAULTS");
    const device = this.table.get(devId, DeviceObject, refuse);
    if (device.faults !== null) {
      throw refuse("EEXIST", "its faults have a stream");
    }
    const queue = new VtdFaultQueue();
    if (!device.master.watchFaults((record) => queue.report(record))) {
      throw refuse("EOPNOTSUPP", `events behind ${device.master.driver.name} go through a vIOMMU`);
    }
    queue.stream = this.open(queue, () => {
      device.faults = null;
      device.master.watchFaults(null);
    });
    device.faults = queue.stream;
    return queue.stream;
  }

  /** VFIO_DEVICE_BIND_IOMMUFD: the caller has checked that the function is nobody's. */
  bindDevice(device: PhysicalFunction, master: Master): DeviceObject {
    this.holders++;
    const object = new DeviceObject(device, master, () => {
      this.holders--;
    });
    this.table.add(object);
    // VFIO uses it until it unbinds: IOMMU_DESTROY of a device is EBUSY.
    object.users++;
    return object;
  }

  /** The end of a binding: detached, its vDEVICE destroyed by force (that id stays taken), its id free. */
  unbindDevice(object: DeviceObject, refuse: Refuse): void {
    for (const pasid of [...object.pasids.keys()]) {
      detachPasid(this, object, pasid, refuse);
    }
    detachDevice(this, object, refuse);
    object.faults?.close();
    if (object.vdevice !== null) {
      this.table.bury(object.vdevice);
    }
    object.users--;
    this.table.remove(object);
    this.freeIfUnheld();
  }

  attach(object: DeviceObject, ptId: number, pasid: number | undefined, refuse: Refuse): void {
    if (pasid === undefined) {
      attachDevice(this, object, ptId, refuse);
    } else {
      attachPasid(this, object, pasid, ptId, refuse);
    }
  }

  detach(object: DeviceObject, pasid: number | undefined, refuse: Refuse): void {
    if (pasid === undefined) {
      detachDevice(this, object, refuse);
    } else {
      detachPasid(this, object, pasid, refuse);
    }
  }

  /** The address that the function's vectors shall write to, to reach a doorbell (HPA). */
  prepareMsi(object: DeviceObject, doorbell: number, refuse: Refuse): number {
    return prepareMsi(this, object, doorbell, refuse);
  }

  private open(queue: VirtualEventQueue | VtdFaultQueue, onClose: () => void = () => {}): QueueStream {
    const stream: QueueStream = new QueueStream(queue, this.later, () => {
      onClose();
      this.streamClosed(stream);
    });
    return this.hold(stream);
  }

  private hold<T extends QueueStream>(stream: T): T {
    this.holders++;
    this.streams.add(stream);
    return stream;
  }

  private streamClosed(stream: QueueStream): void {
    this.streams.delete(stream);
    this.holders--;
    this.freeIfUnheld();
  }

  private freeIfUnheld(): void {
    if (this.closed && this.holders === 0) {
      this.table.clear();
      this.onGone(this);
    }
  }

  /** Begins a call: EBADF on a closed descriptor. */
  private enter(operation: string): Refuse {
    const refuse = refusing(operation);
    if (this.closed) {
      throw refuse("EBADF", "the iommufd is closed");
    }
    return refuse;
  }
}

function booleanOption(value: bigint, refuse: Refuse): boolean {
  if (value !== 0n && value !== 1n) {
    throw refuse("EINVAL", `value ${value}`);
  }
  return value === 1n;
}
