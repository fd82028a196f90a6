/** A function's VFIO character device by its ioctls (linux/vfio.h), reads and writes. */
import {
  type DeviceInfo,
  type FeatureRequest,
  HostError,
  type HostEvent,
  type HotResetDevice,
  type IrqInfo,
  type RegionArea,
  type RegionFile,
  type RegionInfo,
  type RegionMapping,
  type VfioDevice,
  VfioFeature,
  VfioFeatureFlags,
} from "../../iommufd/index.js";
import type { KernelPort } from "./kernel-port.js";
import { asHostCall } from "./refusals.js";
import { LinuxMapping, sparseAreas } from "./region-mapping.js";
import {
  ATTACH_BYTES,
  DEPENDENT_DEVICE,
  DETACH_BYTES,
  DEVICE_ATTACH,
  DEVICE_BIND,
  DEVICE_BIND_TOKEN,
  DEVICE_DETACH,
  DEVICE_FEATURE,
  DEVICE_INFO,
  DeviceFlags,
  FEATURE_DMA_BUF,
  type Filled,
  HOT_RESET,
  HOT_RESET_INFO,
  IRQ_INFO,
  IRQ_SET,
  IrqFlags,
  IrqSetFlags,
  REGION_INFO,
  RegionFlags,
  VFIO,
  WITH_PASID,
  WITH_TOKEN,
} from "./structures.js";

/** What a region's information says, and where the region lies in the device's file. */
interface Region extends RegionInfo {
  readonly offset: number;
}

export class LinuxVfioDevice implements VfioDevice {
  private readonly regions = new Map<number, Region>();
  private readonly mappings = new Set<LinuxMapping>();
  private open = true;

  constructor(
    private readonly port: KernelPort,
    readonly address: string,
    readonly fd: number,
  ) {}

  bind(iommufd: number, token?: Uint8Array): number {
    if (token !== undefined) {
      const request = DEVICE_BIND_TOKEN.make({ flags: WITH_TOKEN, iommufd, token_uuid_ptr: this.port.addressOf(token) });
      return this.call("VFIO_BIND_IOMMUFD", VFIO.BIND_IOMMUFD, request).number("out_devid");
    }
    return this.call("VFIO_BIND_IOMMUFD", VFIO.BIND_IOMMUFD, DEVICE_BIND.make({ iommufd })).number("out_devid");
  }

  attach(ptId: number, pasid?: number): void {
    const request = pasid === undefined ? DEVICE_ATTACH.make({ pt_id: ptId }, ATTACH_BYTES) : DEVICE_ATTACH.make({ flags: WITH_PASID, pt_id: ptId, pasid });
    this.call("VFIO_ATTACH_IOMMUFD_PT", VFIO.ATTACH_IOMMUFD_PT, request, () => `${this.address}${pasid === undefined ? "" : `, PASID ${pasid}`} to ${ptId}`);
  }

  detach(pasid?: number): void {
    const request = pasid === undefined ? DEVICE_DETACH.make({}, DETACH_BYTES) : DEVICE_DETACH.make({ flags: WITH_PASID, pasid });
    this.call("VFIO_DETACH_IOMMUFD_PT", VFIO.DETACH_IOMMUFD_PT, request, () => `${this.address}${pasid === undefined ? "" : `, PASID ${pasid}`}`);
  }

  info(): DeviceInfo {
    const answer = this.call("VFIO_GET_INFO", VFIO.GET_INFO, DEVICE_INFO.make());
    return { canReset: (answer.number("flags") & DeviceFlags.RESET) !== 0, regions: answer.number("num_regions"), irqs: answer.number("num_irqs") };
  }

  regionInfo(index: number): RegionInfo {
    const { size, readable, writable, areas } = this.region(index);
    return { size, readable, writable, areas };
  }

  /** What the kernel says of a region; the same for as long as the device is open. */
  private region(index: number): Region {
    let found = this.regions.get(index);
    if (found === undefined) {
      found = this.askRegion(index);
      this.regions.set(index, found);
    }
    return found;
  }

  private askRegion(index: number): Region {
    const ask = (bytes: number): Filled<keyof typeof REGION_INFO.fields> =>
      this.call("VFIO_GET_REGION_INFO", VFIO.GET_REGION_INFO, REGION_INFO.make({ index }, bytes), () => `${this.address}, region ${index}`);
    let answer = ask(REGION_INFO.bytes);
    // The kernel says how many bytes its capabilities want, and gives them where there is room.
    if (answer.number("argsz") > REGION_INFO.bytes) {
      answer = ask(answer.number("argsz"));
    }
    const flags = answer.number("flags");
    const size = Number(answer.wide("size"));
    const sparse = (flags & RegionFlags.CAPS) === 0 ? null : sparseAreas(answer.bytes, answer.number("cap_offset"));
    return {
      size,
      readable: (flags & RegionFlags.READ) !== 0,
      writable: (flags & RegionFlags.WRITE) !== 0,
      areas: (flags & RegionFlags.MMAP) === 0 ? [] : (sparse ?? [{ offset: 0, size }]),
      offset: Number(answer.wide("offset")),
    };
  }

  regionMap(index: number): RegionMapping | null {
    this.check("mmap");
    const { areas, offset, writable } = this.region(index);
    if (areas.length === 0) {
      return null;
    }
    const mapping = new LinuxMapping(this.port, (one) => this.mappings.delete(one));
    try {
      for (const area of areas) {
        asHostCall("mmap", () => `${this.address}, region ${index} at 0x${area.offset.toString(16)}`, () => mapping.add(area, this.port.map(this.fd, area.size, offset + area.offset, writable)));
      }
    } catch (error) {
      mapping.unmap();
      throw error;
    }
    this.mappings.add(mapping);
    return mapping;
  }

  regionFile(index: number, { offset, size }: RegionArea): RegionFile {
    const { REGION_INDEX, OPEN_FLAGS, NR_RANGES, RANGES, RANGE_BYTES, RANGE_OFFSET, RANGE_LENGTH } = FEATURE_DMA_BUF;
    const data = DEVICE_FEATURE.bytes;
    const { bytes } = DEVICE_FEATURE.make({ flags: VfioFeatureFlags.GET | VfioFeature.DMA_BUF }, data + RANGES + RANGE_BYTES);
    bytes.writeUInt32LE(index, data + REGION_INDEX);
    bytes.writeUInt32LE(O_RDWR | O_CLOEXEC, data + OPEN_FLAGS);
    bytes.writeUInt32LE(1, data + NR_RANGES);
    bytes.writeBigUInt64LE(BigInt(offset), data + RANGES + RANGE_OFFSET);
    bytes.writeBigUInt64LE(BigInt(size), data + RANGES + RANGE_LENGTH);
    this.check("VFIO_FEATURE");
    const fd = asHostCall("VFIO_FEATURE", () => `${this.address}, a dma-buf of region ${index} at 0x${offset.toString(16)}`, () => this.port.ioctl(this.fd, "VFIO_FEATURE", VFIO.FEATURE, bytes));
    let open = true;
    return {
      fd,
      close: () => {
        if (open) {
          open = false;
          this.port.close(fd);
        }
      },
    };
  }

  regionRead(index: number, offset: number, out: Uint8Array): void {
    this.transfer("read", index, offset, out, (at, part) => this.port.readAt(this.fd, at, part));
  }

  regionWrite(index: number, offset: number, data: Uint8Array): void {
    this.transfer("write", index, offset, data, (at, part) => this.port.writeAt(this.fd, at, part));
  }

  /** The kernel may do a part: the rest is done by the next call. */
  private transfer(operation: "read" | "write", index: number, offset: number, bytes: Uint8Array, move: (at: number, part: Uint8Array) => number): void {
    this.check(operation);
    const region = this.region(index);
    const what = (): string => `${this.address}, ${bytes.length} bytes at 0x${offset.toString(16)} of region ${index}, which has 0x${region.size.toString(16)}`;
    if (offset < 0 || offset + bytes.length > region.size) {
      throw new HostError(operation, "EINVAL", what());
    }
    for (let done = 0; done < bytes.length; ) {
      const moved = asHostCall(operation, what, () => move(region.offset + offset + done, done === 0 ? bytes : bytes.subarray(done)));
      if (moved === 0) {
        throw new HostError(operation, "EIO", what());
      }
      done += moved;
    }
  }

  irqInfo(index: number): IrqInfo {
    const answer = this.call("VFIO_GET_IRQ_INFO", VFIO.GET_IRQ_INFO, IRQ_INFO.make({ index }), () => `${this.address}, interrupt index ${index}`);
    const flags = answer.number("flags");
    return {
      count: answer.number("count"),
      eventfd: (flags & IrqFlags.EVENTFD) !== 0,
      maskable: (flags & IrqFlags.MASKABLE) !== 0,
      autoMasked: (flags & IrqFlags.AUTOMASKED) !== 0,
      noResize: (flags & IrqFlags.NORESIZE) !== 0,
    };
  }

  setIrqs(index: number, start: number, events: ReadonlyArray<HostEvent | null>): void {
    if (events.length === 0) {
      this.setIrqState(index, 0, 0, IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER);
    } else {
      this.setIrqEvents(index, start, events, IrqSetFlags.ACTION_TRIGGER);
    }
  }

  maskIrqs(index: number, start: number, count: number): void {
    this.setIrqState(index, start, count, IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_MASK);
  }

  unmaskIrqs(index: number, start: number, count: number): void {
    this.setIrqState(index, start, count, IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_UNMASK);
  }

  setUnmaskEvent(index: number, event: HostEvent | null): void {
    this.setIrqEvents(index, 0, [event], IrqSetFlags.ACTION_UNMASK);
  }

  private setIrqState(index: number, start: number, count: number, flags: number): void {
    this.call("VFIO_SET_IRQS", VFIO.SET_IRQS, IRQ_SET.make({ flags, index, start, count }), () => `${this.address}, interrupt index ${index}`);
  }

  private setIrqEvents(index: number, start: number, events: ReadonlyArray<HostEvent | null>, action: number): void {
    const request = IRQ_SET.make({ flags: IrqSetFlags.DATA_EVENTFD | action, index, start, count: events.length }, IRQ_SET.bytes + 4 * events.length);
    events.forEach((event, n) => request.bytes.writeInt32LE(event === null ? -1 : descriptorOf(event), IRQ_SET.bytes + 4 * n));
    this.call("VFIO_SET_IRQS", VFIO.SET_IRQS, request, () => `${this.address}, interrupt index ${index}, vectors ${start} to ${start + events.length - 1}`);
  }

  reset(): void {
    this.check("VFIO_RESET");
    asHostCall("VFIO_RESET", () => this.address, () => this.port.ioctl(this.fd, "VFIO_RESET", VFIO.RESET, NOTHING));
  }

  hotResetInfo(): HotResetDevice[] {
    const ask = (count: number): Filled<keyof typeof HOT_RESET_INFO.fields> =>
      this.call("VFIO_GET_PCI_HOT_RESET_INFO", VFIO.GET_PCI_HOT_RESET_INFO, HOT_RESET_INFO.make({}, HOT_RESET_INFO.bytes + count * DEPENDENT_DEVICE.BYTES));
    // As many as a bus can have: a slot or bus reset reaches no more below one bridge but for nested ones.
    const answer = ask(MOST_DEPENDENT);
    return Array.from({ length: answer.number("count") }, (_unused, n) => {
      const at = HOT_RESET_INFO.bytes + n * DEPENDENT_DEVICE.BYTES;
      const { bytes } = answer;
      const devfn = bytes[at + DEPENDENT_DEVICE.DEVFN];
      const part = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
      return {
        address: `${part(bytes.readUInt16LE(at + DEPENDENT_DEVICE.SEGMENT), 4)}:${part(bytes[at + DEPENDENT_DEVICE.BUS], 2)}:${part(devfn >> 3, 2)}.${devfn & 7}`,
        devId: bytes.readInt32LE(at + DEPENDENT_DEVICE.DEVID),
      };
    });
  }

  hotReset(): void {
    this.call("VFIO_PCI_HOT_RESET", VFIO.PCI_HOT_RESET, HOT_RESET.make());
  }

  feature({ feature, flags, data = new Uint8Array(0) }: FeatureRequest): void {
    const request = DEVICE_FEATURE.make({ flags: (flags | feature) >>> 0 }, DEVICE_FEATURE.bytes + data.length);
    request.bytes.set(data, DEVICE_FEATURE.bytes);
    this.call("VFIO_FEATURE", VFIO.FEATURE, request, () => `${this.address}, feature ${feature}`);
    data.set(request.bytes.subarray(DEVICE_FEATURE.bytes));
  }

  close(): void {
    if (this.open) {
      [...this.mappings].forEach((mapping) => mapping.unmap());
      this.open = false;
      this.port.close(this.fd);
    }
  }

  private call<Name extends string>(operation: string, number: number, request: Filled<Name>, detail: () => string = () => this.address): Filled<Name> {
    this.check(operation);
    asHostCall(operation, detail, () => this.port.ioctl(this.fd, operation, number, request.bytes));
    return request;
  }

  /** A closed descriptor's number may be another's by now. */
  private check(operation: string): void {
    if (!this.open) {
      throw new HostError(operation, "EBADF", `${this.address} is closed`);
    }
  }
}

/** open(2). */
const O_RDWR = 2;
const O_CLOEXEC = 0o2000000;
const NOTHING = new Uint8Array(8);
/** Devices that a hot reset may reach: 256 functions of a bus. */
const MOST_DEPENDENT = 256;

function descriptorOf({ fd }: HostEvent): number {
  if (fd === null) {
    throw new RangeError("an event without a descriptor cannot be given to Linux");
  }
  return fd;
}
