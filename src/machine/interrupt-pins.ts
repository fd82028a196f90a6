/** Devices with interrupt lines, by the QOM paths that QEMU gives them: what qtest listens to and sets. */
import type { PinDevice, PinListener } from "../port/index.js";
import type { Board } from "./board.js";
import type { InterruptLog } from "./interrupt-log.js";

/** Name of a sysbus device's outputs. */
export const OUTPUTS = "sysbus-irq";

/** Lines `first` to `first + count - 1` of the interrupt controller. */
export interface Lines {
  readonly first: number;
  readonly count: number;
}

/** A device whose outputs are wired to the interrupt controller. */
export class DevicePins implements PinDevice {
  constructor(
    private readonly interrupts: InterruptLog,
    private readonly outputs: Lines | null,
  ) {}

  intercept(direction: "in" | "out", name: string | null, listener: PinListener): boolean {
    const { outputs } = this;
    // QEMU looks at all lists of a device for inputs, those that have none included.
    if (outputs === null || (direction === "out" && name !== OUTPUTS)) {
      return false;
    }
    if (direction === "out") {
      this.interrupts.watchLines((line, level) => {
        const pin = line - outputs.first;
        if (pin >= 0 && pin < outputs.count) {
          listener(pin, level);
        }
      });
    }
    return true;
  }

  set(): boolean {
    return false;
  }
}

/** A board's devices. */
export class InterruptPins {
  private readonly made = new Map<string, PinDevice>();

  constructor(private readonly board: Board) {}

  /** By the whole path, or by the end of one where that is the only one. Null: no device that is here. */
  find(path: string): PinDevice | null {
    const known = this.board.pinPaths();
    const whole = path.startsWith("/") ? path : this.complete(path, [...known.keys()]);
    const make = whole === null ? undefined : known.get(whole);
    if (whole === null || make === undefined) {
      return null;
    }
    const device = this.made.get(whole) ?? make();
    this.made.set(whole, device);
    return device;
  }

  private complete(end: string, paths: readonly string[]): string | null {
    const fits = paths.filter((path) => path.endsWith(`/${end}`));
    return fits.length === 1 ? fits[0] : null;
  }
}

/** Lines of the devices that the user asked for; null: it has none. */
export function argumentPaths(board: Board, linesOf: (argument: object) => Lines | null): Map<string, () => PinDevice> {
  const out = new Map<string, () => PinDevice>();
  let anonymous = 0;
  for (const argument of board.args.devices) {
    const path = argument.id === "" ? `/machine/peripheral-anon/device[${anonymous++}]` : `/machine/peripheral/${argument.id}`;
    out.set(path, () => new DevicePins(board.interrupts, linesOf(argument)));
  }
  return out;
}
