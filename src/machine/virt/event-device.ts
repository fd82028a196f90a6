/** ACPI's generic event device as QEMU has it (ACPI 6.5, 5.6.9; hw/acpi/generic_event_device.c): one register that tells what has happened. */
import type { MmioHandler } from "../../memory/index.js";

/** Bits of the selector. */
const GED_POWER_BUTTON = 1 << 1;

export class EventDevice implements MmioHandler {
  private selector = 0;

  /** @param pulse an edge of its interrupt */
  constructor(private readonly pulse: () => void) {}

  reset(): void {
    this.selector = 0;
  }

  /** The power button has been pressed. */
  pressPowerButton(): void {
    this.selector |= GED_POWER_BUTTON;
    this.pulse();
  }

  /** Reading tells and forgets. */
  read(offset: number): bigint {
    if (offset !== 0) {
      return 0n;
    }
    const value = this.selector;
    this.selector = 0;
    return BigInt(value);
  }

  write(): void {}
}
