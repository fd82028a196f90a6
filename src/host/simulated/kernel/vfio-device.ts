import { HostError, VfioIrq, VfioRegion, type Iommufd, type IrqTrigger, type VfioDevice } from "../../../iommufd/index.js";
import type { PhysicalFunction } from "./hardware-port.js";
import { SimulatedIommufd } from "./iommufd.js";
import type { DeviceObject } from "./iommufd-objects.js";
import { refusing, type Refuse } from "./objects.js";
import type { Master } from "./iommu-driver.js";
import { quiesce, VfioConfigSpace } from "./vfio-config.js";

/** What a device needs of the kernel around it. */
export interface VfioHost {
  /** HPA that a function's messages are to reach: the doorbell, or an address of the interrupt range. */
  messageAddress(device: PhysicalFunction): number;
  /** Whether another open descriptor has the function bound. */
  isBound(device: PhysicalFunction): boolean;
  closed(device: SimulatedVfioDevice): void;
}

/** The vectors of one kind that are enabled. */
interface EnabledIrqs {
  readonly index: number;
  readonly triggers: Array<IrqTrigger | null>;
  /** Where each vector writes, as it was when the vector was set up. */
  readonly addresses: bigint[];
}

/** An open VFIO character device of the simulated kernel (Linux drivers/vfio). */
export class SimulatedVfioDevice implements VfioDevice {
  private object: DeviceObject | null = null;
  private iommufd: SimulatedIommufd | null = null;
  private config: VfioConfigSpace | null = null;
  private irqs: EnabledIrqs | null = null;
  private readonly otherTriggers = new Map<number, IrqTrigger>();
  private closed = false;

  constructor(
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

  bind(iommufd: Iommufd): number {
    const refuse = this.enter("VFIO_BIND_IOMMUFD");
    if (this.object !== null || this.host.isBound(this.device)) {
      throw refuse("EINVAL", `${this.address} is bound already`);
    }
    if (!(iommufd instanceof SimulatedIommufd) || iommufd.isClosed) {
      throw refuse("EINVAL", "not an open iommufd of this host");
    }
    if (this.master === null || !this.master.driver.cacheCoherent) {
      throw refuse("EINVAL", `${this.address} has no IOMMU with coherent table walks`);
    }
    this.object = iommufd.bindDevice(this.device, this.master);
    this.iommufd = iommufd;
    this.config = new VfioConfigSpace(this.device, () => this.resetFunction());
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

  regionInfo(index: number): { size: number; readable: boolean; writable: boolean; mappable: boolean } {
    const refuse = this.enter("VFIO_GET_REGION_INFO");
    this.bound(refuse);
    if (index < VfioRegion.BAR0 || index > VfioRegion.CONFIG) {
      throw refuse("EINVAL", `region ${index}`);
    }
    const info = this.device.regionInfo(index);
    return index === VfioRegion.CONFIG ? { ...info, readable: true, writable: true, mappable: false } : info;
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
      config.write(offset, data);
      return;
    }
    // The MSI-X table is the host's: what is written there is dropped.
    let hits = 0;
    this.eachMsixByte(index, offset, data.length, () => hits++);
    if (hits === 0) {
      this.device.regionWrite(index, offset, data);
    }
  }

  irqCount(index: number): number {
    const refuse = this.enter("VFIO_GET_IRQ_INFO");
    const { config } = this.bound(refuse);
    switch (index) {
      case VfioIrq.INTX:
        return config.hasInterruptPin ? 1 : 0;
      case VfioIrq.MSI:
        return config.msiVectors();
      case VfioIrq.MSIX:
        return config.table.vectors;
      case VfioIrq.ERR:
      case VfioIrq.REQ:
        return 1;
      default:
        throw refuse("EINVAL", `interrupt index ${index}`);
    }
  }

  setIrqs(index: number, start: number, triggers: ReadonlyArray<IrqTrigger | null>): void {
    const refuse = this.enter("VFIO_SET_IRQS");
    this.bound(refuse);
    const count = this.irqCount(index);
    if (start < 0 || start + triggers.length > count || (triggers.length > 0 && start >= count)) {
      throw refuse("EINVAL", `vectors ${start} to ${start + triggers.length - 1} of ${count}`);
    }
    if (index === VfioIrq.ERR || index === VfioIrq.REQ) {
      const [trigger] = triggers;
      if (trigger === undefined || trigger === null) {
        this.otherTriggers.delete(index);
      } else {
        this.otherTriggers.set(index, trigger);
      }
      return;
    }
    if (triggers.length === 0) {
      if (this.irqs?.index === index) {
        this.disableIrqs();
      }
      return;
    }
    if (this.irqs !== null && this.irqs.index !== index) {
      throw refuse("EINVAL", "interrupts of another kind are enabled");
    }
    const enabled = this.irqs ?? { index, triggers: [], addresses: [] };
    const address = index === VfioIrq.INTX ? 0n : BigInt(this.iommufd!.prepareMsi(this.object!, this.host.messageAddress(this.device), refuse));
    this.irqs = enabled;
    triggers.forEach((trigger, i) => {
      const vector = start + i;
      enabled.triggers[vector] = trigger;
      enabled.addresses[vector] ??= address;
      if (index === VfioIrq.MSIX) {
        this.device.setMsi(vector, trigger === null ? null : { address: enabled.addresses[vector], data: vector });
      }
    });
  }

  reset(): void {
    const refuse = this.enter("VFIO_RESET");
    this.bound(refuse);
    this.resetFunction();
  }

  close(): void {
    if (this.closed) {
      return;
    }
    this.closed = true;
    if (this.object !== null) {
      this.disableIrqs();
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

  /** The function's write of `data` has reached the doorbell. */
  deliver(data: number): void {
    if (this.irqs !== null) {
      this.irqs.triggers[data]?.();
    }
  }

  /** Function level reset; the kernel saves and restores what is its own and the process's settings. */
  private resetFunction(): void {
    const { device, master, irqs } = this;
    device.reset();
    this.config!.restore();
    device.enablePasid(master!.pasidBits > 0);
    if (master!.atsEnabled) {
      device.enableAts(true);
    }
    if (irqs !== null && irqs.index === VfioIrq.MSIX) {
      irqs.triggers.forEach((trigger, vector) => {
        if (trigger !== null) {
          device.setMsi(vector, { address: irqs.addresses[vector], data: vector });
        }
      });
    }
  }

  private disableIrqs(): void {
    if (this.irqs?.index === VfioIrq.MSIX) {
      this.irqs.triggers.forEach((_trigger, vector) => this.device.setMsi(vector, null));
    }
    this.irqs = null;
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
  private bound(refuse: Refuse): { iommufd: SimulatedIommufd; config: VfioConfigSpace } {
    if (this.object === null) {
      throw refuse("EINVAL", `${this.address} is not bound to an iommufd`);
    }
    return { iommufd: this.iommufd!, config: this.config! };
  }
}
