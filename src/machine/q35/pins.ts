/** Devices of the q35 board with interrupt lines, by QEMU 11.1's QOM paths. */
import type { PinDevice, PinListener } from "../../port/index.js";
import type { ApicInterrupts } from "./apic-interrupts.js";
import { argumentPaths, DevicePins } from "../interrupt-pins.js";
import { IOAPIC_PINS, type IoApic } from "./ioapic.js";
import type { Q35Board } from "./board.js";

/** The IOAPIC's inputs; it has no outputs. */
class IoApicPins implements PinDevice {
  constructor(
    private readonly ioapic: IoApic,
    private readonly interrupts: ApicInterrupts,
  ) {}

  intercept(direction: "in" | "out", name: string | null, listener: PinListener): boolean {
    if (direction === "out" || name !== null) {
      return false;
    }
    this.interrupts.watchLines(listener);
    return true;
  }

  set(name: string | null, pin: number, level: number): boolean {
    if (name !== null || pin < 0 || pin >= IOAPIC_PINS) {
      return false;
    }
    this.ioapic.setPin(pin, level);
    return true;
  }
}

export function q35Pins(board: Q35Board): Map<string, () => PinDevice> {
  const silent = (): PinDevice => new DevicePins(board.interrupts, null);
  return new Map([
    ["/machine/q35/ioapic", () => new IoApicPins(board.ioapic, board.interrupts)],
    ["/machine/q35", silent],
    ...argumentPaths(board, () => null),
  ]);
}
