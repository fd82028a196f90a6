/**
 * The account of a host's calls: how many of each kind, by the kernel's name for it, and which objects they have
 * made that are not freed yet. A Linux cannot be asked what it holds for a process; who makes the calls can.
 */
import type { Host, Iommufd, VfioDevice } from "../../iommufd/index.js";
import { type Around, CREATING, FILE_CALLS, ForwardingDevice, ForwardingHost, ForwardingIommufd } from "./forwarding.js";

/** Something that a host holds for this process. */
export interface LiveObject {
  /** The iommufd's id of it; 0: it is an open file. */
  readonly id: number;
  /** "iommufd", "vfio-device", or the kind of the object, such as "hwpt". */
  readonly type: string;
}

/** Kinds of objects by the calls that make them. */
const KINDS: Readonly<Record<string, string>> = {
  IOAS_ALLOC: "ioas",
  HWPT_ALLOC: "hwpt",
  FAULT_QUEUE_ALLOC: "fault queue",
  VIOMMU_ALLOC: "viommu",
  VDEVICE_ALLOC: "vdevice",
  VEVENTQ_ALLOC: "veventq",
  VFIO_BIND_IOMMUFD: "device",
};

interface HeldObject {
  readonly type: string;
  /** The device that it goes with; null: none. */
  readonly devId: number | null;
}

export class CallCounter {
  /** Calls by name, failed ones included. */
  readonly calls = new Map<string, number>();
  created = 0;
  freed = 0;
  /** Called with each call's name, before it is made. */
  onCall: ((operation: string) => void) | null = null;
  /** Objects by iommufd, and what is open. */
  private readonly objects = new Map<object, Map<number, HeldObject>>();
  private readonly devices = new Set<object>();

  /** @param everything count files, memory and regions too, beside the ioctls */
  constructor(private readonly everything = false) {}

  /** What the host holds now. Objects of an iommufd that is closed go with it. */
  live(): LiveObject[] {
    const out: LiveObject[] = [];
    for (const objects of this.objects.values()) {
      out.push({ id: 0, type: "iommufd" });
      for (const [id, { type }] of objects) {
        out.push({ id, type });
      }
    }
    return [...out, ...Array.from(this.devices, () => ({ id: 0, type: "vfio-device" }))];
  }

  total(): number {
    let sum = 0;
    for (const count of this.calls.values()) {
      sum += count;
    }
    return sum;
  }

  /** A call is about to be made. */
  protected note(operation: string): void {
    this.calls.set(operation, (this.calls.get(operation) ?? 0) + 1);
    this.onCall?.(operation);
  }

  readonly around: Around = (operation, call) => {
    if (!this.everything && FILE_CALLS.has(operation)) {
      return call();
    }
    this.note(operation);
    const result = call();
    if (CREATING.has(operation)) {
      this.created++;
    } else if (operation === "DESTROY") {
      this.freed++;
    }
    return result;
  };

  opened(iommufd: object): void {
    this.objects.set(iommufd, new Map());
  }

  made(iommufd: object, operation: string, id: number, devId: number | null = null): void {
    this.objects.get(iommufd)?.set(id, { type: KINDS[operation], devId });
  }

  /** An object is destroyed; with a device its vDEVICE. */
  gone(iommufd: object, id: number): void {
    const objects = this.objects.get(iommufd);
    objects?.delete(id);
    for (const [other, { devId }] of objects ?? []) {
      if (devId === id) {
        objects!.delete(other);
      }
    }
  }

  closed(iommufd: object): void {
    this.objects.delete(iommufd);
  }

  deviceOpened(device: object): void {
    this.devices.add(device);
  }

  /** @param wasBound an object of its iommufd went with it */
  deviceClosed(device: object, wasBound: boolean): void {
    if (this.devices.delete(device) && wasBound) {
      this.freed++;
    }
  }
}

/** The host with every call noted by `counter`. */
export function countCalls(host: Host, counter: CallCounter): Host {
  return new CountedHost(host, counter);
}

export class CountedHost extends ForwardingHost {
  /** By descriptor, which devices name them by. */
  private readonly iommufds = new Map<number, CountedIommufd>();

  constructor(
    host: Host,
    protected readonly counter: CallCounter,
  ) {
    super(host, counter.around);
  }

  protected override wrapIommufd(iommufd: Iommufd): Iommufd {
    const counted = this.counted(iommufd);
    this.iommufds.set(iommufd.fd, counted);
    return counted;
  }

  protected override wrapDevice(device: VfioDevice): VfioDevice {
    return new CountedDevice(device, this.counter, this.iommufds);
  }

  protected counted(iommufd: Iommufd): CountedIommufd {
    return new CountedIommufd(iommufd, this.counter);
  }
}

export class CountedIommufd extends ForwardingIommufd {
  constructor(
    iommufd: Iommufd,
    protected readonly counter: CallCounter,
  ) {
    super(iommufd, counter.around);
    counter.opened(this);
  }

  override destroy(id: number): void {
    super.destroy(id);
    this.counter.gone(this, id);
  }

  override ioasAlloc(flags?: number): number {
    return this.noted("IOAS_ALLOC", super.ioasAlloc(flags));
  }

  override hwptAlloc(request: Parameters<Iommufd["hwptAlloc"]>[0]): number {
    return this.noted("HWPT_ALLOC", super.hwptAlloc(request));
  }

  override viommuAlloc(request: Parameters<Iommufd["viommuAlloc"]>[0]): number {
    return this.noted("VIOMMU_ALLOC", super.viommuAlloc(request));
  }

  override vdeviceAlloc(request: Parameters<Iommufd["vdeviceAlloc"]>[0]): number {
    return this.noted("VDEVICE_ALLOC", super.vdeviceAlloc(request), request.devId);
  }

  override veventqAlloc(request: Parameters<Iommufd["veventqAlloc"]>[0]): ReturnType<Iommufd["veventqAlloc"]> {
    const queue = super.veventqAlloc(request);
    this.noted("VEVENTQ_ALLOC", queue.id);
    return queue;
  }

  override faultQueueAlloc(): ReturnType<Iommufd["faultQueueAlloc"]> {
    const queue = super.faultQueueAlloc();
    this.noted("FAULT_QUEUE_ALLOC", queue.id);
    return queue;
  }

  override close(): void {
    super.close();
    this.counter.closed(this);
  }

  private noted(operation: string, id: number, devId: number | null = null): number {
    this.counter.made(this, operation, id, devId);
    return id;
  }
}

class CountedDevice extends ForwardingDevice {
  private bound: { readonly iommufd: CountedIommufd | undefined; readonly devId: number } | null = null;

  constructor(
    device: VfioDevice,
    private readonly counter: CallCounter,
    private readonly iommufds: ReadonlyMap<number, CountedIommufd>,
  ) {
    super(device, counter.around);
    counter.deviceOpened(this);
  }

  override bind(iommufd: number, token?: Uint8Array): number {
    const devId = super.bind(iommufd, token);
    const counted = this.iommufds.get(iommufd);
    this.bound = { iommufd: counted, devId };
    if (counted !== undefined) {
      this.counter.made(counted, "VFIO_BIND_IOMMUFD", devId);
    }
    return devId;
  }

  override close(): void {
    super.close();
    const { bound } = this;
    this.bound = null;
    if (bound?.iommufd !== undefined) {
      this.counter.gone(bound.iommufd, bound.devId);
    }
    this.counter.deviceClosed(this, bound !== null);
  }
}
