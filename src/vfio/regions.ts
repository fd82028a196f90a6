/** Registers of a passed-through function: its regions through VFIO, and its BARs in the guest's address space. */
import { hostError, type VfioDevice, VfioRegion } from "../iommufd/index.js";
import { MemoryRegion, type MmioHandler } from "../memory/index.js";
import type { Bar, MsixCapability } from "../pci/index.js";
import type { Log } from "../support/index.js";

/** In a base address register (PCIe 7.5.1.2.1). */
const IO_SPACE = 0x1;
const TYPE_64 = 0x4;
const PREFETCHABLE = 0x8;

export class FunctionRegions {
  /**
   * @param name for messages
   * @param accessed a register in a BAR has been read or written
   */
  constructor(
    private readonly device: VfioDevice,
    private readonly name: string,
    private readonly log: Log,
    private readonly accessed: () => void,
  ) {}

  /** Reads a region; all ones where the host refuses, as from a device that does not answer (PCIe 2.3.2). */
  read(index: number, offset: number, out: Uint8Array): void {
    try {
      this.device.regionRead(index, offset, out);
    } catch (error) {
      const { message } = hostError(error);
      out.fill(0xff);
      this.log.warnLimited(`vfio.region ${this.device.address}`, `${this.name}: read of region ${index} at 0x${offset.toString(16)}: ${message}`);
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

  private barRegion(index: number, size: number, msix: MsixCapability | null): MemoryRegion {
    const registers: MmioHandler = {
      read: (offset, bytes) => {
        const out = new Uint8Array(bytes);
        this.read(index, offset, out);
        this.accessed();
        return out.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
      },
      write: (offset, bytes, value) => {
        const data = Uint8Array.from({ length: bytes }, (_unused, i) => Number((value >> BigInt(8 * i)) & 0xffn));
        this.write(index, offset, data);
        this.accessed();
      },
    };
    const { address } = this.device;
    const region = MemoryRegion.container(`${address} BAR ${index}`, size);
    region.add(0, MemoryRegion.mmio(`${address} BAR ${index} registers`, size, registers));
    if (msix !== null && msix.options.tableBar === index) {
      region.add(msix.options.tableOffset, MemoryRegion.mmio("msix-table", msix.tableBytes, msix.table), 1);
    }
    if (msix !== null && msix.options.pbaBar === index) {
      region.add(msix.options.pbaOffset, MemoryRegion.mmio("msix-pba", msix.pbaBytes, msix.pba), 1);
    }
    return region;
  }
}
