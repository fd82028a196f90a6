/**
 * Native PCIe hotplug (PCIe 6.0, 6.7 and 7.5.3.9 to 7.5.3.11) as Linux's pciehp runs it: attention button and
 * presence events of a slot, power off and on. The five seconds in which a user may press the button again
 * are left out.
 */
import { disableMessages, messageCount } from "./msi.js";
import { check } from "../failure.js";
import type { Device } from "../device.js";
import type { Kernel } from "../kernel.js";
import { CAP_EXPRESS, type PciFunction } from "./function.js";
import { isHotplugPort } from "./resources.js";

const LINK_STATUS = 0x12;
const SLOT_CONTROL = 0x18;
const SLOT_STATUS = 0x1a;
const DATA_LINK_ACTIVE = 0x2000;
/** Slot Status: events, cleared by writing one. */
const ATTENTION = 0x01;
const PRESENCE_CHANGED = 0x08;
const COMMAND_COMPLETED = 0x10;
const LINK_CHANGED = 0x100;
const EVENTS = ATTENTION | 0x02 | PRESENCE_CHANGED | COMMAND_COMPLETED | LINK_CHANGED;
const PRESENT = 0x40;
/** Slot Control: attention button and link state enables, hot-plug interrupt enable; indicators; power controller. */
const ENABLE_EVENTS = 0x01 | 0x1000;
const ENABLE_INTERRUPT = 0x20;
const POWER_INDICATOR = 0x300;
const POWER_INDICATOR_ON = 0x100;
const POWER_INDICATOR_BLINK = 0x200;
const POWER_INDICATOR_OFF = 0x300;
const POWER_OFF = 0x400;

/** A hot-pluggable slot that the driver watches. */
export class HotplugSlot {
  private occupied = false;
  private signalled = false;
  private polled = false;
  /** Called when devices were taken in; for devices that went, their functions' names. */
  onChange: ((change: { added: Device[]; removed: string[] }) => void) | null = null;

  private constructor(
    private readonly kernel: Kernel,
    private readonly device: Device,
    private readonly express: number,
  ) {}

  get port(): PciFunction {
    return this.device.fn;
  }

  /** Starts to watch a port; null where it has no hot-plug slot. The port has to be attached to its domain already. */
  static async watch(kernel: Kernel, device: Device): Promise<HotplugSlot | null> {
    const express = device.fn.capabilities.get(CAP_EXPRESS);
    if (express === undefined || !(await isHotplugPort(device.fn))) {
      return null;
    }
    const slot = new HotplugSlot(kernel, device, express);
    slot.occupied = device.fn.children.length > 0;
    await slot.enable();
    // What was plugged before anybody listened is in a slot without power, and was not found: Linux powers it now (pciehp_check_presence).
    if (!slot.occupied && ((await device.fn.read16(express + SLOT_STATUS)) & PRESENT) !== 0) {
      await slot.powerUp();
    }
    return slot;
  }

  private async enable(): Promise<void> {
    const { fn } = this.device;
    const { kind } = await messageCount(fn);
    // Linux takes the vector that the Interrupt Message Number names; with one message that is 0.
    const vector = ((await fn.read16(this.express + 2)) >> 9) & 0x1f;
    const set =
      kind === "none" || this.kernel.firmware.msi === null || vector !== 0
        ? 0
        : await this.kernel.setUpMessages(this.device, [
            () => {
              this.signalled = true;
            },
          ]);
    this.polled = set === 0 || this.kernel.port.vectorsOnce === true;
    await fn.write16(this.express + SLOT_STATUS, EVENTS);
    const control = await fn.read16(this.express + SLOT_CONTROL);
    // Without a handler (Linux's pciehp_poll_mode) the slot must not send INTx.
    await fn.write16(this.express + SLOT_CONTROL, control | ENABLE_EVENTS | (set === 0 ? 0 : ENABLE_INTERRUPT));
  }

  /** Stops watching; for a kernel that ends. */
  async disable(): Promise<void> {
    const { fn } = this.device;
    await fn.write16(this.express + SLOT_CONTROL, (await fn.read16(this.express + SLOT_CONTROL)) & ~(ENABLE_EVENTS | ENABLE_INTERRUPT));
    await disableMessages(fn);
  }

  /** Handles what the slot has signalled since the last call. Returns true where there was something. */
  async service(): Promise<boolean> {
    if (!this.signalled && !this.polled) {
      return false;
    }
    this.signalled = false;
    const { fn } = this.device;
    const status = await fn.read16(this.express + SLOT_STATUS);
    const events = status & EVENTS;
    if (events === 0) {
      return false;
    }
    await fn.write16(this.express + SLOT_STATUS, events);
    const present = (status & PRESENT) !== 0;
    if (this.occupied && ((events & ATTENTION) !== 0 || !present)) {
      await this.powerDown();
    } else if (!this.occupied && present && (events & (ATTENTION | PRESENCE_CHANGED | LINK_CHANGED)) !== 0) {
      await this.powerUp();
    }
    return true;
  }

  private async control(clear: number, set: number): Promise<void> {
    const { fn } = this.device;
    await fn.write16(this.express + SLOT_CONTROL, ((await fn.read16(this.express + SLOT_CONTROL)) & ~clear) | set);
  }

  private async powerDown(): Promise<void> {
    await this.control(POWER_INDICATOR, POWER_INDICATOR_BLINK);
    const { fn } = this.device;
    const gone = [...fn.walk()].slice(1);
    for (const child of [...gone].reverse()) {
      const device = this.kernel.devices.find((candidate) => candidate.fn === child);
      if (device !== undefined) {
        await this.kernel.removeDevice(device);
      }
    }
    fn.children.splice(0);
    await this.control(POWER_OFF | POWER_INDICATOR, POWER_OFF | POWER_INDICATOR_OFF);
    this.occupied = false;
    this.onChange?.({ added: [], removed: gone.map((child) => child.name) });
  }

  private async powerUp(): Promise<void> {
    await this.control(POWER_OFF | POWER_INDICATOR, POWER_INDICATOR_BLINK);
    const { fn } = this.device;
    await this.kernel.interrupts.until(
      async () => ((await fn.read16(this.express + LINK_STATUS)) & DATA_LINK_ACTIVE) !== 0,
      `the link of slot ${fn.name}`,
    );
    const added = await this.kernel.addBelow(this.device.bridge, fn);
    await this.control(POWER_INDICATOR, POWER_INDICATOR_ON);
    this.occupied = added.length > 0;
    this.onChange?.({ added, removed: [] });
  }
}

/** Watches every slot of the kernel's ports. */
export async function watchSlots(kernel: Kernel): Promise<HotplugSlot[]> {
  const slots = [];
  for (const device of kernel.devices) {
    const slot = await HotplugSlot.watch(kernel, device);
    if (slot !== null) {
      slots.push(slot);
    }
  }
  return slots;
}

/** Handles interrupts and slot events until `done` settles; a rejection of it is passed on. */
export async function serviceUntil(kernel: Kernel, slots: readonly HotplugSlot[], done: Promise<void>): Promise<void> {
  let settled = false;
  let failed = false;
  let failure: unknown;
  const watched = done.then(
    () => {
      settled = true;
    },
    (error: unknown) => {
      settled = true;
      failed = true;
      failure = error;
    },
  );
  const pending = (): boolean => !settled;
  for (let quiet = 0; pending() && quiet < 256; ) {
    let busy = (await kernel.interrupts.poll()) > 0;
    for (const slot of slots) {
      busy = (await slot.service()) || busy;
    }
    quiet = busy ? 0 : quiet + 1;
    await new Promise((resolve) => setImmediate(resolve));
  }
  check(!pending(), "waited in vain for the slot to let its device go");
  await watched;
  if (failed) {
    throw failure;
  }
}
