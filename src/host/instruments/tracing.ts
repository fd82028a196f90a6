/**
 * A host whose calls can be traced, with the names, order and formats of QEMU 11.1's backends/trace-events
 * and hw/vfio/trace-events. Where QEMU shows a descriptor, the number here is the how manieth the host has
 * opened; where it shows an address of its own memory there is 0, for the bytes have none here. The number
 * in parentheses is what the call gives: 0, and -1 or the errno (as in QEMU) where it is refused.
 */
import { traceEvent } from "../../support/index.js";
import { errnoNumber, HostError } from "../../iommufd/index.js";
import type { EventStream, Host, HwInfo, HwptAllocRequest, InvalidateRequest, InvalidateResult, Iommufd, IovaRange, IrqTrigger, MapRequest, VfioDevice } from "../../iommufd/index.js";

const allocIoas = traceEvent("iommufd_backend_alloc_ioas", " iommufd=%d ioas=%d");
const freeId = traceEvent("iommufd_backend_free_id", " iommufd=%d id=%d (%d)");
const mapDma = traceEvent("iommufd_backend_map_dma", " iommufd=%d ioas=%d iova=0x%x size=0x%x addr=%p readonly=%d (%d)");
const unmapDma = traceEvent("iommufd_backend_unmap_dma", " iommufd=%d ioas=%d iova=0x%x size=0x%x (%d)");
const unmapNone = traceEvent("iommufd_backend_unmap_dma_non_exist", " Unmap nonexistent mapping: iommufd=%d ioas=%d iova=0x%x size=0x%x (%d)");
const allocHwpt = traceEvent("iommufd_backend_alloc_hwpt", " iommufd=%d dev_id=%u pt_id=%u flags=0x%x hwpt_type=%u len=%u data_ptr=0x%x out_hwpt=%u (%d)");
const setDirty = traceEvent("iommufd_backend_set_dirty", " iommufd=%d hwpt=%u enable=%d (%d)");
const getDirty = traceEvent("iommufd_backend_get_dirty_bitmap", " iommufd=%d hwpt=%u iova=0x%x size=0x%x flags=0x%x page_size=0x%x (%d)");
const invalidateCache = traceEvent("iommufd_backend_invalidate_cache", " iommufd=%d id=%u data_type=%u entry_len=%u entry_num=%u done_num=%u data_ptr=0x%x (%d)");
const allocViommu = traceEvent("iommufd_backend_alloc_viommu", " iommufd=%d dev_id=%u type=%u hwpt_id=%u data_ptr=0x%x data_len=0x%x viommu_id=%u (%d)");
const allocVdev = traceEvent("iommufd_backend_alloc_vdev", " iommufd=%d dev_id=%u viommu_id=%u virt_id=0x%x vdev_id=%u (%d)");
const allocEventq = traceEvent("iommufd_viommu_alloc_eventq", " iommufd=%d viommu_id=%u type=%u veventq_id=%u veventq_fd=%u (%d)");
const getFd = traceEvent("iommufd_cdev_getfd", " %s (fd=%d)");
const connectAndBind = traceEvent("iommufd_cdev_connect_and_bind", " [iommufd=%d] Successfully bound device %s (fd=%d): output devid=%d");
const pasidAttach = traceEvent("iommufd_cdev_pasid_attach_ioas_hwpt", " [iommufd=%d] Successfully attached device %s (%d) pasid %u to id=%d");
const pasidDetach = traceEvent("iommufd_cdev_pasid_detach_ioas_hwpt", " [iommufd=%d] Successfully detached %s pasid %u");
const deviceReset = traceEvent("vfio_pci_reset_flr", "%s FLR/VFIO_DEVICE_RESET");

const descriptors = new WeakMap<Iommufd, number>();

/** The number by which trace events name an iommufd; -1: it is not traced. */
export function descriptorOf(iommufd: Iommufd): number {
  return descriptors.get(iommufd) ?? -1;
}

export function traceHost(host: Host): Host {
  let next = 0;
  return {
    description: host.description,
    allocateMemory: (name, bytes) => host.allocateMemory(name, bytes),
    freeMemory: (block) => host.freeMemory(block),
    openIommufd: () => new TracedIommufd(host.openIommufd(), next++),
    openDevice: (address) => {
      const device = host.openDevice(address);
      const fd = next++;
      if (getFd.on) {
        getFd.emit(`/sys/bus/pci/devices/${address}`, fd);
      }
      return new TracedDevice(device, fd);
    },
    functions: () => host.functions(),
    liveObjects: () => host.liveObjects(),
    close: () => host.close(),
  };
}

/** Runs a call and tells its outcome: 0, or -1 with the error thrown on. */
function outcome<T>(call: () => T, tell: (result: T | null, code: number) => void): T {
  let result: T;
  try {
    result = call();
  } catch (error) {
    if (error instanceof HostError) {
      tell(null, -1);
    }
    throw error;
  }
  tell(result, 0);
  return result;
}

function errnoOf(error: unknown): number {
  return error instanceof HostError ? errnoNumber(error.errno) : 0;
}

class TracedIommufd implements Iommufd {
  constructor(
    readonly inner: Iommufd,
    readonly fd: number,
  ) {
    descriptors.set(this, fd);
  }

  destroy(id: number): void {
    outcome(
      () => this.inner.destroy(id),
      (_result, code) => freeId.on && freeId.emit(this.fd, id, code),
    );
  }

  ioasAlloc(flags?: number): number {
    const id = this.inner.ioasAlloc(flags);
    if (allocIoas.on) {
      allocIoas.emit(this.fd, id);
    }
    return id;
  }

  ioasIovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint } {
    return this.inner.ioasIovaRanges(ioasId);
  }

  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): void {
    this.inner.ioasAllowIovas(ioasId, ranges);
  }

  ioasMap(request: MapRequest): bigint {
    return outcome(
      () => this.inner.ioasMap(request),
      (iova, code) => mapDma.on && mapDma.emit(this.fd, request.ioasId, request.iova ?? iova ?? 0n, request.length, request.userAddress, request.writable ? 0 : 1, code),
    );
  }

  ioasCopy(request: Parameters<Iommufd["ioasCopy"]>[0]): bigint {
    return this.inner.ioasCopy(request);
  }

  ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint {
    try {
      const bytes = this.inner.ioasUnmap(ioasId, iova, length);
      if (unmapDma.on) {
        unmapDma.emit(this.fd, ioasId, iova, length, 0);
      }
      return bytes;
    } catch (error) {
      const event = error instanceof HostError && error.errno === "ENOENT" ? unmapNone : unmapDma;
      if (event.on) {
        event.emit(this.fd, ioasId, iova, length, -1);
      }
      throw error;
    }
  }

  option(optionId: number, operation: "get" | "set", objectId: number, value: bigint): bigint {
    return this.inner.option(optionId, operation, objectId, value);
  }

  hwptAlloc(request: HwptAllocRequest): number {
    return outcome(
      () => this.inner.hwptAlloc(request),
      (id, code) => allocHwpt.on && allocHwpt.emit(this.fd, request.devId, request.ptId, request.flags, request.dataType, request.data.length, 0, id ?? 0, code),
    );
  }

  getHwInfo(devId: number, request?: Parameters<Iommufd["getHwInfo"]>[1]): HwInfo {
    return this.inner.getHwInfo(devId, request);
  }

  hwptSetDirtyTracking(hwptId: number, enable: boolean): void {
    try {
      this.inner.hwptSetDirtyTracking(hwptId, enable);
      if (setDirty.on) {
        setDirty.emit(this.fd, hwptId, enable ? 1 : 0, 0);
      }
    } catch (error) {
      if (setDirty.on) {
        setDirty.emit(this.fd, hwptId, enable ? 1 : 0, errnoOf(error));
      }
      throw error;
    }
  }

  hwptGetDirtyBitmap(request: Parameters<Iommufd["hwptGetDirtyBitmap"]>[0]): void {
    const tell = (code: number): void => {
      if (getDirty.on) {
        getDirty.emit(this.fd, request.hwptId, request.iova, request.length, request.flags, request.pageSize, code);
      }
    };
    try {
      this.inner.hwptGetDirtyBitmap(request);
      tell(0);
    } catch (error) {
      tell(errnoOf(error));
      throw error;
    }
  }

  hwptInvalidate(request: InvalidateRequest): InvalidateResult {
    const result = this.inner.hwptInvalidate(request);
    if (invalidateCache.on) {
      const { hwptId, dataType, entryLength, entryCount } = request;
      invalidateCache.emit(this.fd, hwptId, dataType, entryLength, entryCount, result.handled, 0, result.errno === null ? 0 : errnoNumber(result.errno));
    }
    return result;
  }

  faultQueueAlloc(): { id: number; stream: EventStream } {
    return this.inner.faultQueueAlloc();
  }

  viommuAlloc(request: Parameters<Iommufd["viommuAlloc"]>[0]): number {
    return outcome(
      () => this.inner.viommuAlloc(request),
      (id, code) => allocViommu.on && allocViommu.emit(this.fd, request.devId, request.type, request.hwptId, 0, 0, id ?? 0, code),
    );
  }

  vdeviceAlloc(request: Parameters<Iommufd["vdeviceAlloc"]>[0]): number {
    return outcome(
      () => this.inner.vdeviceAlloc(request),
      (id, code) => allocVdev.on && allocVdev.emit(this.fd, request.devId, request.viommuId, request.virtId, id ?? 0, code),
    );
  }

  veventqAlloc(request: Parameters<Iommufd["veventqAlloc"]>[0]): { id: number; stream: EventStream } {
    return outcome(
      () => this.inner.veventqAlloc(request),
      (queue, code) => allocEventq.on && allocEventq.emit(this.fd, request.viommuId, request.type, queue?.id ?? 0, 0, code),
    );
  }

  get openVtdFaults(): Iommufd["openVtdFaults"] {
    return this.inner.openVtdFaults?.bind(this.inner);
  }

  close(): void {
    this.inner.close();
  }
}

class TracedDevice implements VfioDevice {
  private iommufd = -1;

  constructor(
    private readonly inner: VfioDevice,
    private readonly fd: number,
  ) {}

  get address(): string {
    return this.inner.address;
  }

  bind(iommufd: Iommufd): number {
    const traced = iommufd instanceof TracedIommufd ? iommufd : null;
    const id = this.inner.bind(traced?.inner ?? iommufd);
    this.iommufd = traced?.fd ?? -1;
    if (connectAndBind.on) {
      connectAndBind.emit(this.iommufd, this.address, this.fd, id);
    }
    return id;
  }

  attach(ptId: number, pasid?: number): void {
    this.inner.attach(ptId, pasid);
    if (pasidAttach.on) {
      pasidAttach.emit(this.iommufd, this.address, this.fd, pasid ?? 0, ptId);
    }
  }

  detach(pasid?: number): void {
    this.inner.detach(pasid);
    if (pasidDetach.on) {
      pasidDetach.emit(this.iommufd, this.address, pasid ?? 0);
    }
  }

  regionInfo(index: number): ReturnType<VfioDevice["regionInfo"]> {
    return this.inner.regionInfo(index);
  }

  regionRead(index: number, offset: number, out: Uint8Array): void {
    this.inner.regionRead(index, offset, out);
  }

  regionWrite(index: number, offset: number, data: Uint8Array): void {
    this.inner.regionWrite(index, offset, data);
  }

  irqCount(index: number): number {
    return this.inner.irqCount(index);
  }

  setIrqs(index: number, start: number, triggers: ReadonlyArray<IrqTrigger | null>): void {
    this.inner.setIrqs(index, start, triggers);
  }

  reset(): void {
    this.inner.reset();
    if (deviceReset.on) {
      deviceReset.emit(this.address);
    }
  }

  close(): void {
    this.inner.close();
  }
}
