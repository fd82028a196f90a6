/**
 * A 16550A serial port without a wire: what is sent goes out at once, what comes waits in the FIFO (National
 * PC16550D; QEMU hw/char/serial.c for what drivers probe). Baud rate and frame are kept and have no effect.
 */
import type { MmioHandler } from "../../memory/index.js";

/** Registers by offset; 0 and 1 are the divisor's while LCR.DLAB is set. */
const DATA = 0;
const INTERRUPT_ENABLE = 1;
/** Read: interrupt identification; written: FIFO control. */
const IDENTIFICATION = 2;
const LINE_CONTROL = 3;
const MODEM_CONTROL = 4;
const LINE_STATUS = 5;
const MODEM_STATUS = 6;
const SCRATCH = 7;

const IER_RECEIVED = 1 << 0;
const IER_EMPTY = 1 << 1;
const IER_LINE = 1 << 2;
const IIR_NONE = 0x01;
const IIR_EMPTY = 0x02;
const IIR_RECEIVED = 0x04;
const IIR_LINE = 0x06;
const IIR_FIFOS = 0xc0;
const FCR_ENABLE = 1 << 0;
const FCR_CLEAR_RECEIVER = 1 << 1;
const LCR_DIVISOR = 1 << 7;
const MCR_LOOPBACK = 1 << 4;
/** Interrupts pass to the pin (a PC's OUT2). */
const MCR_OUT2 = 1 << 3;
const LSR_READY = 1 << 0;
const LSR_OVERRUN = 1 << 1;
const LSR_EMPTY = 0x60;
/** Carrier, data set ready, clear to send: somebody is there. */
const MSR_THERE = 0xb0;

/** Bytes that wait for the guest at the most: a terminal's paste waits at the terminal. */
const FIFO_BYTES = 16;

export class Uart16550 implements MmioHandler {
  /** Bytes that the guest has sent. */
  sent = 0;
  private readonly received: number[] = [];
  private divisor = 12;
  private enabled = 0;
  private fifos = false;
  private lineControl = 0;
  private modemControl = 0;
  private scratch = 0;
  private overrun = false;
  /** The transmitter has become empty and the guest has not been told. */
  private empty = false;

  /**
   * @param send takes a byte of the guest's
   * @param setPin the interrupt's level
   * @param hasRoom called when bytes can be received again
   */
  constructor(
    private readonly send: (byte: number) => void,
    private readonly setPin: (level: boolean) => void,
    private readonly hasRoom: () => void = () => {},
  ) {}

  reset(): void {
    this.received.length = 0;
    this.divisor = 12;
    this.enabled = 0;
    this.fifos = false;
    this.lineControl = 0;
    this.modemControl = 0;
    this.overrun = false;
    this.empty = false;
    this.update();
  }

  /** Bytes that `receive` takes now. */
  get room(): number {
    return (this.fifos ? FIFO_BYTES : 1) - this.received.length;
  }

  /** Bytes from outside; those beyond `room` overrun, as on a wire. */
  receive(bytes: Iterable<number>): void {
    for (const byte of bytes) {
      if (this.room <= 0) {
        this.overrun = true;
        break;
      }
      this.received.push(byte);
    }
    this.update();
  }

  read(offset: number, size: number): bigint {
    return size === 1 ? BigInt(this.readRegister(offset)) : (1n << BigInt(8 * size)) - 1n;
  }

  write(offset: number, size: number, value: bigint): void {
    if (size === 1) {
      this.writeRegister(offset, Number(value & 0xffn));
    }
  }

  readRegister(offset: number): number {
    switch (offset) {
      case DATA: {
        if ((this.lineControl & LCR_DIVISOR) !== 0) {
          return this.divisor & 0xff;
        }
        const byte = this.received.shift() ?? 0;
        this.update();
        if (this.received.length === 0) {
          this.hasRoom();
        }
        return byte;
      }
      case INTERRUPT_ENABLE:
        return (this.lineControl & LCR_DIVISOR) !== 0 ? this.divisor >> 8 : this.enabled;
      case IDENTIFICATION: {
        const reason = this.reason();
        if (reason === IIR_EMPTY) {
          // Reading it takes the interrupt back (PC16550D, table IV).
          this.empty = false;
          this.update();
        }
        return reason | (this.fifos ? IIR_FIFOS : 0);
      }
      case LINE_CONTROL:
        return this.lineControl;
      case MODEM_CONTROL:
        return this.modemControl;
      case LINE_STATUS: {
        const status = LSR_EMPTY | (this.received.length > 0 ? LSR_READY : 0) | (this.overrun ? LSR_OVERRUN : 0);
        this.overrun = false;
        this.update();
        return status;
      }
      case MODEM_STATUS:
        // In loopback DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD.
        return (this.modemControl & MCR_LOOPBACK) === 0
          ? MSR_THERE
          : ((this.modemControl & 1) << 5) | ((this.modemControl & 2) << 3) | ((this.modemControl & 4) << 4) | ((this.modemControl & 8) << 4);
      default:
        return offset === SCRATCH ? this.scratch : 0xff;
    }
  }

  writeRegister(offset: number, value: number): void {
    switch (offset) {
      case DATA:
        if ((this.lineControl & LCR_DIVISOR) !== 0) {
          this.divisor = (this.divisor & 0xff00) | value;
          return;
        }
        if ((this.modemControl & MCR_LOOPBACK) !== 0) {
          this.receive([value]);
        } else {
          this.sent++;
          this.send(value);
        }
        this.empty = true;
        break;
      case INTERRUPT_ENABLE:
        if ((this.lineControl & LCR_DIVISOR) !== 0) {
          this.divisor = (this.divisor & 0xff) | (value << 8);
          return;
        }
        // Switched on while the transmitter is empty, it interrupts at once.
        this.empty ||= (value & ~this.enabled & IER_EMPTY) !== 0;
        this.enabled = value & 0x0f;
        break;
      case IDENTIFICATION:
        this.fifos = (value & FCR_ENABLE) !== 0;
        if ((value & FCR_CLEAR_RECEIVER) !== 0) {
          this.received.length = 0;
          this.hasRoom();
        }
        break;
      case LINE_CONTROL:
        this.lineControl = value;
        break;
      case MODEM_CONTROL:
        this.modemControl = value & 0x1f;
        break;
      case SCRATCH:
        this.scratch = value;
        break;
    }
    this.update();
  }

  /** The interrupt of highest priority that is pending and enabled. */
  private reason(): number {
    if (this.overrun && (this.enabled & IER_LINE) !== 0) {
      return IIR_LINE;
    }
    if (this.received.length > 0 && (this.enabled & IER_RECEIVED) !== 0) {
      return IIR_RECEIVED;
    }
    return this.empty && (this.enabled & IER_EMPTY) !== 0 ? IIR_EMPTY : IIR_NONE;
  }

  private update(): void {
    this.setPin(this.reason() !== IIR_NONE && (this.modemControl & MCR_OUT2) !== 0);
  }
}
