/**
 * Slot registers of a port with native hotplug (PCIe 7.5.3.9 to 7.5.3.11, 6.7): presence, power, the
 * attention button, command completed, and the hotplug interrupt.
 */
import { CAP_EXPRESS } from "./capabilities.js";
import type { ConfigRegisters, PciFunction } from "./function.js";

/** Slot Control. */
export const SLOT_ATTENTION_BUTTON_ENABLE = 0x0001;
export const SLOT_PRESENCE_CHANGED_ENABLE = 0x0008;
export const SLOT_COMMAND_COMPLETED_ENABLE = 0x0010;
export const SLOT_HOTPLUG_INTERRUPT_ENABLE = 0x0020;
export const SLOT_ATTENTION_INDICATOR_OFF = 0x00c0;
export const SLOT_POWER_INDICATOR = 0x0300;
export const SLOT_POWER_INDICATOR_BLINK = 0x0200;
export const SLOT_POWER_INDICATOR_OFF = 0x0300;
export const SLOT_POWER_CONTROLLER_OFF = 0x0400;
const INTERLOCK_CONTROL = 0x0800;
const LINK_STATE_ENABLE = 0x1000;

/** Slot Status. */
export const SLOT_ATTENTION_BUTTON = 0x0001;
export const SLOT_PRESENCE_CHANGED = 0x0008;
export const SLOT_COMMAND_COMPLETED = 0x0010;
export const SLOT_PRESENCE = 0x0040;
export const SLOT_LINK_STATE_CHANGED = 0x0100;
const INTERLOCK_ENGAGED = 0x0080;
const EVENTS = SLOT_ATTENTION_BUTTON | SLOT_PRESENCE_CHANGED | SLOT_COMMAND_COMPLETED;

/** Link Status: Data Link Layer Link Active. */
const LINK_ACTIVE = 0x2000;
/** Current Link Speed, Negotiated Link Width. */
const LINK_SPEED = 0x000f;
const LINK_WIDTH = 0x03f0;

export interface SlotOptions {
  /** Offset of the PCI Express capability. */
  readonly express: number;
  /** Physical slot number, 13 bits. */
  readonly slot: number;
  readonly hotplug: boolean;
  readonly powerController: boolean;
  /** Link speed code and lanes of the port without a partner. */
  readonly speed: number;
  readonly width: number;
}

/** What the slot asks of its port. */
export interface SlotOwner extends PciFunction {
  /** Function 0 behind the port; null: the slot is empty. */
  readonly partner: PciFunction | null;
  /** Raises or lowers the hotplug interrupt. */
  hotplugInterrupt(level: boolean): void;
  /** There are events with their enables set, or no more: what wakes a port that sleeps. */
  hotplugEvent(event: boolean): void;
  /** The guest has switched the slot off: what is in it goes. */
  powerOff(): void;
  /** Power of what is in the slot follows. */
  powerChanged(on: boolean): void;
}

export class Slot implements ConfigRegisters {
  readonly offset: number;
  /** Slot Control and Slot Status. */
  readonly size = 4;
  private readonly linkStatus: number;
  private previousControl: number;
  private interrupting = false;

  constructor(
    private readonly port: SlotOwner,
    private readonly options: SlotOptions,
  ) {
    const { config } = port;
    const at = options.express;
    this.offset = at + 0x18;
    this.linkStatus = at + 0x12;
    config.set16(at + 2, config.get16(at + 2) | 0x0100);
    // Attention button, indicators and interlock present; hotplug; power controller; slot number 31:19.
    const capabilities =
      0x0002_0019 | (options.hotplug ? 0x60 : 0) | (options.powerController ? 0x02 : 0) | ((options.slot & 0x1fff) << 19);
    config.set32(at + 0x14, capabilities >>> 0);
    const writable =
      SLOT_ATTENTION_BUTTON_ENABLE | SLOT_PRESENCE_CHANGED_ENABLE | SLOT_COMMAND_COMPLETED_ENABLE | SLOT_HOTPLUG_INTERRUPT_ENABLE |
      SLOT_ATTENTION_INDICATOR_OFF | SLOT_POWER_INDICATOR | INTERLOCK_CONTROL | LINK_STATE_ENABLE;
    config.allow(this.offset, 2, writable | (options.powerController ? SLOT_POWER_CONTROLLER_OFF : 0));
    config.allowClear(this.offset + 2, 2, EVENTS | SLOT_LINK_STATE_CHANGED);
    this.previousControl = 0;
    this.reset();
  }

  get control(): number {
    return this.port.config.get16(this.offset);
  }

  get status(): number {
    return this.port.config.get16(this.offset + 2);
  }

  get interlocked(): boolean {
    return (this.status & INTERLOCK_ENGAGED) !== 0;
  }

  get blinking(): boolean {
    return (this.control & SLOT_POWER_INDICATOR) === SLOT_POWER_INDICATOR_BLINK;
  }

  /** Power controller and power indicator are off; without a controller the indicator says it. */
  get isOff(): boolean {
    return isOff(this.control, this.options.powerController);
  }

  /** The guest takes hotplug interrupts, the attention button's among them. */
  get guestListens(): boolean {
    const wanted = SLOT_HOTPLUG_INTERRUPT_ENABLE | SLOT_ATTENTION_BUTTON_ENABLE;
    return (this.control & wanted) === wanted;
  }

  /** The attention button has been pressed and the guest has not acknowledged it. */
  get buttonPending(): boolean {
    return (this.status & SLOT_ATTENTION_BUTTON) !== 0;
  }

  /** Something is in the slot that was there when the machine started. */
  present(): void {
    this.setStatus(this.status | SLOT_PRESENCE);
    this.setLink(true);
    const config = this.port.config;
    if (this.options.powerController) {
      config.set16(this.offset, config.get16(this.offset) & ~SLOT_POWER_CONTROLLER_OFF);
      this.previousControl = this.control;
    }
    this.port.powerChanged(true);
  }

  /** Something has been plugged: presence, link, and the events that make the guest look. */
  plugged(): void {
    this.setStatus(this.status | SLOT_PRESENCE);
    this.setLink(true);
    this.port.powerChanged(this.powered);
    this.event(SLOT_PRESENCE_CHANGED | SLOT_ATTENTION_BUTTON);
  }

  /** The slot is empty now. */
  removed(): void {
    this.setStatus((this.status & ~(SLOT_PRESENCE | SLOT_ATTENTION_BUTTON)) | SLOT_PRESENCE_CHANGED);
    this.setLink(false);
    this.notify();
  }

  pressAttentionButton(): void {
    this.event(SLOT_ATTENTION_BUTTON);
  }

  written(offset: number): void {
    if (offset >= this.offset + 2) {
      this.notify();
      return;
    }
    const before = this.previousControl;
    const control = this.control & ~INTERLOCK_CONTROL;
    if ((this.control & INTERLOCK_CONTROL) !== 0) {
      // The interlock toggles and the bit reads as zero (PCIe 7.5.3.10).
      this.setStatus(this.status ^ INTERLOCK_ENGAGED);
      this.port.config.set16(this.offset, control);
    }
    this.previousControl = control;
    const off = isOff(control, this.options.powerController);
    // Only the change counts: guests write the control of a slot that is off before they power it on.
    if (off && !isOff(before, this.options.powerController) && (this.status & SLOT_PRESENCE) !== 0) {
      this.port.powerOff();
    }
    if (((before ^ control) & SLOT_POWER_CONTROLLER_OFF) !== 0) {
      this.port.powerChanged(this.powered);
    }
    // Every write of the control register is a command, done at once (PCIe 6.7.3.2).
    this.event(SLOT_COMMAND_COMPLETED);
  }

  reset(): void {
    const { config } = this.port;
    const populated = this.port.partner !== null;
    const power = this.options.powerController && !populated ? SLOT_POWER_CONTROLLER_OFF : 0;
    config.set16(this.offset, SLOT_ATTENTION_INDICATOR_OFF | SLOT_POWER_INDICATOR_OFF | power);
    this.previousControl = this.control;
    this.setStatus(populated ? SLOT_PRESENCE : 0);
    config.set16(this.linkStatus, populated ? LINK_ACTIVE : 0);
    this.syncLink();
    this.interrupting = false;
    this.port.hotplugInterrupt(false);
    this.port.powerChanged(true);
  }

  /** Bytes of configuration space are about to be read: Link Status among them is made anew. */
  reading(offset: number, size: number): void {
    if (offset < this.linkStatus + 2 && offset + size > this.linkStatus) {
      this.syncLink();
    }
  }

  /**
   * Link Status tells the partner's speed and width, as far as the port has them; without a partner of PCI Express
   * the port's own (QEMU's pcie_sync_bridge_lnk).
   */
  private syncLink(): void {
    const { config, partner } = this.port;
    let [speed, width] = [this.options.speed, this.options.width << 4];
    const express = partner === null ? 0 : expressCapability(partner);
    if (partner !== null && express !== 0) {
      const theirs = partner.configRead(express + 0x12, 2);
      speed = Math.min(speed, theirs & LINK_SPEED);
      width = Math.min(width, theirs & LINK_WIDTH);
    }
    config.set16(this.linkStatus, (config.get16(this.linkStatus) & ~(LINK_SPEED | LINK_WIDTH)) | speed | width);
  }

  private get powered(): boolean {
    return !this.options.powerController || (this.control & SLOT_POWER_CONTROLLER_OFF) === 0;
  }

  private event(bits: number): void {
    this.setStatus(this.status | bits);
    this.notify();
  }

  /** The interrupt follows (enabled events AND hotplug interrupt enable); a message is sent when that becomes true (PCIe 6.7.3.4). */
  private notify(): void {
    const { control, status } = this;
    const linkEvent = (control & LINK_STATE_ENABLE) !== 0 && (status & SLOT_LINK_STATE_CHANGED) !== 0;
    const event = (status & control & EVENTS) !== 0 || linkEvent;
    const wanted = (control & SLOT_HOTPLUG_INTERRUPT_ENABLE) !== 0 && event;
    if (wanted !== this.interrupting) {
      this.interrupting = wanted;
      this.port.hotplugInterrupt(wanted);
    }
    this.port.hotplugEvent(event);
  }

  private setStatus(status: number): void {
    this.port.config.set16(this.offset + 2, status);
  }

  private setLink(active: boolean): void {
    const { config } = this.port;
    const before = config.get16(this.linkStatus);
    const after = active ? before | LINK_ACTIVE : before & ~LINK_ACTIVE;
    if (before !== after) {
      config.set16(this.linkStatus, after);
      this.setStatus(this.status | SLOT_LINK_STATE_CHANGED);
    }
    this.syncLink();
  }
}

/** Offset of a function's PCI Express capability as its configuration space shows it; 0: none. */
function expressCapability(fn: PciFunction): number {
  let at = fn.configRead(0x34, 1) & 0xfc;
  for (let links = 0; at !== 0 && links < 48; links++) {
    const header = fn.configRead(at, 2);
    if ((header & 0xff) === CAP_EXPRESS) {
      return at;
    }
    at = (header >> 8) & 0xfc;
  }
  return 0;
}

function isOff(control: number, powerController: boolean): boolean {
  const indicatorOff = (control & SLOT_POWER_INDICATOR) === SLOT_POWER_INDICATOR_OFF;
  return indicatorOff && (!powerController || (control & SLOT_POWER_CONTROLLER_OFF) !== 0);
}
