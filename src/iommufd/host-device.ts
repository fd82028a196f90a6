import type { EventStream } from "./events.js";
import type { HwInfo, Iommufd } from "./iommufd.js";

/**
 * A passed-through function bound to an iommufd, as its vIOMMU handles it. The vfio room makes it and owns
 * the attachment to the stage-2 table; the vIOMMU replaces that by what the guest says, and gives it back.
 */
/** A table by which a device writes guest memory under other addresses than guest-physical ones. */
export interface DirtySource {
  /** Throws HostError; then it is as before. */
  setTracking(on: boolean): void;
  /**
   * Ors the pages of 4 KiB that were written since the last reading into a bitmap: bit n is n pages behind `address`
   * (guest-physical, bytes); `clear`: from then on they count as clean. Throws HostError.
   */
  read(address: number, bitmap: Uint8Array, clear: boolean): void;
}

export interface IommufdDevice {
  /** For messages: `vfio-pci 'gpu0' (host 0009:01:00.0)`. */
  readonly name: string;
  readonly hostAddress: string;
  /** The physical IOMMU instance, by the host's name; null: none. */
  readonly hostIommu: string | null;
  readonly iommufd: Iommufd;
  /** The user's id of the iommufd object, for messages. */
  readonly iommufdName: string;
  /** The iommufd's id of the device. */
  readonly devId: number;
  readonly ioasId: number;
  /** The stage-2 table of the IOAS that the device can use: a nesting parent where the vIOMMU wanted one. */
  readonly parentHwptId: number;
  /** GET_HW_INFO, asked once. */
  readonly hwInfo: HwInfo;
  /** Replaces what the device is attached to by `hwptId` in one step; throws HostError, then the old one stays. */
  attach(hwptId: number, pasid?: number): void;
  /** Takes the device's requests, or those of a PASID, off their table: their DMA is blocked; throws HostError, then the table stays. */
  detach(pasid?: number): void;
  /** What the device is attached to now; null: detached (its DMA is blocked). */
  readonly attachedTo: number | null;
  /** Opens the stream of the device's first-stage faults (VtdFaultSource); null: the host delivers none. Throws HostError. */
  openVtdFaults(): EventStream | null;
  /** The device was made for dirty tracking: what it is attached to is to have it, too. */
  readonly tracksDirty: boolean;
  /** Dirty tracking of the device asks a table other than its parent from now on. Throws HostError where it is on and the table refuses it. */
  addDirtySource(source: DirtySource): void;
  removeDirtySource(source: DirtySource): void;
  /** What the device could write until now (guest-physical, bytes) counts as dirty while tracking is on. */
  noteDirty(address: number, bytes: number): void;
  /** Calls back once the device is closed, so that objects which it still used can be freed. */
  onClosed(callback: () => void): void;
}

export function isIommufdDevice(device: object): device is IommufdDevice {
  return "iommufd" in device && "devId" in device && "parentHwptId" in device;
}
