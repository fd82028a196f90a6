import type { RamBlock } from "../../../memory/index.js";
import { deposit } from "../../../support/index.js";
import { REMAPPABLE_ADDRESS } from "../../../vtd/spec/index.js";
import { type Host, HostError, type HostEvent, type HostFunction, type Iommufd, type IovaRange, type RawIoctl, type VfioDevice, VfioIrq, type VtdFaultSource } from "../../../iommufd/index.js";
import { ForwardingIommufd } from "../../instruments/index.js";
import type { PhysicalFunction, PhysicalHost } from "./hardware-port.js";
import { DmaBuf } from "./dma-buf.js";
import { type Later, SimulatedEvent } from "./host-event.js";
import { SimulatedIommufd, type TableAccount } from "./iommufd.js";
import { ProcessMemory } from "./process-memory.js";
import type { IommuDriver, Master } from "./iommu-driver.js";
import type { UnclaimedFaultListener } from "./unclaimed-fault.js";
import { type KernelBuild, kernelRules, type KernelRules, lacks } from "./kernel-rules.js";
import { groupOf } from "./dma-owner.js";
import { SmmuDriver, type SmmuAccount } from "./smmu/driver.js";
import { VtdDriver, type VtdAccount } from "./vtd/driver.js";
import { SimulatedVfioDevice, type VfioHost } from "./vfio-device.js";
import { quiesce } from "./vfio-config.js";
import { rawIoctl } from "./raw-ioctl.js";
import { denylisted } from "./vfio-denylist.js";

/** MSI-X vectors that a function of a host file has at most: each has an interrupt of its own. */
const MOST_VECTORS = 512;

/**
 * The kernel of the simulated host: iommufd and VFIO above, the hardware below. From the first moment
 * every function behind an IOMMU is blocked until it is attached.
 */
export class SimulatedKernel implements Host, VfioHost {
  readonly description: string;
  private readonly rules: KernelRules;
  private readonly memory: ProcessMemory;
  private readonly drivers = new Map<string, IommuDriver>();
  private readonly masters = new Map<PhysicalFunction, Master>();
  private readonly iommufds = new Set<SimulatedIommufd>();
  private readonly devices = new Set<SimulatedVfioDevice>();
  /** Open dma-bufs. */
  private readonly files = new Map<number, DmaBuf>();
  private nextDescriptor = 0;
  private isClosed = false;

  /** @param later how listeners of events and queues are called */
  constructor(
    readonly hardware: PhysicalHost,
    name: string,
    private readonly build: KernelBuild,
    private readonly later: Later = queueMicrotask,
  ) {
    this.description = `simulated: ${name}`;
    this.rules = kernelRules(build);
    this.memory = new ProcessMemory(hardware.memory);
    for (const smmu of hardware.smmus.values()) {
      this.drivers.set(smmu.name, new SmmuDriver(smmu, hardware.memory, this.rules, !lacks(build, "CONFIG_ARM_SMMU_V3_IOMMUFD")));
    }
    for (const vtd of hardware.vtds.values()) {
      this.drivers.set(vtd.name, new VtdDriver(vtd, hardware.memory));
    }
    for (const device of hardware.functions.values()) {
      quiesce(device);
      if (device.iommu !== null) {
        this.masters.set(device, this.drivers.get(device.iommu.name)!.probe(device));
      }
    }
    hardware.onMsi((source, _address, data) => {
      for (const device of this.devices) {
        if (device.device === source) {
          device.deliver(data);
        }
      }
    });
  }

  /**
   * The doorbell; or, where messages are interrupts of the remappable format (Intel VT-d 5.1.2.2), the address
   * with the function's own handle: the data is the subhandle, as the vector's number is.
   */
  messageAddress(device: PhysicalFunction): number {
    if (!this.hardware.isX86) {
      return this.hardware.msiDoorbell;
    }
    const index = [...this.hardware.functions.values()].indexOf(device);
    const handle = (index * MOST_VECTORS) & 0xffff;
    let low = deposit(0, REMAPPABLE_ADDRESS.FORMAT, 1);
    low = deposit(low, REMAPPABLE_ADDRESS.SHV, 1);
    low = deposit(low, REMAPPABLE_ADDRESS.HANDLE_14_0, handle & 0x7fff);
    low = deposit(low, REMAPPABLE_ADDRESS.HANDLE_15, handle >>> 15);
    return this.hardware.msiDoorbell + low;
  }

  allocateMemory(name: string, bytes: number): RamBlock {
    return this.memory.allocate(name, bytes);
  }

  freeMemory(block: RamBlock): void {
    this.memory.free(block);
  }

  makeEvent(): HostEvent {
    return new SimulatedEvent(this.later);
  }

  openIommufd(given?: { readonly fd: number }): Iommufd {
    if (given !== undefined) {
      const known = this.iommufdOf(given.fd);
      if (known === null) {
        throw new HostError("open", "EBADF", `${given.fd} is no iommufd`);
      }
      return new GivenIommufd(known);
    }
    if (lacks(this.build, "CONFIG_IOMMUFD")) {
      throw new HostError("open /dev/iommu", "ENOENT", "the kernel was built without CONFIG_IOMMUFD");
    }
    const iommufd = new SimulatedIommufd(this.nextDescriptor++, this.memory, this.rules, this.later, (gone) => this.iommufds.delete(gone), (fd) => this.files.get(fd) ?? null);
    this.iommufds.add(iommufd);
    return iommufd;
  }

  openDevice(which: string | { readonly fd: number }): VfioDevice {
    if (typeof which !== "string") {
      const known = [...this.devices].find((device) => device.fd === which.fd);
      if (known === undefined) {
        throw new HostError("open", "EBADF", `${which.fd} is no VFIO device`);
      }
      return known;
    }
    const device = this.hardware.functions.get(which);
    const denied = device === undefined ? null : denylisted(device.description);
    if (device === undefined || !device.description.driver.includes("vfio") || denied !== null) {
      const why = device === undefined ? "there is no such function" : (denied ?? (device.description.driver === "" ? "no driver is bound to it" : `it is bound to ${device.description.driver}`));
      throw new HostError("open", "ENODEV", `${which}: ${why}`);
    }
    const missing = ["CONFIG_IOMMUFD", "CONFIG_VFIO_DEVICE_CDEV"].find((option) => lacks(this.build, option));
    if (missing !== undefined) {
      throw new HostError("open", "ENODEV", `${which} has no VFIO character device: the kernel was built without ${missing}`);
    }
    const open = new SimulatedVfioDevice(this.nextDescriptor++, device, this.masters.get(device) ?? null, this);
    this.devices.add(open);
    return open;
  }

  /** Faults of first stages; a host without VT-d units has none. */
  get vtdFaults(): VtdFaultSource | undefined {
    if (this.hardware.vtds.size === 0) {
      return undefined;
    }
    return {
      open: (fd, devId) => {
        const iommufd = this.iommufdOf(fd);
        if (iommufd === null) {
          throw new HostError("VTD_FAULTS", "EBADF", `${fd} is no iommufd`);
        }
        return iommufd.openVtdFaults(devId);
      },
    };
  }

  iommufdOf(fd: number): SimulatedIommufd | null {
    return [...this.iommufds].find((iommufd) => iommufd.fd === fd && !iommufd.isClosed) ?? null;
  }

  functions(): HostFunction[] {
    return [...this.hardware.functions.values()].map(({ description, iommu }) => ({
      address: description.address,
      vendorId: description.vendor,
      deviceId: description.device,
      classCode: description.class,
      iommu: iommu?.name ?? description.smmu ?? description.amd ?? null,
      numaNode: description.numaNode,
      // vfio-pci is bound to nothing of its denylist.
      driver: description.driver === "vfio-pci" && denylisted(description) !== null ? "" : description.driver,
    }));
  }

  /** The window that messages of a function go to: what an IOAS that it is attached to loses; null: it is behind no IOMMU. */
  messageWindow(address: string): IovaRange | null {
    const device = this.hardware.functions.get(address);
    return (device === undefined ? undefined : this.masters.get(device))?.driver.reserved ?? null;
  }

  liveObjects(): Array<{ id: number; type: string }> {
    const objects: Array<{ id: number; type: string }> = [];
    for (const iommufd of this.iommufds) {
      objects.push({ id: 0, type: "iommufd" });
      for (const object of iommufd.objects()) {
        objects.push({ id: object.id, type: object.type });
      }
    }
    for (const device of this.devices) {
      if (!device.isBound) {
        objects.push({ id: 0, type: "vfio-device" });
      }
    }
    return objects;
  }

  /** Who is told of faults that no guest is told of, as Linux's log is; null: nobody. */
  onUnclaimedFault(listener: UnclaimedFaultListener | null): void {
    for (const driver of this.drivers.values()) {
      driver.onUnclaimedFault = listener;
    }
  }

  /** What the SMMUs' drivers have in use. */
  smmuAccounts(): SmmuAccount[] {
    return [...this.drivers.values()].flatMap((driver) => (driver instanceof SmmuDriver ? [driver.account()] : []));
  }

  /** What the VT-d units' drivers have in use. */
  vtdAccounts(): VtdAccount[] {
    return [...this.drivers.values()].flatMap((driver) => (driver instanceof VtdDriver ? [driver.account()] : []));
  }

  /** Every translation table that the kernel keeps for the process. */
  tableAccounts(): TableAccount[] {
    return [...this.iommufds].flatMap((iommufd) => iommufd.tables());
  }

  /** Ends the process: devices and iommufds are closed, memory is freed. */
  close(): void {
    if (this.isClosed) {
      return;
    }
    this.isClosed = true;
    for (const device of [...this.devices]) {
      device.close();
    }
    for (const iommufd of [...this.iommufds]) {
      iommufd.close();
      iommufd.closeStreams();
    }
    for (const driver of this.drivers.values()) {
      driver.close();
    }
    this.memory.freeAll();
  }

  /** A function's error that it does not get over (Linux vfio_pci_core_aer_err_detected). False: nobody is told. */
  reportError(address: string): boolean {
    return this.tell(address, VfioIrq.ERR);
  }

  /** The administrator unbinds a function from its driver (Linux vfio_pci_core_request). False: nobody is told. */
  requestDevice(address: string): boolean {
    return this.tell(address, VfioIrq.REQ);
  }

  private tell(address: string, index: number): boolean {
    return [...this.devices].some((device) => device.address === address && device.tell(index));
  }

  openFile(address: number, bytes: number): DmaBuf {
    const file = new DmaBuf(this.nextDescriptor++, address, bytes);
    this.files.set(file.fd, file);
    return file;
  }

  closeFile(file: DmaBuf): void {
    this.files.delete(file.fd);
  }

  get rawIoctl(): RawIoctl {
    const isIommufd = (fd: number): boolean => this.iommufdOf(fd) !== null;
    return rawIoctl(this.rules, (fd) => this.iommufdOf(fd) ?? [...this.devices].find((device) => device.fd === fd) ?? null, isIommufd);
  }

  get growsMsix(): boolean {
    return this.rules.growsMsix || this.hardware.isX86;
  }

  iommufdFor(fd: number): SimulatedIommufd | "EINVAL" | "EBADF" | "EBADFD" {
    if (fd < 0) {
      return "EINVAL";
    }
    return this.iommufdOf(fd) ?? ([...this.devices].some((device) => device.fd === fd) ? "EBADFD" : "EBADF");
  }

  busOf(device: PhysicalFunction): Array<{ device: PhysicalFunction; open: SimulatedVfioDevice | null }> | null {
    const bus = (one: PhysicalFunction): string => one.description.address.replace(/:[^:]*$/, "");
    if (bus(device).endsWith(":00")) {
      return null;
    }
    return [...this.hardware.functions.values()]
      .filter((one) => bus(one) === bus(device))
      .map((one) => ({ device: one, open: [...this.devices].find((open) => open.device === one && open.isBound) ?? null }));
  }

  groupOf(device: PhysicalFunction): PhysicalFunction[] {
    return groupOf(device, this.hardware.functions.values());
  }

  ownerOf(device: PhysicalFunction): object | null {
    return [...this.devices].find((open) => open.device === device && open.isBound)?.owner ?? null;
  }

  isBound(device: PhysicalFunction): boolean {
    return [...this.devices].some((open) => open.device === device && open.isBound);
  }

  closed(device: SimulatedVfioDevice): void {
    this.devices.delete(device);
  }
}

/** An iommufd whose descriptor somebody else has opened, and closes. */
class GivenIommufd extends ForwardingIommufd {
  override close(): void {}
}
