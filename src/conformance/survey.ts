/** What the suite is run on: the host's IOMMU and the function, as their kernel tells of them. */
import { HwCapabilities, HwInfoType, HwptAllocFlags, refusalOf, type Host, type Iommufd, type VfioDevice, VfioIrq, ViommuType } from "../iommufd/index.js";
import { hex } from "../support/index.js";

export type IommuKind = "smmuv3" | "vtd" | "other";

/** Facts that decide which groups are run, and that reasons of differences look at. */
export interface Facts {
  readonly iommu: IommuKind;
  /** GET_HW_INFO: the type's structure as 32-bit words. */
  readonly hwInfo: readonly string[];
  /** A parent and a vIOMMU (SMMUv3) or a parent (VT-d) can be made. */
  readonly nesting: boolean;
  readonly dirtyTracking: boolean;
  readonly pasidBits: number;
  readonly ats: boolean;
  /** Vectors by kind. */
  readonly intx: boolean;
  readonly msi: number;
  readonly msix: number;
  /** VFIO_DEVICE_RESET works. */
  readonly resets: boolean;
  /** Bytes of the BARs and the ROM. */
  readonly regions: readonly string[];
  /** The process's memory is of files that can be mapped (IOAS_MAP_FILE). */
  readonly files: boolean;
  /** The host takes ioctls by number and bytes. */
  readonly raw: boolean;
}

const NONE = new Uint8Array(0);

/** Opens the function, looks, and closes it. @throws HostError where it cannot be bound */
export function survey(host: Host, address: string): Facts {
  const iommufd = host.openIommufd();
  try {
    const device = host.openDevice(address);
    try {
      return look(host, iommufd, device);
    } finally {
      device.close();
    }
  } finally {
    iommufd.close();
  }
}

function look(host: Host, iommufd: Iommufd, device: VfioDevice): Facts {
  const devId = device.bind(iommufd.fd);
  const info = iommufd.getHwInfo(devId);
  const iommu: IommuKind = info.type === HwInfoType.ARM_SMMUV3 ? "smmuv3" : info.type === HwInfoType.INTEL_VTD ? "vtd" : "other";
  const view = new DataView(info.data.buffer, info.data.byteOffset, info.data.byteLength);
  const vectors = (index: number): number => device.irqInfo(index).count;
  return {
    iommu,
    hwInfo: Array.from({ length: info.data.length >> 2 }, (_unused, word) => hex(view.getUint32(4 * word, true))),
    nesting: nests(iommufd, devId, iommu),
    dirtyTracking: (info.capabilities & HwCapabilities.DIRTY_TRACKING) !== 0,
    pasidBits: info.maxPasidLog2,
    ats: (info.capabilities & HwCapabilities.PCI_ATS_NOT_SUPPORTED) === 0,
    intx: vectors(VfioIrq.INTX) > 0,
    msi: vectors(VfioIrq.MSI),
    msix: vectors(VfioIrq.MSIX),
    resets: device.info().canReset,
    regions: [0, 1, 2, 3, 4, 5, 6].map((index) => hex(device.regionInfo(index).size)),
    files: hasFiles(host),
    raw: host.rawIoctl !== undefined,
  };
}

function hasFiles(host: Host): boolean {
  const block = host.allocateMemory("conformance", 4096);
  host.freeMemory(block);
  return block.backing.fd !== null;
}

function nests(iommufd: Iommufd, devId: number, iommu: IommuKind): boolean {
  return (
    refusalOf(() => {
      const ioas = iommufd.ioasAlloc();
      const hwptId = iommufd.hwptAlloc({ flags: HwptAllocFlags.NEST_PARENT, devId, ptId: ioas, dataType: 0, data: NONE });
      if (iommu === "smmuv3") {
        iommufd.viommuAlloc({ type: ViommuType.ARM_SMMUV3, devId, hwptId });
      }
    }) === null
  );
}
