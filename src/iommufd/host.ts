/** A host: where memory, iommufds and devices come from. */
import type { RamBlock } from "../memory/index.js";
import type { EventStream, HostEvent } from "./events.js";
import type { HostFacts, HostInspector } from "./inspector.js";
import type { Iommufd } from "./iommufd.js";
import type { RawIoctl } from "./raw-ioctl.js";
import type { VfioDevice } from "./vfio.js";

/** What sysfs tells of a PCI function (/sys/bus/pci/devices/ADDRESS). */
export interface HostFunction {
  readonly address: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  /** The IOMMU instance that serves it, such as smmu3.0x0000000016600000; null: none. */
  readonly iommu: string | null;
  /** -1: none. */
  readonly numaNode: number;
  /** Bound to vfio-pci or free to be. */
  readonly driver: string;
}

/** Bytes of a record of `VtdFaultSource`: a fault recording register. */
export const VTD_FAULT_BYTES = 16;

/**
 * Faults of guests' first stages in the nested tables (VTD_S1) that a device is attached to, of any PASID; and of its
 * requests that reach another table, or none, as the hardware has recorded them. Linux has no such thing for VT-d: its
 * kernel logs these faults.
 */
export interface VtdFaultSource {
  /**
   * The stream gives records of VTD_FAULT_BYTES bytes: a fault recording register (Intel VT-d 11.4.7.6,
   * little-endian) whose SID is the host's, or zeros: records before the next one were lost.
   *
   * @param iommufd the descriptor of the iommufd that knows the device
   * @throws HostError ENOENT no such device, EOPNOTSUPP not behind a VT-d unit, EEXIST there is a stream already
   */
  open(iommufd: number, devId: number): EventStream;
}

export interface Host {
  /** For the account: such as "simulated: grace". */
  readonly description: string;
  /** Bytes of a page; left out: 4096. */
  readonly pageBytes?: number;
  /** Descriptors that this process was given may be this host's; left out: none is. */
  readonly hasDescriptors?: boolean;
  /** Memory of this host's process that can be mapped for DMA: bytes, a multiple of 4096. */
  allocateMemory(name: string, bytes: number): RamBlock;
  freeMemory(block: RamBlock): void;
  /** Makes an eventfd. */
  makeEvent(): HostEvent;
  /** Opens /dev/iommu; or takes a descriptor of one that the process was given, which stays open: its `close` does nothing. @throws HostError EBADF no iommufd */
  openIommufd(given?: { readonly fd: number }): Iommufd;
  /**
   * Opens a function's VFIO character device by the function's address, or takes a descriptor of one that the
   * process was given. It may be opened again: the second bind is refused (EINVAL).
   *
   * @throws HostError ENODEV there is none, EBADF no VFIO device
   */
  openDevice(device: string | { readonly fd: number }): VfioDevice;
  functions(): HostFunction[];
  /** Left out: the host delivers no such faults. */
  readonly vtdFaults?: VtdFaultSource;
  /** Left out: the host takes calls by its methods alone. */
  readonly rawIoctl?: RawIoctl;
  /** Left out: nothing is known of it beside its calls. */
  readonly facts?: HostFacts;
  /** Left out: nobody can see into its hardware. */
  readonly inspector?: HostInspector;
  close(): void;
}
