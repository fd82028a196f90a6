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

  private constructor(
    readonly name: string,
    readonly kind: RegionKind,
    /** Bytes. */
    readonly size: number,
    readonly ram: RamBlock | null,
    readonly ramOffset: number,
    readonly handler: MmioHandler | null,
    readonly target: MemoryRegion | null,
  ) {
    target?.owners.add(this);
  }

  static ram(name: string, ram: RamBlock, offset = 0, size = ram.size - offset): MemoryRegion {
    return new MemoryRegion(name, "ram", size, ram, offset, null, null);
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

  private changed(): void {
    for (const space of this.spaces) {
      space.rebuild();
    }
    for (const owner of this.owners) {
      owner.changed();
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
  /** A section has come to be. May throw: then the section is taken back where it was added by `addListener`, else it is the listener's to have logged. */
  add(section: MemorySection): void;
  remove(section: MemorySection): void;
}

export class AddressSpace implements DmaSpace {
  readonly kind = "memory";
  private flat: MemorySection[] = [];
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

  /** Tells the listener all sections now, in address order, and every change from now on. When it throws, it is taken off again. */
  addListener(listener: MemoryListener): void {
    const told: MemorySection[] = [];
    try {
      for (const section of this.flat) {
        listener.add(section);
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
      for (const section of [...this.flat].reverse()) {
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
    let low = 0;
    let high = this.flat.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const section = this.flat[middle];
      if (address < section.address) {
        high = middle - 1;
      } else if (address >= section.address + section.size) {
        low = middle + 1;
      } else {
        this.last = section;
        return section;
      }
    }
    return null;
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

  /** Renders the tree anew and tells the listeners what went and what came. Called by the regions. */
  rebuild(): void {
    const before = this.flat;
    const after = render(this.root);
    this.flat = after;
    this.last = null;
    const { gone, come } = difference(before, after);
    for (const listener of this.listeners) {
      for (const section of [...gone].reverse()) {
        listener.remove(section);
      }
      for (const section of come) {
        listener.add(section);
      }
    }
  }
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
