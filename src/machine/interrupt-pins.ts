/**
 * Devices with interrupt lines, by the QOM paths that QEMU 11.1 gives them. Boards number the devices that
 * have no name in the order of their making: CPUs, interrupt controller, its ITS or GICv2m frame, UART, RTC,
 * PCI host bridge, the SMMU of iommu=smmuv3 (read off QEMU's qom-list).
 */
import type { PinDevice, PinListener } from "../port/index.js";
import { boardNumbers } from "./device-names.js";
import type { InterruptLog } from "./interrupt-log.js";
import type { VirtBoard } from "./virt.js";
import { VIRT_SPI } from "./virt-map.js";

const SPI_COUNT = 256;
const PPI_COUNT = 32;
const FIRST_SPI = 32;
/** Name of a sysbus device's outputs. */
const OUTPUTS = "sysbus-irq";

/** Lines that are SPIs `first` to `first + count - 1` of the interrupt controller. */
interface Lines {
  readonly first: number;
  readonly count: number;
}

/** The interrupt controller: inputs are SPIs from 0 on, then each CPU's PPIs; its outputs go to CPUs, and there are none. */
class ControllerPins implements PinDevice {
  constructor(
    private readonly interrupts: InterruptLog,
    private readonly cpus: number,
  ) {}

  intercept(direction: "in" | "out", name: string | null, listener: PinListener): boolean {
    if (name !== null && name !== OUTPUTS) {
      return false;
    }
    if (direction === "in") {
      this.interrupts.watchLines((intid, level) => listener(intid - FIRST_SPI, level));
    }
    return true;
  }

  set(name: string | null, pin: number, level: number): boolean {
    if (name !== null || pin < 0 || pin >= SPI_COUNT + PPI_COUNT * this.cpus) {
      return false;
    }
    this.interrupts.drive(FIRST_SPI + pin, level, pin < SPI_COUNT);
    return true;
  }
}

/** A device whose outputs are wired to the interrupt controller. */
class DevicePins implements PinDevice {
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
      this.interrupts.watchLines((intid, level) => {
        const pin = intid - FIRST_SPI - outputs.first;
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

export class InterruptPins {
  private readonly made = new Map<string, PinDevice>();

  constructor(private readonly board: VirtBoard) {}

  /** By the whole path, or by the end of one where that is the only one. Null: no device that is here. */
  find(path: string): PinDevice | null {
    const known = this.paths();
    const whole = path.startsWith("/") ? path : this.complete(path, [...known.keys()]);
    if (whole === null || !known.has(whole)) {
      return null;
    }
    const before = this.made.get(whole);
    if (before !== undefined) {
      return before;
    }
    const lines = known.get(whole)!;
    const device = lines === "controller" ? new ControllerPins(this.board.interrupts, this.board.args.smp.cpus) : new DevicePins(this.board.interrupts, lines);
    this.made.set(whole, device);
    return device;
  }

  private complete(end: string, paths: readonly string[]): string | null {
    const fits = paths.filter((path) => path.endsWith(`/${end}`));
    return fits.length === 1 ? fits[0] : null;
  }

  private paths(): Map<string, Lines | "controller" | null> {
    const { board } = this;
    const out = new Map<string, Lines | "controller" | null>();
    const legacy = board.smmus.all.find((smmu) => smmu.legacy);
    const numbers = boardNumbers(board.args.smp.cpus, board.msiController !== "none", legacy !== undefined);
    const unattached = (number: number | null, lines: Lines | "controller" | null): void => {
      if (number !== null) {
        out.set(`/machine/unattached/device[${number}]`, lines);
      }
    };
    unattached(numbers.interruptController, "controller");
    unattached(numbers.msiController, board.msiController === "gicv2m" ? { first: VIRT_SPI.gicV2m, count: VIRT_SPI.gicV2mCount } : null);
    unattached(numbers.hostBridge, { first: VIRT_SPI.pcie, count: 4 });
    unattached(numbers.smmu, legacy === undefined ? null : { first: legacy.spi, count: 4 });
    const smmuOf = new Map(board.smmus.all.map((smmu) => [smmu.argument, smmu]));
    let anonymous = 0;
    for (const argument of board.args.devices) {
      const smmu = smmuOf.get(argument);
      const path = argument.id === "" ? `/machine/peripheral-anon/device[${anonymous++}]` : `/machine/peripheral/${argument.id}`;
      out.set(path, smmu === undefined ? null : { first: smmu.spi, count: 4 });
    }
    return out;
  }
}
