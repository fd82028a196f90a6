/**
 * Devices of the virt board with interrupt lines. Boards number the devices that have no name in the order of
 * their making: CPUs, interrupt controller, its ITS or GICv2m frame, UART, RTC, PCI host bridge, the SMMU of
 * iommu=smmuv3 (read off QEMU 11.1's qom-list).
 */
import type { PinDevice, PinListener } from "../../port/index.js";
import { virtNumbers } from "./numbers.js";
import type { GicInterrupts } from "./gic-interrupts.js";
import { argumentPaths, DevicePins, type Lines, OUTPUTS } from "../interrupt-pins.js";
import type { VirtBoard } from "./board.js";
import { FIRST_SPI, SPI_COUNT, VIRT_SPI } from "./map.js";

const PPI_COUNT = 32;

/** The interrupt controller: inputs are SPIs from 0 on, then each CPU's PPIs; its outputs go to CPUs, and there are none. */
class GicPins implements PinDevice {
  constructor(
    private readonly interrupts: GicInterrupts,
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

export function virtPins(board: VirtBoard): Map<string, () => PinDevice> {
  const { interrupts } = board;
  const spis = (first: number, count: number): Lines => ({ first: FIRST_SPI + first, count });
  const smmuLines = (argument: object | null): Lines | null => {
    const smmu = board.smmus.all.find((one) => one.argument === argument);
    return smmu === undefined ? null : spis(smmu.spi, 4);
  };
  const numbers = virtNumbers(board.args.smp.cpus, board.msiController !== "none", smmuLines(null) !== null);
  const out = new Map<string, () => PinDevice>();
  const unattached = (number: number | null, make: () => PinDevice): void => {
    if (number !== null) {
      out.set(`/machine/unattached/device[${number}]`, make);
    }
  };
  unattached(numbers.interruptController, () => new GicPins(interrupts, board.args.smp.cpus));
  unattached(numbers.msiController, () => new DevicePins(interrupts, board.msiController === "gicv2m" ? spis(VIRT_SPI.gicV2m, VIRT_SPI.gicV2mCount) : null));
  unattached(numbers.hostBridge, () => new DevicePins(interrupts, spis(VIRT_SPI.pcie, 4)));
  unattached(numbers.smmu, () => new DevicePins(interrupts, smmuLines(null)));
  return new Map([...out, ...argumentPaths(board, smmuLines)]);
}
