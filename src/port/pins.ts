/** What an outside tool (qtest) reaches of a machine besides its memory: interrupt lines by name, and time. */

/** Called when a line is set to another level, with its number among the pins that were asked for. */
export type PinListener = (pin: number, level: number) => void;

/** Interrupt inputs and outputs of one device (QEMU: its lists of GPIOs). */
export interface PinDevice {
  /** Starts to listen. @returns false where the device has no such list of pins */
  intercept(direction: "in" | "out", name: string | null, listener: PinListener): boolean;
  /** Sets an input. @returns false where the device has no such pin */
  set(name: string | null, pin: number, level: number): boolean;
}

/** Time of the machine, in nanoseconds, which stands still but for steps from outside. */
export interface SteppedClock {
  readonly now: bigint;
  /** When the next timer is due; null: none is, or the machine is stopped. */
  readonly deadline: bigint | null;
  /** Runs the timers up to `time`, each at its own; earlier times do nothing. */
  advanceTo(time: bigint): void;
}
