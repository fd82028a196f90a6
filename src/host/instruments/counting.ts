/**
 * A host seen through glass: counts every call by the kernel's name for it, and can make the n-th call of
 * a kind fail. The account's numbers and the fail-the-n-th-call tests come from here.
 */
import {
  ARM_SMMUV3_INVALIDATE_BLOCK,
  type Errno,
  type Host,
  HostError,
  InvalidateDataType,
  type InvalidateRequest,
  type InvalidateResult,
  type Iommufd,
  type VfioDevice,
} from "../../iommufd/index.js";

export interface HostCallFailure {
  /** The call's name, such as "HWPT_ALLOC"; "*" any. */
  readonly operation: string;
  /** The how manieth call of that name from now on fails, from 1. */
  readonly nth: number;
  readonly errno: Errno;
  /** HWPT_INVALIDATE only: the entry_num that the failed call leaves; at most as many as were given (default 0). */
  readonly handled?: number;
  /**
   * HWPT_INVALIDATE only: entries that are really done before it fails. Default as in Linux: an SMMUv3's are
   * issued in blocks of 63 and those of the open block are not, a VT-d's are done one by one; none are where
   * entry_num is as it was given.
   */
  readonly issued?: number;
}

/** Kernel names of the calls, by interface and method. */
const OPERATIONS: Record<string, string> = {
  destroy: "DESTROY",
  ioasAlloc: "IOAS_ALLOC",
  ioasIovaRanges: "IOAS_IOVA_RANGES",
  ioasAllowIovas: "IOAS_ALLOW_IOVAS",
  ioasMap: "IOAS_MAP",
  ioasCopy: "IOAS_COPY",
  ioasUnmap: "IOAS_UNMAP",
  option: "OPTION",
  hwptAlloc: "HWPT_ALLOC",
  getHwInfo: "GET_HW_INFO",
  hwptSetDirtyTracking: "HWPT_SET_DIRTY_TRACKING",
  hwptGetDirtyBitmap: "HWPT_GET_DIRTY_BITMAP",
  hwptInvalidate: "HWPT_INVALIDATE",
  faultQueueAlloc: "FAULT_QUEUE_ALLOC",
  viommuAlloc: "VIOMMU_ALLOC",
  vdeviceAlloc: "VDEVICE_ALLOC",
  veventqAlloc: "VEVENTQ_ALLOC",
  openVtdFaults: "VTD_FAULTS",
  bind: "VFIO_BIND_IOMMUFD",
  attach: "VFIO_ATTACH_IOMMUFD_PT",
  detach: "VFIO_DETACH_IOMMUFD_PT",
  setIrqs: "VFIO_SET_IRQS",
  reset: "VFIO_RESET",
};

/** Calls that make an object and calls that free one. */
const CREATING = new Set(["IOAS_ALLOC", "HWPT_ALLOC", "FAULT_QUEUE_ALLOC", "VIOMMU_ALLOC", "VDEVICE_ALLOC", "VEVENTQ_ALLOC", "VFIO_BIND_IOMMUFD"]);

export class HostObserver {
  /** Calls by name, failed ones included. */
  readonly calls = new Map<string, number>();
  created = 0;
  freed = 0;
  /** Called with each call's name, before it is made. */
  onCall: ((operation: string) => void) | null = null;
  private failures: Array<{ plan: HostCallFailure; left: number }> = [];

  /** Makes a later call fail; several plans may be under way. */
  failOn(plan: HostCallFailure): void {
    this.failures.push({ plan, left: plan.nth });
  }

  /** Forgets failures that did not come to pass; returns how many there were. */
  clearFailures(): number {
    const left = this.failures.length;
    this.failures = [];
    return left;
  }

  /** Notes a call; returns the failure that it is to meet, if any. */
  note(operation: string): HostCallFailure | null {
    this.calls.set(operation, (this.calls.get(operation) ?? 0) + 1);
    this.onCall?.(operation);
    let met: HostCallFailure | null = null;
    for (const failure of this.failures) {
      if (failure.plan.operation === operation || failure.plan.operation === "*") {
        failure.left--;
        if (failure.left === 0 && met === null) {
          met = failure.plan;
        }
      }
    }
    this.failures = this.failures.filter((failure) => failure.plan !== met);
    return met;
  }

  succeeded(operation: string): void {
    if (CREATING.has(operation)) {
      this.created++;
    } else if (operation === "DESTROY" || operation === "VFIO_CLOSE") {
      this.freed++;
    }
  }

  total(): number {
    let sum = 0;
    for (const count of this.calls.values()) {
      sum += count;
    }
    return sum;
  }
}

/** Entries that Linux has done when a HWPT_INVALIDATE fails with this entry_num (arm_vsmmu_cache_invalidate, intel_nested_cache_invalidate_user). */
function issuedBefore(handled: number, request: InvalidateRequest): number {
  if (handled >= request.entryCount) {
    return 0;
  }
  return request.dataType === InvalidateDataType.ARM_SMMUV3 ? handled - (handled % ARM_SMMUV3_INVALIDATE_BLOCK) : handled;
}

/** The host with every call noted by `observer`. */
export function observeHost(host: Host, observer: HostObserver): Host {
  const originals = new WeakMap<object, Iommufd>();

  function guard<T extends object>(target: T, methods: readonly string[]): T {
    return new Proxy(target, {
      get(object, property) {
        const value: unknown = Reflect.get(object, property, object);
        if (typeof value !== "function") {
          return value;
        }
        if (typeof property !== "string" || !methods.includes(property)) {
          return value.bind(object);
        }
        const operation = OPERATIONS[property];
        return (...args: unknown[]): unknown => {
          const failure = observer.note(operation);
          if (failure !== null) {
            throw new HostError(operation, failure.errno, "made to fail by a test");
          }
          const result: unknown = value.apply(object, args);
          observer.succeeded(operation);
          return result;
        };
      },
    });
  }

  function observeIommufd(iommufd: Iommufd): Iommufd {
    const guarded = guard(
      iommufd,
      Object.keys(OPERATIONS).filter((name) => name !== "hwptInvalidate"),
    );
    const observed = new Proxy(guarded, {
      get(object, property) {
        if (property !== "hwptInvalidate") {
          return Reflect.get(object, property, object) as unknown;
        }
        return (request: InvalidateRequest): InvalidateResult => {
          const failure = observer.note("HWPT_INVALIDATE");
          if (failure === null) {
            return iommufd.hwptInvalidate(request);
          }
          const handled = Math.min(failure.handled ?? 0, request.entryCount);
          const issued = failure.issued ?? issuedBefore(handled, request);
          if (issued > 0) {
            iommufd.hwptInvalidate({ ...request, entryCount: issued });
          }
          return { errno: failure.errno, handled };
        };
      },
    });
    originals.set(observed, iommufd);
    return observed;
  }

  function observeDevice(device: VfioDevice): VfioDevice {
    let bound = false;
    const guarded = guard(device, ["attach", "detach", "setIrqs", "reset"]);
    return new Proxy(guarded, {
      get(object, property) {
        if (property === "bind") {
          return (iommufd: Iommufd): number => {
            const failure = observer.note("VFIO_BIND_IOMMUFD");
            if (failure !== null) {
              throw new HostError("VFIO_BIND_IOMMUFD", failure.errno, "made to fail by a test");
            }
            const id = device.bind(originals.get(iommufd) ?? iommufd);
            bound = true;
            observer.succeeded("VFIO_BIND_IOMMUFD");
            return id;
          };
        }
        if (property === "close") {
          return (): void => {
            device.close();
            if (bound) {
              bound = false;
              observer.succeeded("VFIO_CLOSE");
            }
          };
        }
        return Reflect.get(object, property, object) as unknown;
      },
    });
  }

  return {
    description: host.description,
    allocateMemory: (name, bytes) => host.allocateMemory(name, bytes),
    freeMemory: (block) => host.freeMemory(block),
    openIommufd: () => observeIommufd(host.openIommufd()),
    openDevice: (address) => observeDevice(host.openDevice(address)),
    functions: () => host.functions(),
    liveObjects: () => host.liveObjects(),
    close: () => host.close(),
  };
}

