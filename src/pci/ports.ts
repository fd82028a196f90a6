/** Ports of PCI Express: QEMU's pcie-root-port, x3130-upstream and xio3130-downstream. */
import { MemoryRegion, type MmioHandler } from "../memory/index.js";
import { Refusal } from "../support/index.js";
import { forwardNoPorts, PciBridge } from "./bridge.js";
import { addAccessControl, addErrorReporting, addExpressCapability, addSubsystemIds, ExpressType } from "./capabilities.js";
import type { FunctionKind, PciFunction, PciIdentity } from "./function.js";
import { MsiCapability } from "./msi-capability.js";
import { MsixCapability } from "./msix-capability.js";
import { unplugFunction } from "./plug.js";
import { PortPower } from "./port-power.js";
import { addResourceReserve, type ResourceReserve } from "./resource-reserve.js";
import { Slot, type SlotOwner } from "./slot.js";

export interface PortOptions {
  readonly id?: string;
  /** Port number, 8 bits. */
  readonly port?: number;
}

export interface SlotPortOptions extends PortOptions {
  readonly chassis?: number;
  readonly slot?: number;
  readonly hotplug?: boolean;
  readonly powerController?: boolean;
  /** GT/s of the link: 2.5, 5, 8, 16, 32 or 64. Root port only. */
  readonly speed?: number;
  /** Lanes. Root port only. */
  readonly width?: number;
  /** What firmware keeps free below the port. Root port only. */
  readonly reserve?: ResourceReserve;
  /** A power management capability with PME, which QEMU's have not. Root port only. */
  readonly powerManagement?: boolean;
}

const NOTHING_RESERVED: ResourceReserve = { buses: null, io: null, memory: null, prefetch32: null, prefetch64: null };

const SPEED_CODES = new Map([[2.5, 1], [5, 2], [8, 3], [16, 4], [32, 5], [64, 6]]);

/** A port with a slot: what is behind it can come and go while the machine runs. */
export abstract class HotplugPort extends PciBridge implements SlotOwner {
  readonly chassis: number;
  readonly slotNumber: number;
  protected readonly hotplugEnabled: boolean;
  slot!: Slot;
  private pendingUnplug: PciFunction | null = null;
  /** Called after a function has left the slot because the guest let go of it, or at once where nothing asks. */
  onUnplugged: (fn: PciFunction) => void = () => {};

  constructor(model: string, identity: PciIdentity, kind: FunctionKind, options: SlotPortOptions, closedWindows: boolean) {
    super(model, options.id ?? "", kind, identity, {
      isExpress: true,
      singleSlot: true,
      hotplug: true,
      closedWindows,
    });
    this.chassis = options.chassis ?? 0;
    this.slotNumber = options.slot ?? 0;
    this.hotplugEnabled = options.hotplug ?? true;
  }

  protected makeSlot(express: number, options: SlotPortOptions, speed: number, width: number): void {
    this.slot = new Slot(this, {
      express,
      slot: this.slotNumber,
      hotplug: this.hotplugEnabled,
      powerController: options.powerController ?? true,
      speed,
      width,
    });
    this.registers.push(this.slot);
  }

  override realize(): void {
    this.bus?.topology?.addChassisSlot(this, this.chassis, this.slotNumber);
  }

  override unrealize(): void {
    this.bus?.topology?.removeChassisSlot(this);
  }

  get partner(): PciFunction | null {
    return this.secondary.functions.get(0) ?? null;
  }

  get populated(): boolean {
    return this.partner !== null;
  }

  override configRead(offset: number, size: number): number {
    this.slot.reading(offset, size);
    return super.configRead(offset, size);
  }

  /** Whether the slot takes `fn` now; called before it is placed. Throws Refusal. */
  checkPlug(fn: PciFunction): void {
    if (this.slot.interlocked) {
      throw new Refusal("slot is electromechanically locked: Device or resource busy", { found: `the guest has engaged the interlock of ${this.label}` });
    }
    if (fn.hotplugged && !this.hotplugEnabled) {
      throw new Refusal(`Hot-plug failed: unsupported by the port device '${this.id}'`, { wouldWork: `hotplug=on for ${this.label}` });
    }
  }

  /** `fn` is in the slot. Function 0, as the last, makes the others appear (PCIe 6.7.3). */
  plugged(fn: PciFunction): void {
    if (!fn.hotplugged) {
      this.slot.present();
    } else if (this.populated) {
      this.slot.plugged();
    } else {
      fn.powered = false;
    }
  }

  /**
   * Asks the guest to give `fn` up: the attention button is pressed, the guest powers the slot off, `fn` goes
   * and `onUnplugged` is called. Where the slot is off already, or the guest has never seen `fn` (no function 0
   * yet), it goes at once. Returns "removed" or "asked". Throws Refusal.
   */
  requestUnplug(fn: PciFunction): "removed" | "asked" {
    if (!this.hotplugEnabled) {
      throw new Refusal(`Hot-unplug failed: unsupported by the port device '${this.id}'`, { wouldWork: `hotplug=on for ${this.label}` });
    }
    this.checkPlug(fn);
    if (this.slot.blinking) {
      throw new Refusal("Hot-unplug failed: guest is busy (power indicator blinking)", { wouldWork: "the same a few seconds later" });
    }
    if (this.pendingUnplug === fn && this.slot.buttonPending && this.slot.guestListens) {
      throw new Refusal(`Device ${fn.id === "" ? fn.model : fn.id} is already in the process of unplug`);
    }
    if ((fn.devfn !== 0 && !this.populated) || this.slot.isOff) {
      const others = fn.devfn !== 0 && !this.populated ? [fn] : [...this.secondary.functions.values()];
      this.remove(others);
      return "removed";
    }
    this.pendingUnplug = fn;
    this.slot.pressAttentionButton();
    return "asked";
  }

  /** SlotOwner: the guest has powered the slot off. */
  powerOff(): void {
    this.remove([...this.secondary.functions.values()]);
  }

  powerChanged(on: boolean): void {
    for (const fn of this.secondary?.functions.values() ?? []) {
      if (fn.powered !== on) {
        fn.powered = on;
        if (!on) {
          fn.reset();
        }
        fn.decodingChanged();
      }
    }
  }

  abstract hotplugInterrupt(level: boolean): void;

  hotplugEvent(_event: boolean): void {}

  override reset(): void {
    this.pendingUnplug = null;
    super.reset();
  }

  private remove(functions: PciFunction[]): void {
    this.pendingUnplug = null;
    const hadFirst = this.populated;
    for (const fn of functions.sort((a, b) => b.devfn - a.devfn)) {
      unplugFunction(fn);
    }
    if (hadFirst) {
      this.slot.removed();
    }
    for (const fn of functions) {
      this.onUnplugged(fn);
    }
  }
}

/** pcie-root-port: a port of the root complex with a slot. The hotplug interrupt, and that of a PME, is MSI-X vector 0, else INTA. */
export class PcieRootPort extends HotplugPort {
  readonly msix: MsixCapability;
  private readonly power: PortPower | null;
  private readonly interrupts = { hotplug: false, pme: false };
  readonly reserve: ResourceReserve;

  /** @throws Refusal in QEMU's words */
  constructor(options: SlotPortOptions = {}) {
    super("pcie-root-port", { vendorId: 0x1b36, deviceId: 0x000c, classCode: 0x060400 }, "root-port", options, true);
    const { config } = this;
    this.reserve = options.reserve ?? NOTHING_RESERVED;
    const speed = SPEED_CODES.get(options.speed ?? 16);
    if (speed === undefined) {
      throw new Refusal(`Parameter 'x-speed' does not accept value '${options.speed}'`, { wouldWork: [...SPEED_CODES.keys()].join(", ") });
    }
    const width = options.width ?? 32;
    addSubsystemIds(config, 0x40, 0x1b36, 0);
    this.msix = new MsixCapability(this, { offset: 0x48, vectors: 1, tableBar: 0, tableOffset: 0, pbaBar: 0, pbaOffset: 0x800 });
    const express = addExpressCapability(config, {
      offset: 0x54,
      type: ExpressType.RootPort,
      port: options.port,
      ariForwarding: true,
      speed,
      width,
    });
    // Root Control: system error enables (PCIe 7.5.3.12).
    config.allow(express + 0x1c, 2, 0x07);
    this.power = options.powerManagement === true ? new PortPower(this, 0xb0, express, (level) => this.portInterrupt("pme", level)) : null;
    this.makeSlot(express, options, speed, width);
    addResourceReserve(config, 0x90, this.reserve, this.label);
    if (this.reserve.io === 0n) {
      forwardNoPorts(config);
    }
    addErrorReporting(config, 0x100, "root-port");
    addAccessControl(config, 0x148);
    config.bytes[0x3d] = 1;
    this.addBar({ index: 0, size: 4096, is64: false, prefetchable: false, region: MemoryRegion.mmio("pcie-root-port-msix", 4096, msixBar(this.msix)) });
  }

  override hotplugInterrupt(level: boolean): void {
    this.portInterrupt("hotplug", level);
  }

  override hotplugEvent(event: boolean): void {
    this.power?.hotplug(event);
  }

  private portInterrupt(cause: "hotplug" | "pme", level: boolean): void {
    // The base class's parts are made first, and are quiet.
    if (this.interrupts === undefined) {
      return;
    }
    this.interrupts[cause] = level;
    if (this.msix?.enabled) {
      if (level) {
        this.msix.raise(0);
      }
    } else {
      this.setIntx(this.interrupts.hotplug || this.interrupts.pme);
    }
  }
}

/** x3130-upstream: the upstream port of a switch. */
export class X3130Upstream extends PciBridge {
  readonly msi: MsiCapability;

  constructor(options: PortOptions = {}) {
    super("x3130-upstream", options.id ?? "", "upstream-port", { vendorId: 0x104c, deviceId: 0x8232, classCode: 0x060400, revision: 2 }, { isExpress: true });
    const { config } = this;
    this.msi = new MsiCapability(this, { offset: 0x70, vectors: 1 });
    addSubsystemIds(config, 0x80, 0, 0);
    addExpressCapability(config, { offset: 0x90, type: ExpressType.UpstreamPort, port: options.port, functionLevelReset: true });
    addErrorReporting(config, 0x100, "bridge");
  }
}

/** xio3130-downstream: a downstream port of a switch, with a slot. The hotplug interrupt is its MSI. */
export class Xio3130Downstream extends HotplugPort {
  readonly msi: MsiCapability;

  constructor(options: SlotPortOptions = {}) {
    super("xio3130-downstream", { vendorId: 0x104c, deviceId: 0x8233, classCode: 0x060400, revision: 1 }, "downstream-port", options, false);
    const { config } = this;
    this.msi = new MsiCapability(this, { offset: 0x70, vectors: 1 });
    addSubsystemIds(config, 0x80, 0, 0);
    const express = addExpressCapability(config, {
      offset: 0x90,
      type: ExpressType.DownstreamPort,
      port: options.port,
      functionLevelReset: true,
      ariForwarding: true,
    });
    this.makeSlot(express, options, 1, 1);
    addErrorReporting(config, 0x100, "bridge");
  }

  override hotplugInterrupt(level: boolean): void {
    if (this.msi?.enabled) {
      if (level) {
        this.msi.raise(0);
      }
    }
  }
}

/** A 4 KiB BAR that holds the table at 0 and the pending bits at 0x800. */
function msixBar(msix: MsixCapability): MmioHandler {
  return {
    read: (offset, size) => (offset < 0x800 ? msix.table.read(offset, size) : msix.pba.read(offset - 0x800, size)),
    write: (offset, size, value) => {
      if (offset < 0x800) {
        msix.table.write(offset, size, value);
      }
    },
  };
}
