/**
 * The ACPI hardware of the ICH9 as a kernel uses it (ACPI 6.5, 4.8.3): PM1 event and control registers with the power
 * button, the power management timer, the system control interrupt; and the reset register (PCI 3.0's 0xcf9).
 */
import type { MmioHandler } from "../../memory/index.js";

/** Offsets from the event block's port. */
const STATUS = 0;
const ENABLE = 2;
const CONTROL = 4;
const TIMER = 8;
/** I/O ports from the event block on. */
export const ACPI_PORTS = 12;

/** PM1 status and enable bits (table 4.11 and 4.12). */
const TIMER_BIT = 1 << 0;
const GLOBAL_BIT = 1 << 5;
const POWER_BUTTON = 1 << 8;
const WAKE = 1 << 15;
const STATUS_BITS = TIMER_BIT | GLOBAL_BIT | POWER_BUTTON | WAKE;
const ENABLE_BITS = TIMER_BIT | GLOBAL_BIT | POWER_BUTTON;

/** PM1 control bits (table 4.13). */
const SCI_ENABLED = 1 << 0;
const SLEEP_TYPE = 0x1c00;
const SLEEP_TYPE_SHIFT = 10;
const SLEEP_ENABLE = 1 << 13;
/** As the DSDT's \_S5 says. */
export const SLEEP_TYPE_OFF = 5;

/** 3.579545 MHz, 24 bits (4.8.3.3). */
const TIMER_HERTZ = 3_579_545n;
const TIMER_BITS = 24n;
const NANOSECONDS = 1_000_000_000n;

export interface AcpiHardwareOutputs {
  /** Level of the system control interrupt. */
  setInterrupt(level: boolean): void;
  /** The guest has switched the machine off. */
  powerOff(): void;
}

export class AcpiHardware implements MmioHandler {
  private status = 0;
  private enabled = 0;
  private control = SCI_ENABLED;
  /** Half periods of the timer's highest bit that the guest has been told of. */
  private told = 0n;

  /** @param now the machine's time in nanoseconds */
  constructor(
    private readonly outputs: AcpiHardwareOutputs,
    private readonly now: () => bigint,
  ) {}

  reset(): void {
    this.status = 0;
    this.enabled = 0;
    this.control = SCI_ENABLED;
    this.told = this.halfPeriods;
    this.update();
  }

  /** The power button has been pressed. */
  pressPowerButton(): void {
    this.status |= POWER_BUTTON;
    this.update();
  }

  private get ticks(): bigint {
    return (this.now() * TIMER_HERTZ) / NANOSECONDS;
  }

  private get halfPeriods(): bigint {
    return this.ticks >> (TIMER_BITS - 1n);
  }

  read(offset: number, size: number): bigint {
    let value = 0n;
    for (let byte = size - 1; byte >= 0; byte--) {
      value = (value << 8n) | BigInt(this.byte(offset + byte));
    }
    return value;
  }

  private byte(offset: number): number {
    const shift = 8 * (offset & 1);
    switch (offset & ~1) {
      case STATUS:
        this.status |= this.halfPeriods !== this.told ? TIMER_BIT : 0;
        return (this.status >> shift) & 0xff;
      case ENABLE:
        return (this.enabled >> shift) & 0xff;
      case CONTROL:
        return (this.control >> shift) & 0xff;
      default:
        return offset < TIMER || offset >= TIMER + 3 ? 0 : Number((this.ticks >> BigInt(8 * (offset - TIMER))) & 0xffn);
    }
  }

  write(offset: number, size: number, value: bigint): void {
    for (let byte = 0; byte < size; byte++) {
      this.writeByte(offset + byte, Number((value >> BigInt(8 * byte)) & 0xffn));
    }
    this.update();
    // Both bytes of the control register are there by now: a guest may write them one after the other.
    if ((this.control & SLEEP_ENABLE) !== 0) {
      this.control &= ~SLEEP_ENABLE;
      if ((this.control & SLEEP_TYPE) >> SLEEP_TYPE_SHIFT === SLEEP_TYPE_OFF) {
        this.outputs.powerOff();
      }
    }
  }

  private writeByte(offset: number, value: number): void {
    const shift = 8 * (offset & 1);
    const bits = value << shift;
    const kept = ~(0xff << shift);
    switch (offset & ~1) {
      case STATUS:
        if ((bits & TIMER_BIT) !== 0) {
          this.told = this.halfPeriods;
        }
        this.status &= ~(bits & STATUS_BITS);
        break;
      case ENABLE:
        this.enabled = (this.enabled & kept) | (bits & ENABLE_BITS);
        break;
      case CONTROL:
        // SCI_EN is the hardware's: ACPI mode is all there is.
        this.control = (this.control & kept) | (bits & ~SCI_ENABLED) | SCI_ENABLED;
        break;
    }
  }

  private update(): void {
    this.outputs.setInterrupt((this.status & this.enabled & ENABLE_BITS) !== 0);
  }
}

/** The reset register: a rising CPU reset bit resets, with the system reset bit everything (ICH9 datasheet, 13.7.5). */
export class ResetPort implements MmioHandler {
  private value = 0;

  constructor(private readonly onReset: () => void) {}

  reset(): void {
    this.value = 0;
  }

  read(): bigint {
    return BigInt(this.value);
  }

  write(_offset: number, _size: number, value: bigint): void {
    this.value = Number(value & 0x0en);
    if ((this.value & 4) !== 0) {
      this.value &= ~4;
      this.onReset();
    }
  }
}
