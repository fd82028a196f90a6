/** What calls of several groups are written with: a bound function, an IOAS with its tables, and bytes of structures. */
import { HwptDataType, type InvalidateResult, type IovaRange, type Iommufd, type VfioDevice, ViommuType } from "../iommufd/index.js";
import { hex } from "../support/index.js";
import { type Answer, answer } from "./answer.js";
import type { Bench, Bound, Memory } from "./bench.js";
import { request as ioctlNumber, structure, wide } from "./raw.js";

export const NO_DATA = new Uint8Array(0);
export const U64_MAX = (1n << 64n) - 1n;
export const U32_MAX = 0xffff_ffff;
export const MIB = 0x10_0000n;
/** An id that no object of a short run has. */
export const UNKNOWN_ID = 0x7777;
/** A descriptor that this process has not. */
export const NO_FD = 0x7fff_fff0;

const IOAS_MAP = ioctlNumber(0x85);

/** A function that is bound, and an IOAS. */
export class Work {
  readonly iommufd: Iommufd;
  readonly device: VfioDevice;
  readonly devId: number;
  readonly ioas: number;

  constructor(
    readonly bench: Bench,
    bound: Bound = bench.bind(),
  ) {
    this.iommufd = bench.iommufd;
    this.device = bound.device;
    this.devId = bound.devId;
    this.ioas = bench.quiet(() => bench.iommufd.ioasAlloc()) ?? 0;
  }

  /** HWPT_ALLOC. */
  table(flags: number, ptId = this.ioas, dataType = 0, data: Uint8Array = NO_DATA, devId = this.devId): number {
    return this.iommufd.hwptAlloc({ flags, devId, ptId, dataType, data });
  }

  /** A nested table of an SMMUv3's vIOMMU by the first two words of a stream table entry. */
  entry(viommu: number, word0: bigint, word1 = 0n): number {
    return this.table(0, viommu, HwptDataType.ARM_SMMUV3, words64(word0, word1));
  }

  viommu(hwptId: number, type: number = ViommuType.ARM_SMMUV3, flags = 0): number {
    return this.iommufd.viommuAlloc({ type, devId: this.devId, hwptId, flags });
  }

  vdevice(viommuId: number, virtId: bigint, devId = this.devId): number {
    return this.iommufd.vdeviceAlloc({ viommuId, devId, virtId });
  }

  veventq(viommuId: number, type: number, depth: number, flags = 0): number {
    const { id, stream } = this.iommufd.veventqAlloc({ viommuId, type, depth, flags });
    this.bench.keep(stream);
    return id;
  }

  /** HWPT_INVALIDATE by entries of `entryLength` bytes, which begin with the given ones. */
  invalidate(hwptId: number, entries: readonly Uint8Array[], entryLength = 16, dataType = 1): Answer {
    const data = new Uint8Array(entryLength * entries.length);
    entries.forEach((entry, index) => data.set(entry.subarray(0, entryLength), entryLength * index));
    return invalidated(this.iommufd.hwptInvalidate({ hwptId, dataType, entryLength, entryCount: entries.length, data }));
  }

  map(memory: Memory, iova: bigint | null, length: bigint = MIB, rights: { readable?: boolean; writable?: boolean; extraFlags?: number; offset?: number; ioas?: number } = {}): string {
    const { readable = true, writable = true, extraFlags = 0, offset = 0, ioas = this.ioas } = rights;
    const address = memory.address + offset;
    if (this.bench.host.rawIoctl === undefined) {
      return `iova=${hex(this.iommufd.ioasMap({ ioasId: ioas, source: { address }, length, iova, readable, writable, extraFlags }))}`;
    }
    // IOAS_MAP itself: a host may map memory that is of a file by IOAS_MAP_FILE.
    const flags = (iova === null ? 0 : 1) | (writable ? 2 : 0) | (readable ? 4 : 0) | extraFlags;
    const request = structure([[4, 40], [4, flags], [4, ioas], [4, 0], [8, address], [8, length], [8, iova ?? 0n]]);
    this.bench.ioctl(this.iommufd.fd, IOAS_MAP, request);
    return `iova=${hex(wide(request, 32))}`;
  }

  unmap(iova: bigint, length: bigint, ioas = this.ioas): string {
    return `unmapped=${hex(this.iommufd.ioasUnmap(ioas, iova, length))}`;
  }

  ranges(ioas = this.ioas): string {
    return rangesText(this.iommufd.ioasIovaRanges(ioas));
  }
}

export function invalidated({ errno, handled }: InvalidateResult): Answer {
  return answer(errno, `entry_num=${handled}`);
}

export function rangesText({ ranges, alignment }: { ranges: readonly IovaRange[]; alignment: bigint }): string {
  return `${ranges.map(({ start, last }) => `${hex(start)}-${hex(last)}`).join(" ")} align=${alignment}`;
}

/** Little-endian 64-bit words. */
export function words64(...words: readonly bigint[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * words.length));
  words.forEach((word, index) => view.setBigUint64(8 * index, word, true));
  return new Uint8Array(view.buffer);
}

/** Little-endian 32-bit words. */
export function bytes32(words: ArrayLike<number>): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * words.length));
  for (let index = 0; index < words.length; index++) {
    view.setUint32(4 * index, words[index] >>> 0, true);
  }
  return new Uint8Array(view.buffer);
}
