/** The IOAPIC: 24 pins, each an entry that becomes a message (Intel 82093AA; version 0x20 with an EOI register; QEMU hw/intc/ioapic.c). */
import type { MmioHandler } from "../../memory/index.js";
import type { ApicInterrupts, Message, Remapper } from "./apic-interrupts.js";
import { IOAPIC_REQUESTER_ID } from "./map.js";

export const IOAPIC_PINS = 24;
const VERSION = 0x20;

/** Memory-mapped registers. */
const SELECT = 0x00;
const WINDOW = 0x10;
const EOI = 0x40;
/** Selected ones. */
const ID = 0x00;
const VERSION_REGISTER = 0x01;
const ARBITRATION = 0x02;
const FIRST_ENTRY = 0x10;

/** Bits of an entry's low word. */
const DELIVERY_STATUS = 1 << 12;
const REMOTE_IRR = 1 << 14;
const LEVEL_TRIGGERED = 1 << 15;
const MASKED = 1 << 16;
const READ_ONLY = DELIVERY_STATUS | REMOTE_IRR;

/** A pin's entry in the redirection table. */
export interface PinEntry {
  readonly masked: boolean;
  readonly levelTriggered: boolean;
  /** Vector, 8 bits. */
  readonly vector: number;
  /** What the pin sends now, not remapped. */
  readonly message: Message;
}

export class IoApic implements MmioHandler {
  /** Called after an entry has been written, or all have been reset (null): where an interrupt controller outside keeps routes of them (KVM's split irqchip). */
  onEntry: (pin: number | null) => void = () => {};
  private select = 0;
  private id = 0;
  private readonly low = new Int32Array(IOAPIC_PINS);
  private readonly high = new Int32Array(IOAPIC_PINS);
  /** Levels of the pins, and edges that came while masked or not taken yet. */
  private levels = 0;
  private waiting = 0;

  constructor(
    private readonly interrupts: ApicInterrupts,
    private readonly remap: Remapper,
  ) {
    this.reset();
  }

  reset(): void {
    this.select = 0;
    this.id = 0;
    this.waiting = 0;
    this.low.fill(MASKED);
    this.high.fill(0);
    this.onEntry(null);
  }

  /** Sets a pin. */
  setPin(pin: number, level: number): void {
    this.interrupts.pinLevel(pin, level);
    const bit = 1 << pin;
    const rose = level !== 0 && (this.levels & bit) === 0;
    this.levels = level === 0 ? this.levels & ~bit : this.levels | bit;
    if ((this.low[pin] & LEVEL_TRIGGERED) !== 0) {
      this.waiting = level === 0 ? this.waiting & ~bit : this.waiting | bit;
      this.service(pin);
    } else if (rose && (this.low[pin] & MASKED) === 0) {
      // An edge that meets a masked entry is lost (82093AA 3.2.4; ioapic_set_irq).
      this.waiting |= bit;
      this.service(pin);
    }
  }

  /** Sends what waits at a pin. A level-triggered one is sent once until its end (EOI). */
  private service(pin: number): void {
    const bit = 1 << pin;
    const entry = this.low[pin];
    if ((this.waiting & bit) === 0 || (entry & MASKED) !== 0) {
      return;
    }
    const level = (entry & LEVEL_TRIGGERED) !== 0;
    if (!level) {
      this.waiting &= ~bit;
    } else if ((entry & REMOTE_IRR) !== 0) {
      return;
    } else {
      this.low[pin] |= REMOTE_IRR;
    }
    const message = this.remap(IOAPIC_REQUESTER_ID, this.entry(pin).message);
    if (message !== null) {
      this.interrupts.message(message);
    }
  }

  /** @param pin 0 to 23 */
  entry(pin: number): PinEntry {
    const low = this.low[pin];
    const levelTriggered = (low & LEVEL_TRIGGERED) !== 0;
    // Bits 63:48 are bits 19:4 of the message's address in both formats (VT-d 5.1.5.1).
    const address = 0xfee0_0000 + ((this.high[pin] >>> 16) << 4) + (((low >>> 11) & 1) << 2);
    const data = (low & 0x7ff) | (levelTriggered ? 0x8000 : 0);
    return { masked: (low & MASKED) !== 0, levelTriggered, vector: low & 0xff, message: { address, data } };
  }

  /** A vector has been dealt with: pins that are still asserted send again. */
  end(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      if ((this.low[pin] & 0xff) === vector && (this.low[pin] & REMOTE_IRR) !== 0) {
        this.low[pin] &= ~REMOTE_IRR;
        this.service(pin);
      }
    }
  }

  read(offset: number, size: number): bigint {
    return size !== 4 && offset !== SELECT ? 0n : BigInt(this.register(offset) >>> 0);
  }

  private register(offset: number): number {
    if (offset === SELECT) {
      return this.select;
    }
    if (offset !== WINDOW) {
      return 0;
    }
    switch (this.select) {
      case ID:
      case ARBITRATION:
        return this.id << 24;
      case VERSION_REGISTER:
        return VERSION | ((IOAPIC_PINS - 1) << 16);
      default: {
        const entry = this.select - FIRST_ENTRY;
        const pin = entry >> 1;
        return entry < 0 || pin >= IOAPIC_PINS ? 0 : (entry & 1) === 0 ? this.low[pin] : this.high[pin];
      }
    }
  }

  write(offset: number, size: number, value: bigint): void {
    const word = Number(value & 0xffff_ffffn);
    if (offset === SELECT) {
      this.select = word & 0xff;
    } else if (offset === EOI) {
      this.end(word & 0xff);
    } else if (offset === WINDOW && size === 4) {
      this.writeSelected(word);
    }
  }

  private writeSelected(word: number): void {
    if (this.select === ID) {
      this.id = (word >>> 24) & 0xf;
      return;
    }
    const entry = this.select - FIRST_ENTRY;
    const pin = entry >> 1;
    if (entry < 0 || pin >= IOAPIC_PINS) {
      return;
    }
    if ((entry & 1) === 1) {
      this.high[pin] = word;
    } else {
      this.low[pin] = (word & ~READ_ONLY) | (this.low[pin] & READ_ONLY);
      if ((this.low[pin] & LEVEL_TRIGGERED) === 0) {
        this.low[pin] &= ~REMOTE_IRR;
      } else if ((this.levels & (1 << pin)) !== 0) {
        this.waiting |= 1 << pin;
      }
    }
    this.onEntry(pin);
    this.service(pin);
  }
}
