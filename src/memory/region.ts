/**
 * Regions: RAM, ROM, registers, containers and aliases, in a tree as QEMU's memory API has it. Where regions of a
 * container overlap the higher priority wins, then the one added later.
 */
import type { DmaAttributes } from "./dma.js";
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

/** Registers of a device of the host that others than this process reach without it: processors of a kernel, and other devices by DMA. */
export interface DeviceMemory {
  /** Where the first byte lies in this process's memory; null: nowhere. */
  readonly address: bigint | null;
  /** A file of the bytes (a dma-buf), and where in it the first one is; null: there is none. */
  file(): { readonly fd: number; readonly offset: number } | null;
}

/** What is rendered from a region, and has to be anew when the tree changes: an AddressSpace. */
export interface RegionFollower {
  /** @param whole throws what one of its listeners throws, and is then as before */
  rebuild(whole: boolean): void;
}

export type RegionKind = "ram" | "rom" | "mmio" | "container" | "alias";

export class MemoryRegion {
  /** Later ones lie over earlier ones: by priority, then by order of addition. */
  private children: Array<{ offset: number; region: MemoryRegion; priority: number }> = [];
  private readonly owners = new Set<MemoryRegion>();
  private readonly spaces = new Set<RegionFollower>();
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
    /** Of registers alone. */
    readonly device: DeviceMemory | null = null,
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

  /** Registers that others reach without this process, whose own accesses go through `handler`: QEMU's ram_device. */
  static device(name: string, size: number, handler: MmioHandler, device: DeviceMemory): MemoryRegion {
    return new MemoryRegion(name, "mmio", size, null, 0, handler, null, 0, device);
  }

  /** Devices of the host may write what lies here, where a host can map it. */
  get takesDma(): boolean {
    return this.kind === "ram" || this.device !== null;
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
  attachSpace(space: RegionFollower): void {
    this.spaces.add(space);
  }

  detachSpace(space: RegionFollower): void {
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
