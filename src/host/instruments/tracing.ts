/**
 * A host whose calls can be traced, with the names, order and formats of QEMU 11.1's backends/trace-events
 * and hw/vfio/trace-events. Descriptors are the host's numbers; where QEMU shows an address of its own memory there is 0, for the bytes have none here. The number
 * in parentheses is what the call gives: 0, and -1 or the errno (as in QEMU) where it is refused.
 */
import { errnoNumber, type EventStream, type Host, HostError, type HwptAllocRequest, type InvalidateRequest, type InvalidateResult, type Iommufd, type MapRequest, type VfioDevice } from "../../iommufd/index.js";
import { traceEvent } from "../../support/index.js";
import { ForwardingDevice, ForwardingHost, ForwardingIommufd } from "./forwarding.js";

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

export function traceHost(host: Host): Host {
  return new TracedHost(host);
}

class TracedHost extends ForwardingHost {
  protected override wrapIommufd(iommufd: Iommufd): Iommufd {
    return new TracedIommufd(iommufd);
  }

  protected override wrapDevice(device: VfioDevice): VfioDevice {
    if (getFd.on) {
      getFd.emit(`/sys/bus/pci/devices/${device.address}`, device.fd);
    }
    return new TracedDevice(device);
  }
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

/** user_va of a mapping; 0: it is of a file. */
function sourceAddress({ source }: MapRequest): number {
  return "address" in source ? source.address : 0;
}

function errnoOf(error: unknown): number {
  return error instanceof HostError ? errnoNumber(error.errno) : 0;
}

class TracedIommufd extends ForwardingIommufd {
  override destroy(id: number): void {
    outcome(
      () => super.destroy(id),
      (_result, code) => freeId.on && freeId.emit(this.fd, id, code),
    );
  }

  override ioasAlloc(flags?: number): number {
    const id = super.ioasAlloc(flags);
    if (allocIoas.on) {
      allocIoas.emit(this.fd, id);
    }
    return id;
  }

  override ioasMap(request: MapRequest): bigint {
    return outcome(
      () => super.ioasMap(request),
      (iova, code) => mapDma.on && mapDma.emit(this.fd, request.ioasId, request.iova ?? iova ?? 0n, request.length, sourceAddress(request), request.writable ? 0 : 1, code),
    );
  }

  override ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint {
    try {
      const bytes = super.ioasUnmap(ioasId, iova, length);
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

  override hwptAlloc(request: HwptAllocRequest): number {
    return outcome(
      () => super.hwptAlloc(request),
      (id, code) => allocHwpt.on && allocHwpt.emit(this.fd, request.devId, request.ptId, request.flags, request.dataType, request.data.length, 0, id ?? 0, code),
    );
  }

  override hwptSetDirtyTracking(hwptId: number, enable: boolean): void {
    try {
      super.hwptSetDirtyTracking(hwptId, enable);
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

  override hwptGetDirtyBitmap(request: Parameters<Iommufd["hwptGetDirtyBitmap"]>[0]): void {
    const tell = (code: number): void => {
      if (getDirty.on) {
        getDirty.emit(this.fd, request.hwptId, request.iova, request.length, request.flags, request.pageSize, code);
      }
    };
    try {
      super.hwptGetDirtyBitmap(request);
      tell(0);
    } catch (error) {
      tell(errnoOf(error));
      throw error;
    }
  }

  override hwptInvalidate(request: InvalidateRequest): InvalidateResult {
    const result = super.hwptInvalidate(request);
    if (invalidateCache.on) {
      const { hwptId, dataType, entryLength, entryCount } = request;
      invalidateCache.emit(this.fd, hwptId, dataType, entryLength, entryCount, result.handled, 0, result.errno === null ? 0 : errnoNumber(result.errno));
    }
    return result;
  }

  override viommuAlloc(request: Parameters<Iommufd["viommuAlloc"]>[0]): number {
    return outcome(
      () => super.viommuAlloc(request),
      (id, code) => allocViommu.on && allocViommu.emit(this.fd, request.devId, request.type, request.hwptId, 0, request.data?.length ?? 0, id ?? 0, code),
    );
  }

  override vdeviceAlloc(request: Parameters<Iommufd["vdeviceAlloc"]>[0]): number {
    return outcome(
      () => super.vdeviceAlloc(request),
      (id, code) => allocVdev.on && allocVdev.emit(this.fd, request.devId, request.viommuId, request.virtId, id ?? 0, code),
    );
  }

  override veventqAlloc(request: Parameters<Iommufd["veventqAlloc"]>[0]): { id: number; stream: EventStream } {
    return outcome(
      () => super.veventqAlloc(request),
      (queue, code) => allocEventq.on && allocEventq.emit(this.fd, request.viommuId, request.type, queue?.id ?? 0, queue?.stream.fd ?? 0, code),
    );
  }
}

class TracedDevice extends ForwardingDevice {
  private iommufd = -1;

  override bind(iommufd: number, token?: Uint8Array): number {
    const id = super.bind(iommufd, token);
    this.iommufd = iommufd;
    if (connectAndBind.on) {
      connectAndBind.emit(iommufd, this.address, this.fd, id);
    }
    return id;
  }

  override attach(ptId: number, pasid?: number): void {
    super.attach(ptId, pasid);
    if (pasidAttach.on) {
      pasidAttach.emit(this.iommufd, this.address, this.fd, pasid ?? 0, ptId);
    }
  }

  override detach(pasid?: number): void {
    super.detach(pasid);
    if (pasidDetach.on) {
      pasidDetach.emit(this.iommufd, this.address, pasid ?? 0);
    }
  }

  override reset(): void {
    super.reset();
    if (deviceReset.on) {
      deviceReset.emit(this.address);
    }
  }
}
