/**
 * A physical address space made of regions (RAM, ROM, registers, containers, aliases) and those who
 * listen to what is mapped where. Like QEMU's memory API: a tree of regions renders to a flat list of
 * disjoint sections; where regions overlap the higher priority wins, then the one added later.
 */
import { type DmaAttributes, DMA_DECODE_ERROR, DMA_OK, type DmaSpace } from "./dma.js";
import type { RamBlock } from "./ram.js";

/**
 * Registers: little-endian, `size` 1, 2, 4 or 8 bytes, `offset` in bytes from the region's start, naturally
 * aligned. Never throws for what a guest does. `attributes` tell which device it is whose DMA arrives (an
 * MSI doorbell needs it); a CPU has none.
 */
export interface MmioHandler {
  read(offset: number, size: number, attributes?: DmaAttributes): bigint;
  write(offset: number, size: number, value: bigint, attributes?: DmaAttributes): void;
}

export type RegionKind = "ram" | "rom" | "mmio" | "container" | "alias";

export class MemoryRegion {
  /** Later ones lie over earlier ones: by priority, then by order of addition. */
  private children: Array<{ offset: number; region: MemoryRegion; priority: number }> = [];
  private readonly owners = new Set<MemoryRegion>();
  private readonly spaces = new Set<AddressSpace>();
  private enabledFlag = true;
  /** Granules that are discarded, by number; null: none can be. */
  private readonly discarded: Set<number> | null;

  private constructor(
    readonly name: string,
    readonly kind: RegionKind,
    /** Bytes. */
    readonly size: number,
    readonly ram: RamBlock | null,
    readonly ramOffset: number,
    readonly handler: MmioHandler | null,
    readonly target: MemoryRegion | null,
    /** Bytes of what is discarded and populated at a time, of RAM that can be; 0: it is always populated. */
    readonly granule = 0,
  ) {
    this.discarded = granule === 0 ? null : new Set();
    target?.owners.add(this);
  }

  static ram(name: string, ram: RamBlock, offset = 0, size = ram.size - offset): MemoryRegion {
    return new MemoryRegion(name, "ram", size, ram, offset, null, null);
  }

  /**
   * RAM of which granules can be discarded, as QEMU's with a RamDiscardManager (virtio-mem): listeners are told each
   * granule as a section, for a host unmaps what it has mapped whole. All of it is populated at first.
   * @param granule bytes: a multiple of 4096 that divides the size
   */
  static discardableRam(name: string, ram: RamBlock, granule: number): MemoryRegion {
    if (granule <= 0 || granule % 4096 !== 0 || ram.size % granule !== 0) {
      throw new RangeError(`RAM ${name}: a granule of ${granule} bytes does not divide its ${ram.size} into pages`);
    }
    return new MemoryRegion(name, "ram", ram.size, ram, 0, null, null, granule);
  }

  /** Reads as RAM, writes are dropped; a passed-through function may not write it. */
  static rom(name: string, ram: RamBlock, offset = 0, size = ram.size - offset): MemoryRegion {
    return new MemoryRegion(name, "rom", size, ram, offset, null, null);
  }

  static mmio(name: string, size: number, handler: MmioHandler): MemoryRegion {
    return new MemoryRegion(name, "mmio", size, null, 0, handler, null);
  }

  static container(name: string, size: number): MemoryRegion {
    return new MemoryRegion(name, "container", size, null, 0, null, null);
  }

  /** A view of `size` bytes of another region from `offset` on. */
  static alias(name: string, target: MemoryRegion, offset: number, size: number): MemoryRegion {
    return new MemoryRegion(name, "alias", size, null, offset, null, target);
  }

  add(offset: number, region: MemoryRegion, priority = 0): void {
    const at = this.children.findIndex((child) => child.priority > priority);
    this.children.splice(at < 0 ? this.children.length : at, 0, { offset, region, priority });
    region.owners.add(this);
    this.changed();
  }

  /** `add` where every listener has to take the region: throws what the first of them that does not has thrown, and then all is as before. */
  addWhole(offset: number, region: MemoryRegion, priority = 0): void {
    const at = this.children.findIndex((child) => child.priority > priority);
    this.children.splice(at < 0 ? this.children.length : at, 0, { offset, region, priority });
    region.owners.add(this);
    try {
      this.changed(true);
    } catch (error) {
      this.remove(region);
      throw error;
    }
  }

  /**
   * Gives `bytes` of discardable RAM from `offset` on up: listeners are told that they go; a CPU reads and writes
   * them still. What is discarded already stays so.
   */
  discard(offset: number, bytes: number): void {
    const { discarded } = this;
    for (const granule of this.granules(offset, bytes)) {
      discarded!.add(granule);
    }
    this.changed();
  }

  /** Takes discarded RAM back. Throws what a listener has thrown that cannot take it; then all is as before. */
  populate(offset: number, bytes: number): void {
    const { discarded } = this;
    const back = this.granules(offset, bytes).filter((granule) => discarded!.delete(granule));
    try {
      this.changed(true);
    } catch (error) {
      back.forEach((granule) => discarded!.add(granule));
      this.changed();
      throw error;
    }
  }

  /** The granule at `offset` is discarded. */
  isDiscarded(offset: number): boolean {
    return this.discarded?.has(Math.floor(offset / this.granule)) === true;
  }

  private granules(offset: number, bytes: number): number[] {
    const { granule } = this;
    if (granule === 0) {
      throw new RangeError(`${this.name} is not RAM that can be discarded`);
    }
    if (!(offset >= 0) || offset % granule !== 0 || !(bytes > 0) || bytes % granule !== 0 || offset + bytes > this.size) {
      throw new RangeError(`${this.name}: ${bytes} bytes at ${offset} are not granules of ${granule} bytes in it`);
    }
    return Array.from({ length: bytes / granule }, (_, index) => offset / granule + index);
  }

  remove(region: MemoryRegion): void {
    this.children = this.children.filter((child) => child.region !== region);
    region.owners.delete(this);
    this.changed();
  }

  get enabled(): boolean {
    return this.enabledFlag;
  }

  /** A region that is not enabled is as if it were not there. */
  set enabled(value: boolean) {
    if (value !== this.enabledFlag) {
      this.enabledFlag = value;
      this.changed();
    }
  }

  /** What lies in it, the lowest first. */
  get layers(): ReadonlyArray<{ readonly offset: number; readonly region: MemoryRegion; readonly priority: number }> {
    return this.children;
  }

  /** Called by AddressSpace. */
  attachSpace(space: AddressSpace): void {
    this.spaces.add(space);
  }

  detachSpace(space: AddressSpace): void {
    this.spaces.delete(space);
  }

  private changed(whole = false): void {
    for (const space of this.spaces) {
      space.rebuild(whole);
    }
    for (const owner of this.owners) {
      owner.changed(whole);
    }
  }
}

/** A disjoint piece of an address space. */
export interface MemorySection {
  readonly region: MemoryRegion;
  /** Bytes into the region. */
  readonly offset: number;
  /** Address in the space. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
}

export interface MemoryListener {
  /**
   * A section has come to be. May throw where it is `required` (told by `addListener`, `addWhole` or `populate`):
   * then everything is taken back. Else it is the listener's to have logged.
   */
  add(section: MemorySection, required: boolean): void;
  remove(section: MemorySection): void;
}

export class AddressSpace implements DmaSpace {
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
    let result = DMA_OK;
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
      result = DMA_OK;
    }
    return result;
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

/** The section at an address, of a list in address order. */
function search(sections: readonly MemorySection[], address: number): MemorySection | null {
  let low = 0;
  let high = sections.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const section = sections[middle];
    if (address < section.address) {
      high = middle - 1;
    } else if (address >= section.address + section.size) {
      low = middle + 1;
    } else {
      return section;
    }
  }
  return null;
}

/** Sections of discardable RAM cut into granules, without those that are discarded. */
function withoutDiscarded(sections: MemorySection[]): MemorySection[] {
  if (sections.every(({ region }) => region.granule === 0)) {
    return sections;
  }
  return sections.flatMap((section) => {
    const { region, offset, address, size } = section;
    const { granule } = region;
    if (granule === 0) {
      return [section];
    }
    const pieces: MemorySection[] = [];
    for (let at = 0; at < size; ) {
      const step = Math.min(size - at, granule - ((offset + at) % granule));
      if (!region.isDiscarded(offset + at)) {
        pieces.push({ region, offset: offset + at, address: address + at, size: step });
      }
      at += step;
    }
    return pieces;
  });
}

const ADDRESS_LIMIT = 1n << 52n;

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) {
    value = (value << 8n) | BigInt(bytes[i]);
  }
  return value;
}

function toLittleEndian(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) {
    bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
  return bytes;
}

/** Splits a run of bytes into naturally aligned accesses of at most 8 bytes. */
function accessSize(offset: number, left: number): number {
  for (const size of [8, 4, 2]) {
    if (left >= size && offset % size === 0) {
      return size;
    }
  }
  return 1;
}

function mmioRead(handler: MmioHandler, offset: number, out: Uint8Array, attributes?: DmaAttributes): void {
  let done = 0;
  while (done < out.length) {
    const size = accessSize(offset + done, out.length - done);
    out.set(toLittleEndian(handler.read(offset + done, size, attributes), size), done);
    done += size;
  }
}

function mmioWrite(handler: MmioHandler, offset: number, data: Uint8Array, attributes?: DmaAttributes): void {
  let done = 0;
  while (done < data.length) {
    const size = accessSize(offset + done, data.length - done);
    handler.write(offset + done, size, littleEndian(data.subarray(done, done + size)), attributes);
    done += size;
  }
}

/** What of two lists in address order is in one only. */
function difference(before: readonly MemorySection[], after: readonly MemorySection[]): { gone: MemorySection[]; come: MemorySection[] } {
  const gone: MemorySection[] = [];
  const come: MemorySection[] = [];
  let old = 0;
  let now = 0;
  while (old < before.length || now < after.length) {
    const a = before[old] as MemorySection | undefined;
    const b = after[now] as MemorySection | undefined;
    if (a !== undefined && b !== undefined && a.address === b.address && a.size === b.size && a.offset === b.offset && a.region === b.region) {
      old++;
      now++;
    } else if (b === undefined || (a !== undefined && a.address <= b.address)) {
      gone.push(a!);
      old++;
    } else {
      come.push(b);
      now++;
    }
  }
  return { gone, come };
}

/** The tree as disjoint sections in address order. */
function render(root: MemoryRegion): MemorySection[] {
  const sections: MemorySection[] = [];

  /** Index of the first section that ends beyond `address`. */
  function firstBeyond(address: number): number {
    let low = 0;
    let high = sections.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sections[middle].address + sections[middle].size > address) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

  /** Puts a section over what is there; what it covers in part is cut. */
  function overlay(section: MemorySection): void {
    const end = section.address + section.size;
    const first = firstBeyond(section.address);
    const replacement: MemorySection[] = [section];
    let beyond = first;
    for (; beyond < sections.length && sections[beyond].address < end; beyond++) {
      const other = sections[beyond];
      const otherEnd = other.address + other.size;
      if (other.address < section.address) {
        replacement.unshift({ ...other, size: section.address - other.address });
      }
      if (otherEnd > end) {
        const cut = end - other.address;
        replacement.push({ region: other.region, offset: other.offset + cut, address: end, size: otherEnd - end });
      }
    }
    sections.splice(first, beyond - first, ...replacement);
  }

  /** Draws `region`, whose byte 0 is at `base`, clipped to [start, end). */
  function draw(region: MemoryRegion, base: number, start: number, end: number, depth: number): void {
    const from = Math.max(start, base);
    const to = Math.min(end, base + region.size);
    if (!region.enabled || from >= to || depth > 32) {
      return;
    }
    if (region.kind === "alias") {
      draw(region.target!, base - region.ramOffset, from, to, depth + 1);
      return;
    }
    if (region.kind !== "container") {
      overlay({ region, offset: from - base, address: from, size: to - from });
    }
    for (const child of region.layers) {
      draw(child.region, base + child.offset, from, to, depth + 1);
    }
  }

  draw(root, 0, 0, root.size, 0);
  return sections;
}
