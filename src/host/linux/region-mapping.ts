/** Regions of a function in this process's memory: which parts the kernel lets be mapped, and their mappings. */
import type { MappedArea, RegionArea, RegionMapping } from "../../iommufd/index.js";
import { type Mapping, MOST_VIEW_BYTES } from "../../linux/index.js";
import type { KernelPort } from "./kernel-port.js";
import { CAPABILITY, SPARSE_MMAP } from "./structures.js";

/** The areas of a sparse region among the capabilities behind its information (bounded: each is looked at once); null: it is none. */
export function sparseAreas(bytes: Buffer, first: number): RegionArea[] | null {
  const { ID, NR_AREAS, AREAS, AREA_BYTES, AREA_OFFSET, AREA_SIZE } = SPARSE_MMAP;
  for (let at = first, last = 0; at > last && at + AREAS <= bytes.length; last = at, at = bytes.readUInt32LE(at + CAPABILITY.NEXT)) {
    if (bytes.readUInt16LE(at + CAPABILITY.ID) === ID) {
      const room = Math.floor((bytes.length - at - AREAS) / AREA_BYTES);
      return Array.from({ length: Math.min(room, bytes.readUInt32LE(at + NR_AREAS)) }, (_unused, n) => ({
        offset: Number(bytes.readBigUInt64LE(at + AREAS + n * AREA_BYTES + AREA_OFFSET)),
        size: Number(bytes.readBigUInt64LE(at + AREAS + n * AREA_BYTES + AREA_SIZE)),
      })).filter(({ size }) => size > 0);
    }
  }
  return null;
}

/** A region as far as it may be mapped. */
export class LinuxMapping implements RegionMapping {
  readonly areas: MappedArea[] = [];
  private readonly mapped: Mapping[] = [];

  constructor(
    private readonly port: KernelPort,
    private readonly onUnmapped: (mapping: LinuxMapping) => void,
  ) {}

  add({ offset, size }: RegionArea, mapping: Mapping): void {
    const { port } = this;
    this.mapped.push(mapping);
    this.areas.push({
      offset,
      size,
      address: Number(mapping.address),
      /** The first 4 GiB of a larger one, which is what a view may have. */
      get buffer() {
        return port.view(mapping, Math.min(size, MOST_VIEW_BYTES));
      },
    });
  }

  unmap(): void {
    this.mapped.splice(0).forEach((mapping) => this.port.unmap(mapping));
    this.onUnmapped(this);
  }
}
