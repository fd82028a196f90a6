/**
 * The kernel's interface to a passed-through device (linux/vfio.h): its character device, bound to an iommufd. A
 * method here is an ioctl, or a read or write at an offset of the region; what iommufd.ts says of calls holds
 * for these too. Region reads and writes are whole, or a HostError.
 */
import type { HostEvent } from "./events.js";

/** VFIO_DEVICE_GET_INFO. */
export interface DeviceInfo {
  /** VFIO_DEVICE_RESET works (VFIO_DEVICE_FLAGS_RESET). */
  readonly canReset: boolean;
  readonly regions: number;
  readonly irqs: number;
}

/** Bytes of a region. */
export interface RegionArea {
  readonly offset: number;
  readonly size: number;
}

/** VFIO_DEVICE_GET_REGION_INFO. */
export interface RegionInfo {
  /** Bytes; 0: no such region. */
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** What of it may be mapped: all of it, or the areas of VFIO_REGION_INFO_CAP_SPARSE_MMAP; empty: nothing. */
  readonly areas: readonly RegionArea[];
}

/** An area of a region in this process's memory. */
export interface MappedArea extends RegionArea {
  /** Where it lies: user_va for IOAS_MAP, userspace_addr for a KVM memory slot. */
  readonly address: number;
  /** Its bytes: registers of the device, which take accesses of their own width. */
  readonly buffer: ArrayBufferLike;
}

export interface RegionMapping {
  readonly areas: readonly MappedArea[];
  /** Takes the areas out of the process's memory (munmap). Safe to call twice. */
  unmap(): void;
}

/** A dma-buf of a part of a BAR, for IOAS_MAP_FILE: other devices reach it by that. */
export interface RegionFile {
  readonly fd: number;
  /** Closes the descriptor; what is mapped of it stays until it is unmapped, or the device takes it back. Safe to call twice. */
  close(): void;
}

/** VFIO_DEVICE_GET_IRQ_INFO. */
export interface IrqInfo {
  /** Vectors of the index; 0: the device has none of its kind. */
  readonly count: number;
  /** VFIO_IRQ_INFO_EVENTFD, MASKABLE, AUTOMASKED, NORESIZE. */
  readonly eventfd: boolean;
  readonly maskable: boolean;
  readonly autoMasked: boolean;
  /** Vectors cannot be added while the index is on: it has to be switched off and on with all that are wanted. */
  readonly noResize: boolean;
}

/** A device that a hot reset resets too (struct vfio_pci_dependent_device). */
export interface HotResetDevice {
  /** Host PCI address. */
  readonly address: string;
  /** The iommufd's id of it; 0: not bound, and owned by nobody else (VFIO_PCI_DEVID_OWNED); -1: somebody else's. */
  readonly devId: number;
}

/** VFIO_DEVICE_FEATURE. */
export interface FeatureRequest {
  /** VfioFeature. */
  readonly feature: number;
  /** Or-ed VfioFeatureFlags. */
  readonly flags: number;
  /** The feature's structure, which GET fills; left out: none. */
  readonly data?: Uint8Array;
}

/** An open /dev/vfio/devices/vfioN. */
export interface VfioDevice {
  /** Host PCI address, such as 0009:01:00.0. */
  readonly address: string;
  /** Its descriptor. */
  readonly fd: number;
  /**
   * VFIO_DEVICE_BIND_IOMMUFD: binds to the iommufd of that descriptor, and returns its id of the device.
   *
   * @param token a UUID (16 bytes), which a virtual function of a physical one that is VFIO's needs, and that one gives
   * @throws HostError EACCES another token, EINVAL a token and no such function
   */
  bind(iommufd: number, token?: Uint8Array): number;
  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT: attaches to an IOAS or HWPT, replacing what is attached in one step. */
  attach(ptId: number, pasid?: number): void;
  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: DMA is blocked from then on. */
  detach(pasid?: number): void;
  info(): DeviceInfo;
  /** @throws HostError EINVAL no such index */
  regionInfo(index: number): RegionInfo;
  /** Maps what of a region may be mapped (mmap); null where nothing may. The mapping ends with the device at the latest. */
  regionMap(index: number): RegionMapping | null;
  /**
   * VFIO_DEVICE_FEATURE_DMA_BUF: a file of an area of a BAR, both in whole pages (Linux 6.19). What is mapped of it goes
   * for good when the device is reset, stops decoding memory or is closed: it is to be mapped anew then, by this file.
   *
   * @throws HostError ENOTTY the kernel has none, EINVAL no such area
   */
  regionFile(index: number, area: RegionArea): RegionFile;
  regionRead(index: number, offset: number, out: Uint8Array): void;
  regionWrite(index: number, offset: number, data: Uint8Array): void;
  /** By VfioIrq index. @throws HostError EINVAL no such index */
  irqInfo(index: number): IrqInfo;
  /**
   * VFIO_DEVICE_SET_IRQS, ACTION_TRIGGER with eventfds, from vector `start` on: each interrupt signals its event
   * from then on; null takes one away; an empty list switches the index off. One of INTx, MSI and MSI-X is on
   * at a time (EINVAL).
   */
  setIrqs(index: number, start: number, events: ReadonlyArray<HostEvent | null>): void;
  /** ACTION_MASK and ACTION_UNMASK. Linux has them for INTx (ENOTTY for the others), which masks itself when it fires. */
  maskIrqs(index: number, start: number, count: number): void;
  unmaskIrqs(index: number, start: number, count: number): void;
  /** ACTION_UNMASK with an eventfd: what signals the event unmasks the interrupt, as KVM does by resamplefd; null takes it away. */
  setUnmaskEvent(index: number, event: HostEvent | null): void;
  /** VFIO_DEVICE_RESET. */
  reset(): void;
  /** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: what VFIO_DEVICE_PCI_HOT_RESET would reset, this device included. @throws HostError ENODEV neither slot nor bus can be reset */
  hotResetInfo(): HotResetDevice[];
  /** VFIO_DEVICE_PCI_HOT_RESET by iommufd ownership (count 0). */
  hotReset(): void;
  /** VFIO_DEVICE_FEATURE. @throws HostError ENOTTY the device has no such feature, EINVAL not with these flags */
  feature(request: FeatureRequest): void;
  /** Unbinds and closes, a given descriptor too: only closing unbinds. A vDEVICE that is left is destroyed with it. */
  close(): void;
}
