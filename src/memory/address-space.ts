/** A physical address space: what a tree of regions renders to, accesses to it, and those who listen to what is mapped where. */
import { littleEndian, mmioRead, mmioWrite, toLittleEndian } from "./access.js";
import { type DmaAttributes, DMA_DECODE_ERROR, DMA_OK, type DmaSpace } from "./dma.js";
import type { MemoryRegion, RegionFollower } from "./region.js";
import { difference, type MemorySection, render, search, withoutDiscarded } from "./rendering.js";

/** Where address spaces end, exclusive: physical addresses are numbers. */
const ADDRESS_LIMIT = 1n << 52n;

export interface MemoryListener {
  /**
   * A section has come to be. May throw where it is `required` (told by `addListener`, `addWhole` or `populate`):
   * then everything is taken back. Else it is the listener's to have logged.
   */
  add(section: MemorySection, required: boolean): void;
  remove(section: MemorySection): void;
}

export class AddressSpace implements DmaSpace, RegionFollower {
  readonly kind = "memory";
  private flat: MemorySection[] = [];
  /** The same without what is discarded, and discardable RAM by granules: what listeners are told. */
  private populated: MemorySection[] = [];
  private readonly listeners: MemoryListener[] = [];
  private last: MemorySection | null = null;

  constructor(
    readonly name: string,
    readonly root: MemoryRegion,
  ) {
    root.attachSpace(this);
    this.rebuild();
  }

  sections(): readonly MemorySection[] {
    return this.flat;
  }

  /** The sections that devices of the host may be given: discarded RAM is left out. */
  populatedSections(): readonly MemorySection[] {
    return this.populated;
  }

  /** Like `find`, among those. */
  findPopulated(address: number): MemorySection | null {
    return this.populated === this.flat ? this.find(address) : search(this.populated, address);
  }

  /** Tells the listener all sections now, in address order, and every change from now on. When it throws, it is taken off again. */
  addListener(listener: MemoryListener): void {
    const told: MemorySection[] = [];
    try {
      for (const section of this.populated) {
        listener.add(section, true);
        told.push(section);
      }
    } catch (error) {
      for (const section of told.reverse()) {
        listener.remove(section);
      }
      throw error;
    }
    this.listeners.push(listener);
  }

  /** Tells the listener the removal of all sections, and no more from then on. */
  removeListener(listener: MemoryListener): void {
    const index = this.listeners.indexOf(listener);
    if (index >= 0) {
      this.listeners.splice(index, 1);
      for (const section of [...this.populated].reverse()) {
        listener.remove(section);
      }
    }
  }

  /** Frees the space: it no longer follows its root. */
  close(): void {
    for (const listener of [...this.listeners]) {
      this.removeListener(listener);
    }
    this.root.detachSpace(this);
  }

  find(address: number): MemorySection | null {
    const last = this.last;
    if (last !== null && address >= last.address && address < last.address + last.size) {
      return last;
    }
    const found = search(this.flat, address);
    if (found !== null) {
      this.last = found;
    }
    return found;
  }

  /** An access of a CPU or of a device without IOMMU. Returns DMA_OK or DMA_DECODE_ERROR; `out` is zero where nothing answers. */
  readBytes(address: number, out: Uint8Array, attributes?: DmaAttributes): number {
    let done = 0;
    while (done < out.length) {
      const section = this.find(address + done);
      if (section === null) {
        out.fill(0, done);
        return DMA_DECODE_ERROR;
      }
      const at = address + done - section.address;
      const step = Math.min(out.length - done, section.size - at);
      const { region } = section;
      if (region.ram !== null) {
        region.ram.read(region.ramOffset + section.offset + at, out.subarray(done, done + step));
      } else {
        mmioRead(region.handler!, section.offset + at, out.subarray(done, done + step), attributes);
      }
      done += step;
    }
    return DMA_OK;
  }

  writeBytes(address: number, data: Uint8Array, attributes?: DmaAttributes): number {
    let done = 0;
    while (done < data.length) {
      const section = this.find(address + done);
      if (section === null) {
        return DMA_DECODE_ERROR;
      }
      const at = address + done - section.address;
      const step = Math.min(data.length - done, section.size - at);
      const { region } = section;
      if (region.kind === "ram") {
        region.ram!.write(region.ramOffset + section.offset + at, data.subarray(done, done + step));
      } else if (region.kind === "mmio") {
        mmioWrite(region.handler!, section.offset + at, data.subarray(done, done + step), attributes);
      }
      done += step;
    }
    return DMA_OK;
  }

  /** One register-sized access (1, 2, 4, 8 bytes). Where nothing answers a read gives 0. */
  readWord(address: number, size: number): bigint {
    const section = this.find(address);
    if (section !== null && section.region.kind === "mmio" && address % size === 0) {
      return section.region.handler!.read(section.offset + address - section.address, size);
    }
    const bytes = new Uint8Array(size);
    this.readBytes(address, bytes);
    return littleEndian(bytes);
  }

  writeWord(address: number, size: number, value: bigint): void {
    const section = this.find(address);
    if (section !== null && section.region.kind === "mmio" && address % size === 0) {
      section.region.handler!.write(section.offset + address - section.address, size, value);
      return;
    }
    this.writeBytes(address, toLittleEndian(value, size));
  }

  read(iova: bigint, out: Uint8Array, attributes?: DmaAttributes): number {
    return iova + BigInt(out.length) > ADDRESS_LIMIT ? DMA_DECODE_ERROR : this.readBytes(Number(iova), out, attributes);
  }

  write(iova: bigint, data: Uint8Array, attributes?: DmaAttributes): number {
    return iova + BigInt(data.length) > ADDRESS_LIMIT ? DMA_DECODE_ERROR : this.writeBytes(Number(iova), data, attributes);
  }

  translate(iova: bigint): number | null {
    return iova < ADDRESS_LIMIT && this.find(Number(iova)) !== null ? Number(iova) : null;
  }

  /**
   * Renders the tree anew and tells the listeners what went and what came. Called by the regions.
   * @param whole throws what a listener throws, after telling all of them the opposite; the space is then as before
   */
  rebuild(whole = false): void {
    const before = { flat: this.flat, populated: this.populated };
    this.flat = render(this.root);
    this.populated = withoutDiscarded(this.flat);
    this.last = null;
    const { gone, come } = difference(before.populated, this.populated);
    const undo: Array<() => void> = [];
    try {
      for (const listener of this.listeners) {
        for (const section of [...gone].reverse()) {
          listener.remove(section);
          undo.push(() => listener.add(section, false));
        }
        for (const section of come) {
          listener.add(section, whole);
          undo.push(() => listener.remove(section));
        }
      }
    } catch (error) {
      if (whole) {
        ({ flat: this.flat, populated: this.populated } = before);
        this.last = null;
        undo.reverse().forEach((step) => step());
      }
      throw error;
    }
  }
}
