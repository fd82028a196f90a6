import {
  type DeviceInfo,
  type FeatureRequest,
  HostError,
  type HostEvent,
  type HotResetDevice,
  type IrqInfo,
  type RegionArea,
  type RegionFile,
  type RegionInfo,
  type RegionMapping,
  type VfioDevice,
  VfioRegion,
  WALKS_INCOHERENTLY,
} from "../../../iommufd/index.js";
import { checkOwner } from "./dma-owner.js";
import type { DmaBuf } from "./dma-buf.js";
import type { PhysicalFunction } from "./hardware-port.js";
import type { SimulatedIommufd } from "./iommufd.js";
import type { DeviceObject } from "./iommufd-objects.js";
import { refusing, type Refuse } from "./objects.js";
import type { Master } from "./iommu-driver.js";
import { quiesce, VfioConfigSpace } from "./vfio-config.js";
import { checkFeature } from "./vfio-features.js";
import { VfioInterrupts } from "./vfio-interrupts.js";

const PAGE = 4096;
/** VFIO_PCI_NUM_REGIONS (with the VGA region) and VFIO_PCI_NUM_IRQS. */
const VFIO_PCI_REGIONS = 9;
const VFIO_PCI_IRQS = 5;

/** What a device needs of the kernel around it. */
export interface VfioHost {
  /** HPA that a function's messages are to reach: the doorbell, or an address of the interrupt range. */
  messageAddress(device: PhysicalFunction): number;
  /** The functions of its IOMMU group, itself among them. */
  groupOf(device: PhysicalFunction): readonly PhysicalFunction[];
  /** The iommufd that an open descriptor has bound the function to; null: none has. */
  ownerOf(device: PhysicalFunction): object | null;
  /** Whether another open descriptor has the function bound. */
  isBound(device: PhysicalFunction): boolean;
  /** The open iommufd of a descriptor; where it is none, why (Linux iommufd_ctx_from_fd). */
  iommufdFor(fd: number): SimulatedIommufd | "EINVAL" | "EBADF" | "EBADFD";
  /** All functions of the bus that a function is on, itself among them, with the open device of each; null: the bus is no bridge's. */
  busOf(device: PhysicalFunction): ReadonlyArray<{ readonly device: PhysicalFunction; readonly open: SimulatedVfioDevice | null }> | null;
  closed(device: SimulatedVfioDevice): void;
  /** A new dma-buf of `bytes` host-physical bytes. */
  openFile(address: number, bytes: number): DmaBuf;
  closeFile(file: DmaBuf): void;
  /** Vectors of MSI-X can be added while others are on. */
  readonly growsMsix: boolean;
}

/** An open VFIO character device of the simulated kernel (Linux drivers/vfio). */
export class SimulatedVfioDevice implements VfioDevice {
  private object: DeviceObject | null = null;
  private iommufd: SimulatedIommufd | null = null;
  private config: VfioConfigSpace | null = null;
  private interrupts: VfioInterrupts | null = null;
  /** Of its registers; they can be mapped while it decodes memory. */
  private readonly files = new Set<DmaBuf>();
  private closed = false;

  constructor(
    readonly fd: number,
    readonly device: PhysicalFunction,
    private readonly master: Master | null,
    private readonly host: VfioHost,
  ) {}

  get address(): string {
    return this.device.description.address;
  }

  get isBound(): boolean {
    return this.object !== null;
  }

  /** The iommufd that it is bound to. */
  get owner(): object | null {
    return this.iommufd;
  }

  /** The iommufd's id of it; null: it is not bound to that one. */
  idIn(iommufd: SimulatedIommufd | null): number | null {
    return this.object !== null && this.iommufd === iommufd ? this.object.id : null;
  }

  bind(fd: number, token?: Uint8Array): number {
    const refuse = this.enter("VFIO_BIND_IOMMUFD");
    if (token !== undefined) {
      // Linux vfio_pci_validate_vf_token; no function here is virtual, or has such.
      throw refuse("EINVAL", `VF token incorrectly provided, ${this.address} is not a PF or VF`);
    }
    if (this.object !== null) {
      throw refuse("EINVAL", `${this.address} is bound already`);
    }
    const iommufd = this.host.iommufdFor(fd);
    if (typeof iommufd === "string") {
      throw refuse(iommufd, `${fd} is no open iommufd of this host`);
    }
    if (this.host.isBound(this.device)) {
      throw refuse("EINVAL", `${this.address} is bound by another descriptor`);
    }
    if (typeof this.device.description.amd === "string") {
      throw refuse("EOPNOTSUPP", `${this.address} is behind ${this.device.description.amd}: AMD units of a host are described, and not simulated`);
    }
    if (this.master === null && typeof this.device.description.smmu === "string") {
      throw refuse("EOPNOTSUPP", `${this.address} is behind ${this.device.description.smmu}, whose ID registers are not known: it is not simulated (viommu host, with vfio-pci bound, reads them)`);
    }
    if (this.master === null || !this.master.driver.cacheCoherent) {
      throw refuse("EINVAL", `${this.address} has ${WALKS_INCOHERENTLY}`);
    }
    checkOwner(this.host.groupOf(this.device), iommufd, (device) => this.host.ownerOf(device), refuse);
    this.object = iommufd.bindDevice(this.device, this.master);
    this.iommufd = iommufd;
    this.config = new VfioConfigSpace(
      this.device,
      () => this.resetFunction(),
      () => this.restoreFunction(),
    );
    this.interrupts = new VfioInterrupts(this.device, this.config, this.host.growsMsix, (refuse) => BigInt(iommufd.prepareMsi(this.object!, this.host.messageAddress(this.device), refuse)));
    return this.object.id;
  }

  attach(ptId: number, pasid?: number): void {
    const refuse = this.enter("VFIO_ATTACH_IOMMUFD_PT");
    this.bound(refuse).iommufd.attach(this.object!, ptId, pasid, refuse);
  }

  detach(pasid?: number): void {
    const refuse = this.enter("VFIO_DETACH_IOMMUFD_PT");
    this.bound(refuse).iommufd.detach(this.object!, pasid, refuse);
  }

  /** The kernel knows a way to reset the function alone (pci_try_reset_function). */
  private get canReset(): boolean {
    return this.device.description.reset?.length !== 0;
  }

  info(): DeviceInfo {
    this.bound(this.enter("VFIO_GET_INFO"));
    return { canReset: this.canReset, regions: VFIO_PCI_REGIONS, irqs: VFIO_PCI_IRQS };
  }

  /** Nothing of a region may be mapped: its bytes are registers of a function that is simulated. */
  regionInfo(index: number): RegionInfo {
    const refuse = this.enter("VFIO_GET_REGION_INFO");
    this.bound(refuse);
    if (index < VfioRegion.BAR0 || index > VfioRegion.CONFIG) {
      throw refuse("EINVAL", `region ${index}`);
    }
    const { size } = this.device.regionInfo(index);
    return { size, readable: size > 0, writable: size > 0, areas: [] };
  }

  regionMap(index: number): RegionMapping | null {
    this.regionInfo(index);
    return null;
  }

  /** Linux vfio_pci_core_feature_dma_buf. */
  regionFile(index: number, { offset, size }: RegionArea): RegionFile {
    const refuse = this.enter("VFIO_FEATURE");
    const { config } = this.bound(refuse);
    if (index < VfioRegion.BAR0 || index > VfioRegion.BAR5) {
      throw refuse("ENODEV", `region ${index} is no BAR`);
    }
    const address = this.device.barAddress(index);
    if (address === null || size <= 0 || offset % PAGE !== 0 || size % PAGE !== 0 || offset + size > this.device.regionInfo(index).size) {
      throw refuse("EINVAL", `bytes 0x${offset.toString(16)} and 0x${size.toString(16)} on of region ${index}`);
    }
    const file = this.host.openFile(address + offset, size);
    file.revoked = !config.memoryEnabled;
    this.files.add(file);
    let open = true;
    const close = (): void => {
      if (open) {
        open = false;
        this.host.closeFile(file);
      }
    };
    return { fd: file.fd, close };
  }

  /** Takes back what is mapped of its registers (Linux vfio_pci_dma_buf_move). */
  private revokeFiles(): void {
    this.files.forEach((file) => file.revoke());
  }

  private giveFilesBack(): void {
    if (this.config!.memoryEnabled) {
      this.files.forEach((file) => file.giveBack());
    }
  }

  regionRead(index: number, offset: number, out: Uint8Array): void {
    const refuse = this.enter("read");
    const { config } = this.bound(refuse);
    this.checkRegion(index, offset, out.length, refuse);
    if (index === VfioRegion.CONFIG) {
      config.read(offset, out);
      return;
    }
    this.device.regionRead(index, offset, out);
    this.eachMsixByte(index, offset, out.length, (i) => {
      out[i] = 0xff;
    });
  }

  regionWrite(index: number, offset: number, data: Uint8Array): void {
    const refuse = this.enter("write");
    const { config } = this.bound(refuse);
    this.checkRegion(index, offset, data.length, refuse);
    if (index === VfioRegion.CONFIG) {
      const before = config.memoryEnabled;
      config.write(offset, data);
      if (before && !config.memoryEnabled) {
        this.revokeFiles();
      }
      this.giveFilesBack();
      return;
    }
    // The MSI-X table is the host's: what is written there is dropped.
    let hits = 0;
    this.eachMsixByte(index, offset, data.length, () => hits++);
    if (hits === 0) {
      this.device.regionWrite(index, offset, data);
    }
  }

  irqInfo(index: number): IrqInfo {
    const refuse = this.enter("VFIO_GET_IRQ_INFO");
    return this.bound(refuse).interrupts.info(index, refuse);
  }

  setIrqs(index: number, start: number, events: ReadonlyArray<HostEvent | null>): void {
    const refuse = this.enter("VFIO_SET_IRQS");
    this.bound(refuse).interrupts.set(index, start, events, refuse);
  }

  raiseIrqs(index: number, vectors: readonly number[]): void {
    const refuse = this.enter("VFIO_SET_IRQS");
    this.bound(refuse).interrupts.raise(index, vectors, refuse);
  }

  maskIrqs(index: number, start: number, count: number): void {
    this.checkMask(index, start, count);
  }

  unmaskIrqs(index: number, start: number, count: number): void {
    this.checkMask(index, start, count);
  }

  setUnmaskEvent(index: number, _event: HostEvent | null): void {
    this.checkMask(index, 0, 1);
  }

  reset(): void {
    const refuse = this.enter("VFIO_RESET");
    this.bound(refuse);
    // Linux vfio_pci_ioctl_reset.
    if (!this.canReset) {
      throw refuse("EINVAL", `${this.address} has no way to be reset`);
    }
    this.resetFunction();
  }

  /** Linux vfio_pci_ioctl_get_pci_hot_reset_info: a function's slot is its bus, and what is not on a bridge's cannot be reset so. */
  hotResetInfo(): HotResetDevice[] {
    const refuse = this.enter("VFIO_GET_PCI_HOT_RESET_INFO");
    this.bound(refuse);
    return this.hotResetGroup(refuse).map(({ device, open }) => ({ address: device.description.address, devId: open?.idIn(this.iommufd) ?? -1 }));
  }

  /** Linux vfio_pci_dev_set_hot_reset: all that it reaches are this process's. */
  hotReset(): void {
    const refuse = this.enter("VFIO_PCI_HOT_RESET");
    this.bound(refuse);
    const group = this.hotResetGroup(refuse);
    const other = group.find(({ open }) => (open?.idIn(this.iommufd) ?? null) === null);
    if (other !== undefined) {
      throw refuse("EINVAL", `${other.device.description.address}, which it resets too, is not bound to this iommufd`);
    }
    group.forEach(({ open }) => open!.resetFunction());
  }

  private hotResetGroup(refuse: Refuse): ReadonlyArray<{ readonly device: PhysicalFunction; readonly open: SimulatedVfioDevice | null }> {
    const group = this.host.busOf(this.device);
    if (group === null) {
      throw refuse("ENODEV", `${this.address} is on a root bus, which cannot be reset`);
    }
    return group;
  }

  /** Linux vfio_ioctl_device_feature, vfio_pci_core_ioctl_feature. */
  feature({ feature, flags }: FeatureRequest): void {
    const refuse = this.enter("VFIO_FEATURE");
    this.bound(refuse);
    checkFeature(feature, flags, this.address, refuse);
  }

  close(): void {
    if (this.closed) {
      return;
    }
    this.closed = true;
    if (this.object !== null) {
      this.interrupts!.disable();
      this.revokeFiles();
      this.files.clear();
      this.device.reset();
      quiesce(this.device);
      this.iommufd!.unbindDevice(this.object, refusing("VFIO_CLOSE"));
      this.object = null;
      // The reset has switched PASIDs and ATS off; the kernel may have them on while nobody has the function open too.
      this.device.enablePasid(this.master!.pasidBits > 0);
      if (this.master!.atsEnabled) {
        this.device.enableAts(true);
      }
    }
    this.host.closed(this);
  }

  /** Signals who listens to errors, or to requests. False: nobody does. */
  tell(index: number): boolean {
    return this.interrupts?.tell(index) ?? false;
  }

  /** The function's write of `data` has reached the doorbell. */
  deliver(data: number): void {
    this.interrupts?.deliver(data);
  }

  /** Function level reset; the kernel saves and restores what is its own and the process's settings. */
  private resetFunction(): void {
    this.revokeFiles();
    this.device.reset();
    this.restoreFunction();
    this.giveFilesBack();
  }

  private restoreFunction(): void {
    const { device, master } = this;
    this.config!.restore();
    device.enablePasid(master!.pasidBits > 0);
    if (master!.atsEnabled) {
      device.enableAts(true);
    }
    this.interrupts!.restore();
  }

  /** EINVAL beyond the region; EIO for a BAR while the process has memory decoding off. */
  private checkRegion(index: number, offset: number, length: number, refuse: Refuse): void {
    const size = index >= 0 && index <= VfioRegion.CONFIG ? this.device.regionInfo(index).size : 0;
    if (offset < 0 || offset + length > size) {
      throw refuse("EINVAL", `bytes 0x${offset.toString(16)} and ${length} on of region ${index}, which has 0x${size.toString(16)}`);
    }
    if (index !== VfioRegion.CONFIG && !this.config!.memoryEnabled) {
      throw refuse("EIO", `${this.address} does not decode memory`);
    }
  }

  private checkMask(index: number, start: number, count: number): never {
    const refuse = this.enter("VFIO_SET_IRQS");
    throw this.bound(refuse).interrupts.maskRefusal(index, start, count, refuse);
  }

  private eachMsixByte(index: number, offset: number, length: number, use: (at: number) => void): void {
    const { table } = this.config!;
    if (table.bar === index) {
      const from = Math.max(offset, table.offset);
      const to = Math.min(offset + length, table.offset + table.bytes);
      for (let at = from; at < to; at++) {
        use(at - offset);
      }
    }
  }

  private enter(operation: string): Refuse {
    if (this.closed) {
      throw new HostError(operation, "EBADF", `${this.address} is closed`);
    }
    return refusing(operation);
  }

  /** Nothing but binding works on a descriptor that is not bound. */
  private bound(refuse: Refuse): { iommufd: SimulatedIommufd; config: VfioConfigSpace; interrupts: VfioInterrupts } {
    if (this.object === null) {
      throw refuse("EINVAL", `${this.address} is not bound to an iommufd`);
    }
    return { iommufd: this.iommufd!, config: this.config!, interrupts: this.interrupts! };
  }
}
