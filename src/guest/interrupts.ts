/** The guest's interrupt controller driver: takes what the port delivers and calls who asked for it. */
import type { Interrupt, MachinePort } from "../port/index.js";
import { GuestFailure } from "./failure.js";

export type InterruptHandler = () => void | Promise<void>;

function keyOf(interrupt: Interrupt): string {
  switch (interrupt.kind) {
    case "spi":
      return `spi:${interrupt.intid}`;
    case "msi":
      return `msi:${interrupt.deviceId}:${interrupt.eventId}`;
    case "vector":
      return `vector:${interrupt.vector}`;
  }
}

/** For messages. */
export function describeInterrupt(interrupt: Interrupt): string {
  switch (interrupt.kind) {
    case "spi":
      return `interrupt ${interrupt.intid}`;
    case "msi":
      return `message ${interrupt.eventId} of device 0x${interrupt.deviceId.toString(16)}`;
    case "vector":
      return `vector ${interrupt.vector} at ${interrupt.logical ? "logical destination" : "APIC"} 0x${interrupt.destination.toString(16)}`;
  }
}

/** Polls in vain that follow at once; those after them come a millisecond apart. */
const QUICK_POLLS = 16;

export class InterruptController {
  private readonly handlers = new Map<string, InterruptHandler>();
  private readonly nextEvent = new Map<number, number>();
  /** Interrupts that came so far. */
  received = 0;
  /** Those that nobody had asked for, oldest first. */
  readonly unexpected: Interrupt[] = [];

  constructor(private readonly port: MachinePort) {}

  onSpi(intid: number, handler: InterruptHandler): void {
    this.handlers.set(`spi:${intid}`, handler);
  }

  offSpi(intid: number): void {
    this.handlers.delete(`spi:${intid}`);
  }

  /** A vector of the local APIC. */
  onVector(vector: number, handler: InterruptHandler): void {
    this.handlers.set(`vector:${vector}`, handler);
  }

  offVector(vector: number): void {
    this.handlers.delete(`vector:${vector}`);
  }

  /** Takes the next free event ids of a device (its DeviceID at the ITS), one for each handler; returns them in order. */
  onMsi(deviceId: number, handlers: readonly InterruptHandler[]): number[] {
    return handlers.map((handler) => {
      const eventId = this.nextEvent.get(deviceId) ?? 0;
      this.nextEvent.set(deviceId, eventId + 1);
      this.handlers.set(`msi:${deviceId}:${eventId}`, handler);
      return eventId;
    });
  }

  offMsi(deviceId: number, eventIds: readonly number[]): void {
    for (const eventId of eventIds) {
      this.handlers.delete(`msi:${deviceId}:${eventId}`);
    }
  }

  /** Takes and handles what is there; returns how many interrupts that were. */
  async poll(): Promise<number> {
    const interrupts = await this.port.interrupts();
    for (const interrupt of interrupts) {
      this.received++;
      const handler = this.handlers.get(keyOf(interrupt));
      if (handler === undefined) {
        this.unexpected.push(interrupt);
      } else {
        await handler();
      }
    }
    return interrupts.length;
  }

  /**
   * Handles interrupts until the condition holds. Throws GuestFailure naming `what` after `tries` polls that
   * brought nothing new.
   */
  async until(condition: () => boolean | Promise<boolean>, what: string, tries = 64): Promise<void> {
    if (!(await this.waitFor(condition, tries))) {
      throw new GuestFailure(`waited in vain for ${what}`);
    }
  }

  /** The same, but returns false instead of throwing. */
  async waitFor(condition: () => boolean | Promise<boolean>, tries = 64): Promise<boolean> {
    for (let quiet = 0; quiet < tries; ) {
      if (await condition()) {
        return true;
      }
      quiet = (await this.poll()) > 0 ? 0 : quiet + 1;
      // A machine in another process, or one that works between turns of the event loop, gets its turn; hardware its time.
      await new Promise((resolve) => (quiet < QUICK_POLLS ? setImmediate(resolve) : setTimeout(resolve, 1)));
    }
    return await condition();
  }
}
