/**
 * Arm's PL011 UART (Arm DDI 0183G) without a wire: what is sent goes out at once, what comes waits in the FIFO. Baud
 * rate, frame and DMA control are kept and have no effect. Its registers hold an SBSA generic UART's (Arm DEN 0029, B).
 */
import { ArmCell } from "../arm-cell.js";

const DR = 0x00;
/** Read: errors of the last character; written: clears them. */
const RSR_ECR = 0x04;
const FR = 0x18;
const ILPR = 0x20;
const IBRD = 0x24;
const FBRD = 0x28;
const LCR_H = 0x2c;
const CR = 0x30;
const IFLS = 0x34;
const IMSC = 0x38;
const RIS = 0x3c;
const MIS = 0x40;
const ICR = 0x44;
const DMACR = 0x48;

const FR_RECEIVER_EMPTY = 1 << 4;
const FR_RECEIVER_FULL = 1 << 6;
const FR_TRANSMITTER_EMPTY = 1 << 7;
const LCR_FIFOS = 1 << 4;
const CR_LOOPBACK = 1 << 7;
/** At reset: receiver and transmitter are enabled, the UART is not. */
const CR_RESET = 0x300;
const IFLS_RESET = 0x12;
const INT_RECEIVED = 1 << 4;
const INT_SENT = 1 << 5;
const INT_OVERRUN = 1 << 10;
const INT_ALL = 0x7ff;
/** Of a character's error bits in DR. */
const DR_OVERRUN = 1 << 11;

const FIFO_BYTES = 16;

/** Registers that are kept as they are written, with the bits that they have. */
const KEPT: ReadonlyMap<number, number> = new Map([
  [ILPR, 0xff],
  [IBRD, 0xffff],
  [FBRD, 0x3f],
  [LCR_H, 0xff],
  [CR, 0xff87],
  [IFLS, 0x3f],
  [DMACR, 0x7],
]);

export class Pl011 extends ArmCell {
  /** Bytes that the guest has sent. */
  sent = 0;
  private readonly received: number[] = [];
  private readonly kept = new Map<number, number>();
  private mask = 0;
  private raw = 0;
  private overrun = false;

  /**
   * @param send takes a byte of the guest's
   * @param setLine the combined interrupt's level
   * @param hasRoom called when bytes can be received again
   */
  constructor(
    private readonly send: (byte: number) => void,
    private readonly setLine: (level: boolean) => void,
    private readonly hasRoom: () => void = () => {},
  ) {
    super([0x11, 0x10, 0x14, 0x00]);
  }

  reset(): void {
    this.received.length = 0;
    this.kept.clear();
    this.mask = 0;
    this.raw = 0;
    this.overrun = false;
    this.update();
  }

  private get depth(): number {
    return (this.control(LCR_H) & LCR_FIFOS) !== 0 ? FIFO_BYTES : 1;
  }

  private control(register: number): number {
    return this.kept.get(register) ?? (register === CR ? CR_RESET : register === IFLS ? IFLS_RESET : 0);
  }

  /** Bytes that `receive` takes now. */
  get room(): number {
    return this.depth - this.received.length;
  }

  /** Bytes from outside; those beyond `room` overrun, as on a wire. The receive interrupt comes with the first, whatever IFLS says, as QEMU's does. */
  receive(bytes: Iterable<number>): void {
    for (const byte of bytes) {
      if (this.room <= 0) {
        this.overrun = true;
        this.raw |= INT_OVERRUN;
        break;
      }
      this.received.push(byte);
      this.raw |= INT_RECEIVED;
    }
    this.update();
  }

  protected readRegister(offset: number): number {
    switch (offset) {
      case DR: {
        const byte = this.received.shift() ?? 0;
        const value = byte | (this.overrun ? DR_OVERRUN : 0);
        this.overrun = false;
        if (this.received.length === 0) {
          this.raw &= ~INT_RECEIVED;
          this.hasRoom();
        }
        this.update();
        return value;
      }
      case RSR_ECR:
        return this.overrun ? DR_OVERRUN >> 8 : 0;
      case FR:
        return FR_TRANSMITTER_EMPTY | (this.received.length === 0 ? FR_RECEIVER_EMPTY : this.room <= 0 ? FR_RECEIVER_FULL : 0);
      case IMSC:
        return this.mask;
      case RIS:
        return this.raw;
      case MIS:
        return this.raw & this.mask;
      default:
        return KEPT.has(offset) ? this.control(offset) : 0;
    }
  }

  protected writeRegister(offset: number, value: number): void {
    switch (offset) {
      case DR:
        if ((this.control(CR) & CR_LOOPBACK) !== 0) {
          this.receive([value & 0xff]);
        } else {
          this.sent++;
          this.send(value & 0xff);
        }
        // The FIFO is empty again: its level has passed the trigger.
        this.raw |= INT_SENT;
        break;
      case RSR_ECR:
        this.overrun = false;
        break;
      case IMSC:
        this.mask = value & INT_ALL;
        break;
      case ICR:
        this.raw &= ~value;
        break;
      default: {
        const bits = KEPT.get(offset);
        if (bits === undefined) {
          return;
        }
        const fifos = this.depth;
        this.kept.set(offset, value & bits);
        if (offset === LCR_H && this.depth !== fifos) {
          // DDI 0183G, 3.3.7: the holding registers take the FIFOs' place, whose content goes.
          this.received.length = 0;
          this.raw &= ~INT_RECEIVED;
          this.hasRoom();
        }
      }
    }
    this.update();
  }

  private update(): void {
    this.setLine((this.raw & this.mask) !== 0);
  }
}
