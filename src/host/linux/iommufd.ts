/** iommufd by its ioctls (linux/iommufd.h): one for each method, the kernel's answer as it is. */
import {
  type CopyRequest,
  type DirtyBitmapRequest,
  type Errno,
  type EventStream,
  type FaultStream,
  HostError,
  HwInfoFlags,
  HwptAllocFlags,
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
} from "../../iommufd/index.js";
import { SystemError } from "../../linux/index.js";
import { LinuxFaultStream, LinuxStream } from "./events.js";
import { type KernelPort, Pointed } from "./kernel-port.js";
import { asHostCall } from "./refusals.js";
import {
  DESTROY,
  DIRTY_TRACKING_ENABLE,
  FAULT_ALLOC,
  type Filled,
  GET_HW_INFO,
  HWPT_ALLOC,
  HWPT_GET_DIRTY_BITMAP,
  HWPT_INVALIDATE,
  HWPT_SET_DIRTY_TRACKING,
  IOAS_ALLOC,
  IOAS_ALLOW_IOVAS,
  IOAS_COPY,
  IOAS_IOVA_RANGES,
  IOAS_MAP,
  IOAS_MAP_FILE,
  IOAS_UNMAP,
  IOMMU,
  IOVA_RANGE,
  MapFlags,
  OPTION,
  OptionOp,
  VDEVICE_ALLOC,
  VEVENTQ_ALLOC,
  VIOMMU_ALLOC,
} from "./structures.js";

/** Bytes that an information structure is asked for at first: more than any has. */
const HW_INFO_BYTES = 128;
/** Ranges that are asked for at first. */
const IOVA_RANGES = 64;

/** The file that a range of this process's memory is of; null: none. */
export type FileOf = (address: number, length: bigint) => { readonly fd: number; readonly offset: number } | null;

export class LinuxIommufd implements Iommufd {
  private readonly pointed: Pointed;
  private readonly invalidation = HWPT_INVALIDATE.make();
  private open = true;
  /** IOAS_MAP_FILE (Linux 6.13): false once the kernel has said that it has none. */
  private mapsFiles = true;

  /**
   * @param given the descriptor is another's: `close` leaves it open
   * @param fileOf memory of a file is mapped by it, where the kernel can, so that its pages are found once for each folio
   */
  constructor(
    private readonly port: KernelPort,
    readonly fd: number,
    private readonly given: boolean,
    private readonly fileOf: FileOf,
  ) {
    this.pointed = new Pointed(port);
  }

  destroy(id: number): void {
    this.call("DESTROY", DESTROY.make({ id }), () => `id ${id}`);
  }

  ioasAlloc(flags = 0): number {
    return this.call("IOAS_ALLOC", IOAS_ALLOC.make({ flags }), () => "").number("out_ioas_id");
  }

  ioasIovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint } {
    for (let count = IOVA_RANGES; ; ) {
      const { bytes, address } = this.pointed.room(count * IOVA_RANGE.bytes);
      const request = IOAS_IOVA_RANGES.make({ ioas_id: ioasId, num_iovas: count, allowed_iovas: address });
      try {
        this.call("IOAS_IOVA_RANGES", request, () => `IOAS ${ioasId}`);
      } catch (error) {
        if (error instanceof HostError && error.errno === "EMSGSIZE" && request.number("num_iovas") > count) {
          count = request.number("num_iovas");
          continue;
        }
        throw error;
      }
      const ranges = Array.from({ length: request.number("num_iovas") }, (_unused, n) => ({
        start: bytes.readBigUInt64LE(n * IOVA_RANGE.bytes + IOVA_RANGE.fields.start[0]),
        last: bytes.readBigUInt64LE(n * IOVA_RANGE.bytes + IOVA_RANGE.fields.last[0]),
      }));
      return { ranges, alignment: request.wide("out_iova_alignment") };
    }
  }

  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): void {
    const { bytes, address } = this.pointed.room(ranges.length * IOVA_RANGE.bytes);
    ranges.forEach(({ start, last }, n) => {
      bytes.writeBigUInt64LE(start, n * IOVA_RANGE.bytes + IOVA_RANGE.fields.start[0]);
      bytes.writeBigUInt64LE(last, n * IOVA_RANGE.bytes + IOVA_RANGE.fields.last[0]);
    });
    this.call("IOAS_ALLOW_IOVAS", IOAS_ALLOW_IOVAS.make({ ioas_id: ioasId, num_iovas: ranges.length, allowed_iovas: address }), () => `IOAS ${ioasId}`);
  }

  ioasMap({ ioasId, source, length, iova, readable, writable, extraFlags = 0 }: MapRequest): bigint {
    const flags = (iova === null ? 0 : MapFlags.FIXED_IOVA) | (readable ? MapFlags.READABLE : 0) | (writable ? MapFlags.WRITEABLE : 0) | extraFlags;
    const common = { flags: flags >>> 0, ioas_id: ioasId, length, iova: iova ?? 0n };
    const what = (): string => `IOAS ${ioasId}, IOVA 0x${(iova ?? 0n).toString(16)}, 0x${length.toString(16)} bytes`;
    const byFile = (fd: number, start: number): bigint => this.call("IOAS_MAP_FILE", IOAS_MAP_FILE.make({ ...common, fd, start }), what).wide("iova");
    if ("fd" in source) {
      return byFile(source.fd, source.offset);
    }
    const file = this.mapsFiles ? this.fileOf(source.address, length) : null;
    if (file !== null) {
      try {
        return byFile(file.fd, file.offset);
      } catch (error) {
        if (!(error instanceof HostError) || error.errno !== "ENOTTY") {
          throw error instanceof HostError ? new HostError("IOAS_MAP", error.errno, error.detail) : error;
        }
        this.mapsFiles = false;
      }
    }
    return this.call("IOAS_MAP", IOAS_MAP.make({ ...common, user_va: source.address }), what).wide("iova");
  }

  ioasCopy({ dstIoasId, srcIoasId, length, dstIova, srcIova, readable, writable }: CopyRequest): bigint {
    const flags = (dstIova === null ? 0 : MapFlags.FIXED_IOVA) | (readable ? MapFlags.READABLE : 0) | (writable ? MapFlags.WRITEABLE : 0);
    const request = IOAS_COPY.make({ flags, dst_ioas_id: dstIoasId, src_ioas_id: srcIoasId, length, dst_iova: dstIova ?? 0n, src_iova: srcIova });
    return this.call("IOAS_COPY", request, () => `IOAS ${srcIoasId} to ${dstIoasId}`).wide("dst_iova");
  }

  ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint {
    return this.call("IOAS_UNMAP", IOAS_UNMAP.make({ ioas_id: ioasId, iova, length }), () => `IOAS ${ioasId}, IOVA 0x${iova.toString(16)}, 0x${length.toString(16)} bytes`).wide("length");
  }

  option(optionId: number, operation: "get" | "set", objectId: number, value: bigint): bigint {
    const request = OPTION.make({ option_id: optionId, op: operation === "get" ? OptionOp.GET : OptionOp.SET, object_id: objectId, val64: value });
    return this.call("OPTION", request, () => `option ${optionId}`).wide("val64");
  }

  hwptAlloc({ flags, devId, ptId, dataType, data, faultId }: HwptAllocRequest): number {
    const request = HWPT_ALLOC.make({
      flags: (flags | (faultId === undefined ? 0 : HwptAllocFlags.FAULT_ID_VALID)) >>> 0,
      dev_id: devId,
      pt_id: ptId,
      data_type: dataType,
      data_len: data.length,
      data_uptr: this.pointed.put(data),
      fault_id: faultId ?? 0,
    });
    return this.call("HWPT_ALLOC", request, () => `device ${devId}, of ${ptId}`).number("out_hwpt_id");
  }

  getHwInfo(devId: number, { dataLength, flags = 0, inputType }: HwInfoRequest = {}): HwInfo {
    const length = dataLength ?? HW_INFO_BYTES;
    const { bytes, address } = this.pointed.room(Math.max(length, 1));
    bytes.fill(0);
    const request = GET_HW_INFO.make({
      flags: (flags | (inputType === undefined ? 0 : HwInfoFlags.INPUT_TYPE)) >>> 0,
      dev_id: devId,
      data_len: length,
      data_uptr: length === 0 ? 0n : address,
      out_data_type: inputType ?? 0,
    });
    this.call("GET_HW_INFO", request, () => `device ${devId}`);
    const known = request.number("data_len");
    if (dataLength === undefined && known > length) {
      return this.getHwInfo(devId, { dataLength: known, flags, inputType });
    }
    return {
      type: request.number("out_data_type"),
      data: Uint8Array.from(bytes.subarray(0, dataLength ?? known)),
      dataLength: known,
      maxPasidLog2: request.number("out_max_pasid_log2"),
      capabilities: Number(request.wide("out_capabilities")),
    };
  }

  hwptSetDirtyTracking(hwptId: number, enable: boolean): void {
    this.call("HWPT_SET_DIRTY_TRACKING", HWPT_SET_DIRTY_TRACKING.make({ flags: enable ? DIRTY_TRACKING_ENABLE : 0, hwpt_id: hwptId }), () => `HWPT ${hwptId}`);
  }

  hwptGetDirtyBitmap({ hwptId, flags, iova, length, pageSize, bitmap }: DirtyBitmapRequest): void {
    const data = this.pointed.put(bitmap);
    this.call("HWPT_GET_DIRTY_BITMAP", HWPT_GET_DIRTY_BITMAP.make({ hwpt_id: hwptId, flags, iova, length, page_size: pageSize, data }), () => `HWPT ${hwptId}`);
    bitmap.set(this.pointed.room(bitmap.length).bytes);
  }

  hwptInvalidate({ hwptId, dataType, entryLength, entryCount, data }: InvalidateRequest): InvalidateResult {
    const { invalidation } = this;
    this.check("HWPT_INVALIDATE");
    invalidation.set("hwpt_id", hwptId);
    invalidation.set("data_uptr", this.pointed.put(data));
    invalidation.set("data_type", dataType);
    invalidation.set("entry_len", entryLength);
    invalidation.set("entry_num", entryCount);
    let errno: Errno | null = null;
    try {
      this.port.ioctl(this.fd, "HWPT_INVALIDATE", IOMMU.HWPT_INVALIDATE, invalidation.bytes);
    } catch (error) {
      if (!(error instanceof SystemError)) {
        throw error;
      }
      errno = error.code;
    }
    return { errno, handled: invalidation.number("entry_num") };
  }

  faultQueueAlloc(): { id: number; stream: FaultStream } {
    const answer = this.call("FAULT_QUEUE_ALLOC", FAULT_ALLOC.make(), () => "");
    return { id: answer.number("out_fault_id"), stream: new LinuxFaultStream(this.port, answer.number("out_fault_fd"), "fault queue") };
  }

  viommuAlloc({ flags = 0, type, devId, hwptId, data }: ViommuRequest): number {
    const request = VIOMMU_ALLOC.make({ flags, type, dev_id: devId, hwpt_id: hwptId, data_len: data?.length ?? 0, data_uptr: data === undefined ? 0n : this.pointed.put(data) });
    const id = this.call("VIOMMU_ALLOC", request, () => `device ${devId}, parent ${hwptId}`).number("out_viommu_id");
    data?.set(this.pointed.room(data.length).bytes);
    return id;
  }

  vdeviceAlloc({ viommuId, devId, virtId }: VdeviceRequest): number {
    const request = VDEVICE_ALLOC.make({ viommu_id: viommuId, dev_id: devId, virt_id: virtId });
    return this.call("VDEVICE_ALLOC", request, () => `vIOMMU ${viommuId}, device ${devId}, virtual id 0x${virtId.toString(16)}`).number("out_vdevice_id");
  }

  veventqAlloc({ flags = 0, viommuId, type, depth }: VeventqRequest): { id: number; stream: EventStream } {
    const answer = this.call("VEVENTQ_ALLOC", VEVENTQ_ALLOC.make({ flags, viommu_id: viommuId, type, veventq_depth: depth }), () => `vIOMMU ${viommuId}, ${depth} events`);
    return { id: answer.number("out_veventq_id"), stream: new LinuxStream(this.port, answer.number("out_veventq_fd"), "vEVENTQ") };
  }

  close(): void {
    if (this.open && !this.given) {
      this.port.close(this.fd);
    }
    this.open = false;
  }

  /** Makes an ioctl by a structure; the structure has the answer. */
  private call<Name extends string>(operation: keyof typeof IOMMU, request: Filled<Name>, detail: () => string): Filled<Name> {
    this.check(operation);
    asHostCall(operation, detail, () => this.port.ioctl(this.fd, operation, IOMMU[operation], request.bytes));
    return request;
  }

  /** A closed descriptor's number may be another's by now. */
  private check(operation: string): void {
    if (!this.open) {
      throw new HostError(operation, "EBADF", "the iommufd is closed");
    }
  }
}
