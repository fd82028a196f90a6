/** Registers of a function: its regions through VFIO, and its BARs in the guest's address space. */
import { type Errno, hostError, refusalOf, type RegionArea, type RegionFile, type RegionMapping, type VfioDevice, VfioRegion } from "../iommufd/index.js";
import { type DeviceMemory, MemoryRegion, type MmioHandler } from "../memory/index.js";
import type { Bar, MsixCapability } from "../pci/index.js";
import { littleEndian, littleEndianBytes, type Log } from "../support/index.js";

/** In a base address register (PCIe 7.5.1.2.1). */
const IO_SPACE = 0x1;
const TYPE_64 = 0x4;
const PREFETCHABLE = 0x8;

export interface RegionOptions {
  readonly device: VfioDevice;
  /** For messages. */
  readonly name: string;
  readonly log: Log;
  /** Registers may be reached without this process (`x-no-mmap=off`). */
  readonly direct: boolean;
  /** Bytes of a page of the host. */
  readonly pageBytes: number;
  /** A register in a BAR has been read or written by this process. */
  accessed(): void;
}

export class FunctionRegions {
  private readonly mappings: RegionMapping[] = [];
  private readonly files: RegionFile[] = [];
  /** Parts of BARs that others reach directly. */
  private readonly areas: MemoryRegion[] = [];
  private readonly device: VfioDevice;
  private readonly name: string;
  private readonly log: Log;

  constructor(private readonly options: RegionOptions) {
    ({ device: this.device, name: this.name, log: this.log } = options);
  }

  /** Whether processors and other functions reach registers directly; false: every access comes here, and no DMA gets there. */
  set direct(on: boolean) {
    this.areas.forEach((area) => (area.enabled = on));
  }

  /** Gives back what was mapped; the BARs are nowhere in the guest's memory any more. */
  close(): void {
    this.files.splice(0).forEach((file) => file.close());
    this.mappings.splice(0).forEach((mapping) => mapping.unmap());
  }

  /** Without direct accesses while something is done that takes back what is mapped. */
  withoutDirect(act: () => void): void {
    const on = this.areas.filter((area) => area.enabled);
    this.direct = false;
    act();
    on.forEach((area) => (area.enabled = true));
  }

  /** Reads a region; false, with all ones, where the host refuses: as from a device that does not answer (PCIe 2.3.2). */
  read(index: number, offset: number, out: Uint8Array): boolean {
    try {
      this.device.regionRead(index, offset, out);
      return true;
    } catch (error) {
      const { message } = hostError(error);
      out.fill(0xff);
      this.log.warnLimited(`vfio.region ${this.device.address}`, `${this.name}: read of region ${index} at 0x${offset.toString(16)}: ${message}`);
      return false;
    }
  }

  write(index: number, offset: number, data: Uint8Array): void {
    try {
      this.device.regionWrite(index, offset, data);
    } catch (error) {
      const { message } = hostError(error);
      this.log.warnLimited(`vfio.region ${this.device.address}`, `${this.name}: write to region ${index} at 0x${offset.toString(16)} is lost: ${message}`);
    }
  }

  /**
   * The memory BARs of the device. I/O BARs are left out, with a note: no machine here has I/O windows of buses, and
   * registers of I/O space are no memory.
   *
   * @param host configuration space as the host has it
   * @param msix the MSI-X table and pending bits that lie over the device's registers (PCIe 7.7.2)
   */
  bars(host: Uint8Array, msix: MsixCapability | null): Bar[] {
    const bars: Bar[] = [];
    for (let index = VfioRegion.BAR0; index <= VfioRegion.BAR5; index++) {
      const { size } = this.device.regionInfo(index);
      if (size === 0) {
        continue;
      }
      const flags = host[0x10 + 4 * index];
      if ((flags & IO_SPACE) !== 0) {
        this.log.info(`${this.name}: BAR ${index}, ${size} bytes of I/O space, is hidden: the machine has no I/O windows for functions`);
        continue;
      }
      const is64 = (flags & 0x6) === TYPE_64;
      bars.push({ index, size, is64, prefetchable: (flags & PREFETCHABLE) !== 0, region: this.barRegion(index, size, msix) });
      index += is64 ? 1 : 0;
    }
    return bars;
  }

  /** The expansion ROM, read from the device each time: writes are dropped. Null: it has none, or none that the host can read. */
  rom(): { readonly size: number; readonly region: MemoryRegion } | null {
    const { size, readable } = this.device.regionInfo(VfioRegion.ROM);
    if (size === 0 || !readable) {
      return null;
    }
    const read = (offset: number, bytes: number): bigint => {
      const out = new Uint8Array(bytes);
      this.read(VfioRegion.ROM, offset, out);
      return littleEndian(out);
    };
    return { size, region: MemoryRegion.mmio(`${this.device.address} ROM`, size, { read, write: () => {} }) };
  }

  private barRegion(index: number, size: number, msix: MsixCapability | null): MemoryRegion {
    const { accessed } = this.options;
    const registersFrom = (base: number): MmioHandler => ({
      read: (offset, bytes) => {
        const out = new Uint8Array(bytes);
        this.read(index, base + offset, out);
        accessed();
        return littleEndian(out);
      },
      write: (offset, bytes, value) => {
        const data = littleEndianBytes(value, bytes);
        this.write(index, base + offset, data);
        accessed();
      },
    });
    const { address } = this.device;
    const region = MemoryRegion.container(`${address} BAR ${index}`, size);
    region.add(0, MemoryRegion.mmio(`${address} BAR ${index} registers`, size, registersFrom(0)));
    for (const { area, memory } of this.directParts(index, size, msix)) {
      const part = MemoryRegion.device(`${address} BAR ${index} mmaps[${this.areas.length}]`, area.size, registersFrom(area.offset), memory);
      this.areas.push(part);
      region.add(area.offset, part);
    }
    if (msix !== null && msix.options.tableBar === index) {
      region.add(msix.options.tableOffset, MemoryRegion.mmio("msix-table", msix.tableBytes, msix.table), 1);
    }
    if (msix !== null && msix.options.pbaBar === index) {
      region.add(msix.options.pbaOffset, MemoryRegion.mmio("msix-pba", msix.pbaBytes, msix.pba), 1);
    }
    return region;
  }

  /**
   * What of a BAR others may reach: what the host lets be mapped, by whole pages, without those of the MSI-X table and
   * its pending bits, which are this side's (PCIe 7.7.2).
   */
  private directParts(index: number, size: number, msix: MsixCapability | null): Array<{ area: RegionArea; memory: DeviceMemory }> {
    const { direct, pageBytes } = this.options;
    if (!direct || size < pageBytes) {
      return [];
    }
    const { areas } = this.device.regionInfo(index);
    const mapping = areas.length === 0 ? null : this.map(index);
    const within = mapping?.areas ?? [{ offset: 0, size }];
    const taken = msix === null ? [] : trappedRanges(index, msix);
    return within.flatMap((area) =>
      pagesWithout(area, taken, pageBytes).map((part) => ({
        area: part,
        memory: { address: "address" in area ? BigInt(area.address) + BigInt(part.offset - area.offset) : null, file: this.fileOf(index, part) },
      })),
    );
  }

  private map(index: number): RegionMapping | null {
    let mapping: RegionMapping | null = null;
    const refusal = refusalOf(() => (mapping = this.device.regionMap(index)));
    if (refusal !== null) {
      this.log.warn(`${this.name}: BAR ${index} is not mapped, each access to it is trapped: ${refusal.message}`);
    }
    if (mapping !== null) {
      this.mappings.push(mapping);
    }
    return mapping;
  }

  /** Asks for the file when it is first needed, once. */
  private fileOf(index: number, area: RegionArea): DeviceMemory["file"] {
    let asked = false;
    let found: { readonly fd: number; readonly offset: number } | null = null;
    return () => {
      if (!asked) {
        asked = true;
        const refusal = refusalOf(() => {
          const file = this.device.regionFile(index, area);
          this.files.push(file);
          found = { fd: file.fd, offset: 0 };
        });
        if (refusal !== null && !NO_FILES.has(refusal.errno)) {
          this.log.warn(`${this.name}: BAR ${index} is no dma-buf, other functions reach it by its address at most: ${refusal.message}`);
        }
      }
      return found;
    };
  }
}

/** A kernel without dma-bufs of registers, and a function whose registers cannot be one: what is mapped by address tells. */
const NO_FILES: ReadonlySet<Errno> = new Set<Errno>(["ENOTTY", "EOPNOTSUPP"]);

/** Where a BAR has the MSI-X table and the pending bits. */
function trappedRanges(index: number, { options, tableBytes, pbaBytes }: MsixCapability): RegionArea[] {
  return [
    ...(options.tableBar === index ? [{ offset: options.tableOffset, size: tableBytes }] : []),
    ...(options.pbaBar === index ? [{ offset: options.pbaOffset, size: pbaBytes }] : []),
  ];
}

/** The whole pages of an area that have nothing of `taken` in them, as runs. */
function pagesWithout(area: RegionArea, taken: readonly RegionArea[], page: number): RegionArea[] {
  let runs = [{ from: Math.ceil(area.offset / page) * page, to: Math.floor((area.offset + area.size) / page) * page }];
  for (const { offset, size } of taken) {
    const from = Math.floor(offset / page) * page;
    const to = Math.ceil((offset + size) / page) * page;
    runs = runs.flatMap((run) => [
      { from: run.from, to: Math.min(run.to, from) },
      { from: Math.max(run.from, to), to: run.to },
    ].filter((part) => part.from < part.to));
  }
  return runs.filter(({ from, to }) => from < to).map(({ from, to }) => ({ offset: from, size: to - from }));
}
