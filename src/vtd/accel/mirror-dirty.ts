/** Which guest-physical pages were written through a mirror: the host tells of IOVAs. */
import { DIRTY_BITMAP_NO_CLEAR, type DirtySource, type Iommufd, type IommufdDevice } from "../../iommufd/index.js";
import { SS_W } from "../spec/index.js";
import type { Mapping, MappingIndex } from "./mappings.js";

/** Bytes of a page of a dirty bitmap. */
const PAGE = 4096;

/** Bytes that are asked for at once. */
const LONGEST_RUN = 2 ** 30;

export class MirrorDirty implements DirtySource {
  /** Of the device, which may be closed before. */
  private readonly iommufd: Iommufd;

  constructor(
    private readonly device: IommufdDevice,
    private readonly hwptId: number,
    private readonly mapped: MappingIndex,
  ) {
    this.iommufd = device.iommufd;
    if (device.tracksDirty) {
      device.addDirtySource(this);
    }
  }

  /** The mirror goes, with all that is mapped. */
  close(): void {
    if (this.device.tracksDirty) {
      this.device.removeDirtySource(this);
      for (const mapping of this.mapped.all()) {
        this.unmapped(mapping);
      }
    }
  }

  /** What goes with a mapping is not read before: all that could be written counts as written. */
  unmapped(mapping: Mapping): void {
    if (this.device.tracksDirty && (mapping.access & SS_W) !== 0) {
      this.device.noteDirty(mapping.gpa, mapping.bytes);
    }
  }

  setTracking(on: boolean): void {
    this.iommufd.hwptSetDirtyTracking(this.hwptId, on);
  }

  /** The host tells of ranges of IOVAs that are mapped without a gap; its bits are brought back by the mappings. */
  read(address: number, bitmap: Uint8Array, clear: boolean): void {
    const end = address + bitmap.length * 8 * PAGE;
    const meant = [...this.mapped.all()].filter((one) => (one.access & SS_W) !== 0 && one.gpa < end && one.gpa + one.bytes > address);
    for (const { start, bytes } of runsOf(meant)) {
      const bits = new Uint8Array(Math.ceil(bytes / PAGE / 8));
      try {
        this.iommufd.hwptGetDirtyBitmap({
          hwptId: this.hwptId,
          flags: clear ? 0 : DIRTY_BITMAP_NO_CLEAR,
          iova: BigInt(start),
          length: BigInt(bytes),
          pageSize: BigInt(PAGE),
          bitmap: bits,
        });
      } finally {
        // Refused on the way, what the host has told is clean there already.
        this.translate(start, bits, address, bitmap, clear);
      }
    }
  }

  private translate(start: number, bits: Uint8Array, address: number, bitmap: Uint8Array, clear: boolean): void {
    for (const one of this.mapped.within(start, start + bits.length * 8 * PAGE - 1)) {
      for (let done = 0; done < one.bytes; done += PAGE) {
        const bit = (one.iova + done - start) / PAGE;
        if (bit < 0 || bit >= bits.length * 8 || (bits[bit >> 3] & (1 << (bit & 7))) === 0) {
          continue;
        }
        const page = (one.gpa + done - address) / PAGE;
        if (page >= 0 && page < bitmap.length * 8) {
          bitmap[page >> 3] |= 1 << (page & 7);
        } else if (clear) {
          // Beside what was asked for, and clean in the host's table now.
          this.device.noteDirty(one.gpa + done, PAGE);
        }
      }
    }
  }
}

/** Mappings that follow one another, as ranges of IOVAs of a size that a bitmap has. */
function runsOf(mappings: Mapping[]): Array<{ start: number; bytes: number }> {
  const runs: Array<{ start: number; bytes: number }> = [];
  for (const one of mappings.sort((a, b) => a.iova - b.iova)) {
    const last = runs.at(-1);
    if (last !== undefined && last.start + last.bytes === one.iova && last.bytes < LONGEST_RUN) {
      last.bytes += one.bytes;
    } else {
      runs.push({ start: one.iova, bytes: one.bytes });
    }
  }
  return runs;
}
