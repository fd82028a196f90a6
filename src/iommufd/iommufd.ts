/**
 * The kernel's interface to IOMMUs (linux/iommufd.h): a method here is an ioctl there, and a host that is a Linux
 * implements each by it. Every refusal is a HostError with the errno of the kernel; a call that a signal
 * interrupts (EINTR), or that did only a part, is repeated by the host before it returns.
 *
 * IOVAs and lengths are bigints here, since the kernel's are full 64-bit values; ids are the kernel's u32;
 * addresses of this process are numbers, below 2^53. Calls are synchronous: IOAS_MAP and IOAS_UNMAP of many GiB,
 * and VFIO_DEVICE_RESET, stop whoever makes them for as long as the kernel takes.
 */
import type { Errno } from "./errors.js";
import type { EventStream, FaultStream } from "./events.js";

export interface IovaRange {
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
}

/** What is mapped: memory of this process (IOMMU_IOAS_MAP) or of a file (IOMMU_IOAS_MAP_FILE: a memfd or a dma-buf). */
export type MapSource =
  /** user_va: an address within a RamBlock of this host (RamBlock.hostAddress + offset), or of a mapped region. */
  | { readonly address: number }
  /** A descriptor, and bytes into its file. */
  | { readonly fd: number; readonly offset: number };

/** Flags of IOMMU_IOAS_MAP and IOMMU_IOAS_MAP_FILE as words; `iova` null lets the kernel choose (no FIXED_IOVA). */
export interface MapRequest {
  readonly ioasId: number;
  readonly source: MapSource;
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

export interface CopyRequest {
  readonly dstIoasId: number;
  readonly srcIoasId: number;
  readonly length: bigint;
  readonly dstIova: bigint | null;
  readonly srcIova: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
}

export interface HwInfoRequest {
  /** Bytes of the structure that are asked for; default all. */
  readonly dataLength?: number;
  readonly flags?: number;
  readonly inputType?: number;
}

export interface DirtyBitmapRequest {
  readonly hwptId: number;
  /** 0 or DIRTY_BITMAP_NO_CLEAR. */
  readonly flags: number;
  readonly iova: bigint;
  readonly length: bigint;
  readonly pageSize: bigint;
  readonly bitmap: Uint8Array;
}

export interface ViommuRequest {
  readonly flags?: number;
  /** ViommuType. */
  readonly type: number;
  readonly devId: number;
  /** A nesting parent. */
  readonly hwptId: number;
  /** The type's structure (TEGRA241_CMDQV has one), which the kernel writes its answer into; left out: none. */
  readonly data?: Uint8Array;
}

export interface VdeviceRequest {
  readonly viommuId: number;
  readonly devId: number;
  /** The id by which the guest names the device to its IOMMU: a StreamID. */
  readonly virtId: bigint;
}

export interface VeventqRequest {
  readonly flags?: number;
  readonly viommuId: number;
  /** VeventqType. */
  readonly type: number;
  /** Events that it holds. */
  readonly depth: number;
}

/** An open /dev/iommu. */
export interface Iommufd {
  /** Its descriptor, which VFIO devices are bound to. */
  readonly fd: number;
  destroy(id: number): void;
  ioasAlloc(flags?: number): number;
  ioasIovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint };
  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): void;
  /** Returns the IOVA of the mapping. */
  ioasMap(request: MapRequest): bigint;
  ioasCopy(request: CopyRequest): bigint;
  /** Returns the bytes unmapped; iova 0 with length 2^64-1 unmaps everything. */
  ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint;
  option(optionId: number, operation: "get" | "set", objectId: number, value: bigint): bigint;
  hwptAlloc(request: HwptAllocRequest): number;
  getHwInfo(devId: number, request?: HwInfoRequest): HwInfo;
  hwptSetDirtyTracking(hwptId: number, enable: boolean): void;
  /** Ors the dirty bits of [iova, iova+length) into `bitmap`, a bit for each pageSize bytes, from bit 0 of byte 0. */
  hwptGetDirtyBitmap(request: DirtyBitmapRequest): void;
  hwptInvalidate(request: InvalidateRequest): InvalidateResult;
  faultQueueAlloc(): { id: number; stream: FaultStream };
  viommuAlloc(request: ViommuRequest): number;
  vdeviceAlloc(request: VdeviceRequest): number;
  veventqAlloc(request: VeventqRequest): { id: number; stream: EventStream };
  /** Closes the descriptor: everything left in it is freed, once no device is bound to it and no queue of it open. Given ones stay open. */
  close(): void;
}
