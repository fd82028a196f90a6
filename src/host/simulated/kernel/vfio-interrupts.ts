import { type HostEvent, type IrqInfo, VfioIrq } from "../../../iommufd/index.js";
import type { PhysicalFunction } from "./hardware-port.js";
import type { Refuse } from "./objects.js";
import type { VfioConfigSpace } from "./vfio-config.js";

/** The vectors of one kind that are enabled. */
interface EnabledIrqs {
  readonly index: number;
  readonly events: Array<HostEvent | null>;
  /** Where each vector writes, as it was when the vector was set up. */
  readonly addresses: bigint[];
}

/** Interrupts of a function that a process has bound (Linux drivers/vfio/pci/vfio_pci_intrs.c). */
export class VfioInterrupts {
  private enabled: EnabledIrqs | null = null;
  /** Who listens to errors and to requests for the function, by index. */
  private readonly others = new Map<number, HostEvent>();

  constructor(
    private readonly device: PhysicalFunction,
    private readonly config: VfioConfigSpace,
    /** Vectors of MSI-X can be added while others are on. */
    private readonly growsMsix: boolean,
    /** Maps the doorbell into the function's table, and gives the address there. */
    private readonly prepareMsi: (refuse: Refuse) => bigint,
  ) {}

  /** Linux vfio_pci_ioctl_get_irq_info: INTx masks itself and can be masked, vectors of MSI-X can be added one by one where the interrupt controller takes it. */
  info(index: number, refuse: Refuse): IrqInfo {
    const isIntx = index === VfioIrq.INTX;
    const info = { eventfd: true, maskable: isIntx, autoMasked: isIntx, noResize: !isIntx && !(index === VfioIrq.MSIX && this.growsMsix) };
    switch (index) {
      case VfioIrq.INTX:
        return { ...info, count: this.config.hasInterruptPin ? 1 : 0 };
      case VfioIrq.MSI:
        return { ...info, count: this.config.msiVectors() };
      case VfioIrq.MSIX:
        return { ...info, count: this.config.table.vectors };
      case VfioIrq.ERR:
      case VfioIrq.REQ:
        return { ...info, count: 1 };
      default:
        throw refuse("EINVAL", `interrupt index ${index}`);
    }
  }

  /** Linux vfio_pci_set_irqs_ioctl, ACTION_TRIGGER. */
  set(index: number, start: number, events: ReadonlyArray<HostEvent | null>, refuse: Refuse): void {
    this.checkVectors(index, start, events.length, refuse);
    if (index === VfioIrq.ERR || index === VfioIrq.REQ) {
      this.setOther(index, events, refuse);
      return;
    }
    if (events.length === 0 && this.enabled?.index === index) {
      this.disable();
      return;
    }
    if (this.enabled !== null && this.enabled.index !== index) {
      throw refuse("EINVAL", "interrupts of another kind are enabled");
    }
    if (events.length === 0) {
      throw refuse("EINVAL", "interrupts of this kind are not enabled");
    }
    if (this.enabled !== null && start + events.length > this.enabled.events.length && (index === VfioIrq.MSI || (index === VfioIrq.MSIX && !this.growsMsix))) {
      throw refuse("EINVAL", `${this.enabled.events.length} vectors are enabled, and more cannot be added`);
    }
    const enabled = this.enabled ?? { index, events: [], addresses: [] };
    const isSetUp = events.every((_event, i) => enabled.addresses[start + i] !== undefined);
    const address = index === VfioIrq.INTX || isSetUp ? 0n : this.prepareMsi(refuse);
    const isFirst = this.enabled === null;
    this.enabled = enabled;
    if (isFirst) {
      for (let vector = 0; vector < start; vector++) {
        enabled.events[vector] = null;
      }
    }
    events.forEach((event, i) => {
      const vector = start + i;
      enabled.events[vector] = event;
      enabled.addresses[vector] ??= address;
      if (index === VfioIrq.MSIX) {
        this.device.setMsi(vector, event === null ? null : { address: enabled.addresses[vector], data: vector });
      }
    });
    if (index === VfioIrq.MSI && isFirst) {
      this.config.enableMsi(address, enabled.events.length);
    }
  }

  /** Linux's loopback (ACTION_TRIGGER without events): signals what is set for vectors. */
  raise(index: number, vectors: readonly number[], refuse: Refuse): void {
    if (index === VfioIrq.ERR || index === VfioIrq.REQ) {
      vectors.forEach(() => this.tell(index));
      return;
    }
    if (this.enabled?.index !== index) {
      throw refuse("EINVAL", "interrupts of this kind are not enabled");
    }
    vectors.forEach((vector) => this.deliver(vector));
  }

  /** Why nothing is masked: only INTx can be, and only while it is on (Linux vfio_pci_set_intx_mask); these functions have no INTx. */
  maskRefusal(index: number, start: number, count: number, refuse: Refuse): Error {
    this.checkVectors(index, start, count, refuse);
    return index === VfioIrq.INTX ? refuse("EINVAL", "INTx is not enabled") : refuse("ENOTTY", `interrupts of index ${index} cannot be masked`);
  }

  /** Signals who listens to errors, or to requests. False: nobody does. */
  tell(index: number): boolean {
    const event = this.others.get(index);
    event?.signal();
    return event !== undefined;
  }

  /** The function's write of `data` has reached the doorbell. */
  deliver(data: number): void {
    this.enabled?.events[data]?.signal();
  }

  /** After a reset of the function: what is enabled is so again. */
  restore(): void {
    const { device, enabled } = this;
    if (enabled?.index === VfioIrq.MSIX) {
      enabled.events.forEach((event, vector) => {
        if (event !== null) {
          device.setMsi(vector, { address: enabled.addresses[vector], data: vector });
        }
      });
    }
    if (enabled?.index === VfioIrq.MSI) {
      this.config.enableMsi(enabled.addresses[enabled.events.length - 1], enabled.events.length);
    }
  }

  disable(): void {
    if (this.enabled?.index === VfioIrq.MSIX) {
      this.enabled.events.forEach((_event, vector) => this.device.setMsi(vector, null));
    }
    if (this.enabled?.index === VfioIrq.MSI) {
      this.config.enableMsi(0n, 0);
    }
    this.enabled = null;
  }

  /** Linux vfio_pci_set_ctx_trigger_single. */
  private setOther(index: number, [event]: ReadonlyArray<HostEvent | null>, refuse: Refuse): void {
    if (event === undefined && !this.others.has(index)) {
      throw refuse("EINVAL", "interrupts of this kind are not enabled");
    }
    if (event === undefined || event === null) {
      this.others.delete(index);
    } else {
      this.others.set(index, event);
    }
  }

  private checkVectors(index: number, start: number, count: number, refuse: Refuse): void {
    const there = this.info(index, refuse).count;
    if (start < 0 || start + count > there || (count > 0 && start >= there)) {
      throw refuse("EINVAL", `vectors ${start} to ${start + count - 1} of ${there}`);
    }
  }
}
