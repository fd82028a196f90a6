/**
 * An IOAS that mirrors an address space of the machine, and the stage-2 tables on it: one for each
 * physical IOMMU, shared by all functions that it can serve; and one for each owner of a nesting parent.
 */
import {
  DIRTY_BITMAP_NO_CLEAR,
  type DirtySource,
  hostError,
  HostError,
  HwInfoType,
  HwInfoVtdFlags,
  HwptAllocFlags,
  HwptDataType,
  HW_INFO_VTD,
  HW_INFO_VTD_BYTES,
  type HwInfo,
  type Iommufd,
  mapSourceOf,
  refusalOf,
  type VfioDevice,
} from "../iommufd/index.js";
import type { AddressSpace, DeviceMemory, MemoryListener, MemorySection } from "../memory/index.js";
import { Graveyard } from "../nesting/index.js";
import type { ViommuFlags } from "../pci/index.js";
import { hex, type Log } from "../support/index.js";
import { DIRTY_PAGE, DirtyPages } from "./dirty-pages.js";

/** What IOVAs and lengths are multiples of. */
const PAGE = 4096;

interface ParentTable {
  readonly hwptId: number;
  readonly hostIommu: string | null;
  readonly flags: number;
  /** ViommuFlags.parentOwner. */
  readonly owner: object | undefined;
  users: number;
}

export class IoAddressSpace {
  private readonly parents: ParentTable[] = [];
  private readonly listener: MemoryListener;
  private readonly graveyard: Graveyard;
  /** Sections that are mapped, by their address. */
  private readonly mapped = new Map<number, MemorySection>();
  /** Read-only sections that were left out and not told of yet. */
  private readonly omitted: MemorySection[] = [];
  private tracking = false;
  private readonly dirty = new DirtyPages();
  /** The space is being made: what is left out is told of when it is there. */
  private making = true;

  private constructor(
    readonly iommufd: Iommufd,
    readonly ioasId: number,
    private readonly memory: AddressSpace,
    private readonly log: Log,
    private readonly mapsReadOnly: boolean,
  ) {
    this.graveyard = new Graveyard(log, "vfio.destroy");
    this.listener = { add: (section, required) => this.map(section, required), remove: (section) => this.unmap(section) };
  }

  /** Makes the IOAS and maps all RAM and, where `mapsReadOnly`, ROM. Throws HostError, leaving nothing behind. */
  static make(iommufd: Iommufd, memory: AddressSpace, log: Log, mapsReadOnly = true): IoAddressSpace {
    const space = new IoAddressSpace(iommufd, iommufd.ioasAlloc(), memory, log, mapsReadOnly);
    try {
      memory.addListener(space.listener);
      space.making = false;
      space.warnOmitted();
    } catch (error) {
      space.destroy(space.ioasId, "IOAS");
      throw error;
    }
    return space;
  }

  /**
   * Attaches a device to a stage-2 table: one that is there, of the same owner, and that its IOMMU takes, or a new
   * one. Returns the table's HWPT id. Throws HostError, leaving nothing behind.
   */
  attach(device: VfioDevice, devId: number, hostIommu: string | null, flags: number, owner?: object): number {
    for (const parent of this.parents) {
      if (parent.hostIommu === hostIommu && parent.flags === flags && parent.owner === owner && this.takes(device, parent.hwptId)) {
        parent.users++;
        return parent.hwptId;
      }
    }
    const hwptId = this.iommufd.hwptAlloc({ flags, devId, ptId: this.ioasId, dataType: HwptDataType.NONE, data: new Uint8Array(0) });
    try {
      if (this.tracking && (flags & HwptAllocFlags.DIRTY_TRACKING) !== 0) {
        this.iommufd.hwptSetDirtyTracking(hwptId, true);
      }
      device.attach(hwptId);
    } catch (error) {
      this.destroy(hwptId, "stage-2 HWPT");
      throw error;
    }
    this.parents.push({ hwptId, hostIommu, flags, owner, users: 1 });
    return hwptId;
  }

  /** The stage-2 tables on it, and what they are for. */
  tables(): Array<{ readonly hwptId: number; readonly what: string }> {
    return this.parents.map(({ hwptId, flags }) => ({ hwptId, what: (flags & HwptAllocFlags.NEST_PARENT) === 0 ? "stage 2" : "parent" }));
  }

  /** Attaches to a table that is there. False where the host says that it does not fit the device (EINVAL), for its coherency or another feature. */
  private takes(device: VfioDevice, hwptId: number): boolean {
    try {
      device.attach(hwptId);
      return true;
    } catch (error) {
      if (error instanceof HostError && error.errno === "EINVAL") {
        return false;
      }
      throw error;
    }
  }

  /**
   * Dirty tracking of all tables that were made for it, of those to come too. Throws HostError; then it is as
   * before.
   */
  setDirtyTracking(on: boolean): void {
    const changed: Array<(on: boolean) => void> = [];
    const tables = this.tracked().map((parent) => (state: boolean) => this.iommufd.hwptSetDirtyTracking(parent.hwptId, state));
    const mirrors = this.dirty.all().map((source) => (state: boolean) => source.setTracking(state));
    try {
      for (const change of [...tables, ...mirrors]) {
        change(on);
        changed.push(change);
      }
    } catch (error) {
      for (const change of changed) {
        refusalOf(() => change(!on));
      }
      throw error;
    }
    this.tracking = on;
    this.dirty.forget();
  }

  addDirtySource(source: DirtySource): void {
    if (this.tracking) {
      source.setTracking(true);
    }
    this.dirty.add(source);
  }

  removeDirtySource(source: DirtySource): void {
    this.dirty.remove(source);
  }

  noteDirty(address: number, bytes: number): void {
    if (this.tracking) {
      this.dirty.note(address, bytes);
    }
  }

  /**
   * Ors the pages that devices have written since the last reading into `bitmap`: bit n is the page of 4 KiB n pages
   * behind `address` (guest-physical, bytes); `clear`: from then on they count as clean. Throws HostError; what is
   * in the bitmap then is found again by the next reading.
   */
  readDirtyPages(address: number, bitmap: Uint8Array, clear: boolean): void {
    try {
      for (const parent of this.tracked()) {
        this.iommufd.hwptGetDirtyBitmap({
          hwptId: parent.hwptId,
          flags: clear ? 0 : DIRTY_BITMAP_NO_CLEAR,
          iova: BigInt(address),
          length: BigInt(bitmap.length * 8 * DIRTY_PAGE),
          pageSize: BigInt(DIRTY_PAGE),
          bitmap,
        });
      }
      this.dirty.read(address, bitmap, clear);
    } catch (error) {
      if (clear) {
        // Clean in the host's tables by now, and nobody gets the bitmap.
        this.dirty.noteAll(address, bitmap);
      }
      throw error;
    }
  }

  private tracked(): ParentTable[] {
    return this.parents.filter((parent) => (parent.flags & HwptAllocFlags.DIRTY_TRACKING) !== 0);
  }

  /** A device no longer uses the table (it is closed or detached). */
  release(hwptId: number): void {
    const index = this.parents.findIndex((parent) => parent.hwptId === hwptId);
    if (index >= 0 && --this.parents[index].users === 0) {
      this.parents.splice(index, 1);
      this.destroy(hwptId, "stage-2 HWPT");
    }
  }

  free(): void {
    this.memory.removeListener(this.listener);
    for (const parent of this.parents.splice(0)) {
      this.destroy(parent.hwptId, "stage-2 HWPT");
    }
    this.destroy(this.ioasId, "IOAS");
  }

  /** @param required a refusal of the host ends what brought the section; else it is a warning */
  private map(section: MemorySection, required: boolean): void {
    const { region } = section;
    if (region.device !== null) {
      this.mapRegisters(section, region.device);
      return;
    }
    if (region.ram === null) {
      return;
    }
    if (!this.mapsReadOnly && region.kind !== "ram") {
      this.omitted.push(section);
      if (!this.making) {
        this.warnOmitted();
      }
      return;
    }
    try {
      this.iommufd.ioasMap({
        ioasId: this.ioasId,
        source: { address: region.ram.hostAddress + region.ramOffset + section.offset },
        length: BigInt(section.size),
        iova: BigInt(section.address),
        readable: true,
        writable: region.kind === "ram",
      });
      this.mapped.set(section.address, section);
    } catch (caught) {
      const error = hostError(caught);
      const what = `${region.name} at ${hex(section.address)}, ${hex(section.size)} bytes`;
      if (required) {
        throw new HostError(error.operation, error.errno, `${what}${meaning(error)}`);
      }
      this.log.warn(`vfio: ${error.message}: ${what} is not reachable by DMA${meaning(error)}`);
    }
  }

  /**
   * Registers of a function, for other functions: by their dma-buf, or by this process's mapping of them where there is
   * none. A host that can do neither is no reason against the function.
   */
  private mapRegisters(section: MemorySection, device: DeviceMemory): void {
    const { address, size, offset } = section;
    if ([address, size, offset].some((value) => value % PAGE !== 0)) {
      return;
    }
    const byFile = mapSourceOf(section);
    const byAddress = device.address === null ? null : { address: Number(device.address) + offset };
    let refusal: HostError | null = null;
    for (const source of [byFile, byAddress]) {
      if (source === null) {
        continue;
      }
      refusal = refusalOf(() => void this.iommufd.ioasMap({ ioasId: this.ioasId, source, length: BigInt(size), iova: BigInt(address), readable: true, writable: true }));
      if (refusal === null) {
        this.mapped.set(address, section);
        return;
      }
    }
    if (refusal !== null) {
      this.log.warnOnce(`vfio: ${refusal.operation}: ${refusal.errno}: registers of passed-through functions are not reached by DMA of others (peer to peer), which needs dma-bufs of VFIO: Linux 6.19 or newer, with CONFIG_VFIO_PCI_DMABUF`);
    }
  }

  /** Read-only ranges that the IOAS does without, listed once each. */
  private warnOmitted(): void {
    const ranges = this.omitted.splice(0);
    if (ranges.length > 0) {
      const list = ranges.map((section) => `${section.region.name} at ${hex(section.address)} (${hex(section.size)} bytes)`).join(", ");
      this.log.warnOnce(`vfio: erratum 772415: nesting parents of the host IOMMU take no read-only mappings; functions behind it cannot reach ${list} by DMA`);
    }
  }

  private unmap(section: MemorySection): void {
    if (!this.mapped.delete(section.address)) {
      return;
    }
    const refusal = refusalOf(() => void this.iommufd.ioasUnmap(this.ioasId, BigInt(section.address), BigInt(section.size)));
    if (refusal !== null) {
      this.log.warn(`vfio: ${refusal.message}: ${section.region.name} at ${hex(section.address)} stays mapped until the IOAS goes`);
    }
  }

  private destroy(id: number, what: string): void {
    this.graveyard.destroy(this.iommufd, id, what);
  }
}

/** What an errno of IOAS_MAP means in practice, where experience tells. */
function meaning(error: HostError): string {
  switch (error.errno) {
    case "ENOMEM":
      return "; locked memory is limited: RLIMIT_MEMLOCK has to hold the guest's RAM once for each iommufd";
    case "EEXIST":
      return "; another mapping overlaps it";
    default:
      return "";
  }
}

/** HWPT_ALLOC flags of a function's stage-2 table. */
export function parentFlags(wanted: ViommuFlags, dirtyTracking: boolean): number {
  return (
    (wanted.wantNestingParent ? HwptAllocFlags.NEST_PARENT : 0) |
    (wanted.wantPasidAttach === true ? HwptAllocFlags.PASID : 0) |
    (dirtyTracking ? HwptAllocFlags.DIRTY_TRACKING : 0)
  );
}

/** The host IOMMU has erratum 772415: a nesting parent must not have read-only mappings (linux/iommufd.h, IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17). */
export function refusesReadOnlyMappings(info: HwInfo): boolean {
  if (info.type !== HwInfoType.INTEL_VTD || info.data.length < HW_INFO_VTD_BYTES) {
    return false;
  }
  const view = new DataView(info.data.buffer, info.data.byteOffset, info.data.byteLength);
  return (view.getUint32(HW_INFO_VTD.FLAGS, true) & HwInfoVtdFlags.ERRATA_772415_SPR17) !== 0;
}
