/**
 * The kernel's interface to IOMMUs and passed-through devices, as one set of TypeScript interfaces: a
 * call here is an ioctl there (linux/iommufd.h, linux/vfio.h). The simulated host implements it in the
 * process, a Linux host by ioctls. Every refusal is a HostError with the errno of the kernel.
 *
 * IOVAs and lengths are bigints here, since the kernel's are full 64-bit values; ids are the kernel's u32.
 */
import type { RamBlock } from "../memory/index.js";
import type { Errno } from "./errors.js";

export interface IovaRange {
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

/** IOMMU_IOAS_MAP and IOMMU_IOAS_COPY flags as words; `iova` null lets the kernel choose (no FIXED_IOVA). */
export interface MapRequest {
  readonly ioasId: number;
  /** user_va: an address within a RamBlock of this host (RamBlock.hostAddress + offset). */
  readonly userAddress: number;
  readonly length: bigint;
  readonly iova: bigint | null;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Raw flag bits beyond the three known ones, for tests of their refusal. */
  readonly extraFlags?: number;
}

export interface HwptAllocRequest {
  /** Or-ed HwptAllocFlags. */
  readonly flags: number;
  readonly devId: number;
  /** IOAS, parent HWPT or vIOMMU. */
  readonly ptId: number;
  /** HwptDataType. */
  readonly dataType: number;
  /** The data structure's bytes, little-endian; empty for NONE. */
  readonly data: Uint8Array;
  readonly faultId?: number;
}

export interface HwInfo {
  /** HwInfoType. */
  readonly type: number;
  /** The type's structure, little-endian; as long as asked for, zero beyond `dataLength`. */
  readonly data: Uint8Array;
  /** Bytes that the kernel supports for this type. */
  readonly dataLength: number;
  /** 0: no PASIDs. */
  readonly maxPasidLog2: number;
  /** Or-ed HwCapabilities. */
  readonly capabilities: number;
}

export interface InvalidateRequest {
  /** A vIOMMU or a nested HWPT. */
  readonly hwptId: number;
  /** InvalidateDataType. */
  readonly dataType: number;
  /** Bytes an entry. */
  readonly entryLength: number;
  readonly entryCount: number;
  /** entryCount entries of entryLength bytes. */
  readonly data: Uint8Array;
}

/**
 * Entries of an SMMUv3's HWPT_INVALIDATE that Linux issues at a time (CMDQ_BATCH_ENTRIES - 1). Where it fails,
 * entry_num counts those of the open block too, which are not issued (arm_vsmmu_cache_invalidate).
 */
export const ARM_SMMUV3_INVALIDATE_BLOCK = 63;

/** HWPT_INVALIDATE has an answer on failure too; so this does not throw. */
export interface InvalidateResult {
  readonly errno: Errno | null;
  /**
   * entry_num as the kernel leaves it. Without an error: all. With one it is where the kernel stopped looking,
   * not what it did: entries before it may not have been issued, and as many as were given tell nothing
   * (nesting's InvalidationBatch.deliver acts on it).
   */
  readonly handled: number;
}

/** The readable end of a vEVENTQ or fault queue. */
export interface EventStream {
  /**
   * Reads whole records, as many as fit in `maxBytes`; null when there is none (EAGAIN). A vEVENTQ
   * record is struct iommufd_vevent_header and the event's bytes, or a header alone with
   * VEVENTQ_FLAG_LOST_EVENTS.
   */
  read(maxBytes: number): Uint8Array | null;
  /** Called when records can be read; one listener. */
  onReadable(listener: (() => void) | null): void;
  /** Closes the descriptor; the object itself is destroyed by Iommufd.destroy. */
  close(): void;
}

export interface Iommufd {
  destroy(id: number): void;
  ioasAlloc(flags?: number): number;
  ioasIovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint };
  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): void;
  /** Returns the IOVA of the mapping. */
  ioasMap(request: MapRequest): bigint;
  ioasCopy(request: {
    dstIoasId: number;
    srcIoasId: number;
    length: bigint;
    dstIova: bigint | null;
    srcIova: bigint;
    readable: boolean;
    writable: boolean;
  }): bigint;
  /** Returns the bytes unmapped; iova 0 with length 2^64-1 unmaps everything. */
  ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint;
  option(optionId: number, operation: "get" | "set", objectId: number, value: bigint): bigint;
  hwptAlloc(request: HwptAllocRequest): number;
  getHwInfo(devId: number, request?: { dataLength?: number; flags?: number; inputType?: number }): HwInfo;
  hwptSetDirtyTracking(hwptId: number, enable: boolean): void;
  /** Ors the dirty bits of [iova, iova+length) into `bitmap`, a bit for each pageSize bytes, from bit 0 of byte 0. */
  hwptGetDirtyBitmap(request: {
    hwptId: number;
    /** 0 or DIRTY_BITMAP_NO_CLEAR. */
    flags: number;
    iova: bigint;
    length: bigint;
    pageSize: bigint;
    bitmap: Uint8Array;
  }): void;
  hwptInvalidate(request: InvalidateRequest): InvalidateResult;
  faultQueueAlloc(): { id: number; stream: EventStream };
  viommuAlloc(request: { flags?: number; type: number; devId: number; hwptId: number }): number;
  vdeviceAlloc(request: { viommuId: number; devId: number; virtId: bigint }): number;
  veventqAlloc(request: { flags?: number; viommuId: number; type: number; depth: number }): { id: number; stream: EventStream };
  /**
   * Faults of guests' first stages in the nested tables (VTD_S1) that a device is attached to, of any PASID.
   * Linux has no such thing for VT-d: its kernel logs these faults, and a host that is a Linux has no such
   * method. The stream gives records of VTD_FAULT_BYTES bytes: a fault recording register (Intel VT-d 11.4.7.6,
   * little-endian) whose SID is the host's, or zeros: records before the next one were lost. Throws HostError:
   * ENOENT no such device, EOPNOTSUPP not behind a VT-d unit, EEXIST there is a stream already.
   */
  openVtdFaults?(devId: number): EventStream;
  /** Closes /dev/iommu: everything left in it is freed. */
  close(): void;
}

/** What an interrupt of a device does on this side: the eventfd of VFIO_DEVICE_SET_IRQS. */
export type IrqTrigger = () => void;

/** An open /dev/vfio/devices/vfioN. */
export interface VfioDevice {
  /** Host PCI address, such as 0009:01:00.0. */
  readonly address: string;
  /** VFIO_DEVICE_BIND_IOMMUFD: returns the iommufd's device id. */
  bind(iommufd: Iommufd): number;
  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT: attaches to an IOAS or HWPT, replacing what is attached in one step. */
  attach(ptId: number, pasid?: number): void;
  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: DMA is blocked from then on. */
  detach(pasid?: number): void;
  /** VFIO_DEVICE_GET_REGION_INFO: bytes (0: no such region) and whether it may be mapped. */
  regionInfo(index: number): { size: number; readable: boolean; writable: boolean; mappable: boolean };
  regionRead(index: number, offset: number, out: Uint8Array): void;
  regionWrite(index: number, offset: number, data: Uint8Array): void;
  /** VFIO_DEVICE_GET_IRQ_INFO: number of vectors of a VfioIrq index. */
  irqCount(index: number): number;
  /** VFIO_DEVICE_SET_IRQS with eventfds, from vector `start` on; null takes a trigger away; an empty list disables the index. */
  setIrqs(index: number, start: number, triggers: ReadonlyArray<IrqTrigger | null>): void;
  /** VFIO_DEVICE_RESET. */
  reset(): void;
  /** Unbinds and closes. A vDEVICE that is left is destroyed with it. */
  close(): void;
}

/** What sysfs tells of a PCI function (/sys/bus/pci/devices/ADDRESS). */
export interface HostFunction {
  readonly address: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  /** The IOMMU instance that serves it, such as smmu3.0x0000000016600000; null: none. */
  readonly iommu: string | null;
  /** -1: none. */
  readonly numaNode: number;
  /** Bound to vfio-pci or free to be. */
  readonly driver: string;
}

/** A host: where memory, iommufds and devices come from. */
export interface Host {
  /** For the account: such as "simulated: grace". */
  readonly description: string;
  /** Memory of this host's process that can be mapped for DMA: bytes, a multiple of 4096. */
  allocateMemory(name: string, bytes: number): RamBlock;
  freeMemory(block: RamBlock): void;
  /** Opens /dev/iommu. */
  openIommufd(): Iommufd;
  /** Opens a function's VFIO character device; ENODEV when there is none. It may be opened again: the second bind is refused (EINVAL). */
  openDevice(address: string): VfioDevice;
  functions(): HostFunction[];
  /** Objects that live in this host's kernel on behalf of this process; empty after everything is closed. */
  liveObjects(): Array<{ id: number; type: string }>;
  close(): void;
}
