/** The virt board's own devices besides interrupt controller, PCI and SMMUs: serial ports, clock, power button. */
import { MemoryRegion } from "../../memory/index.js";
import { NOBODY, type SerialEnd } from "../serial/end.js";
import { Pl011 } from "../serial/pl011.js";
import { EfiClock } from "./efi-clock.js";
import { EventDevice } from "./event-device.js";
import type { GicInterrupts } from "./gic-interrupts.js";
import { FIRST_SPI, VIRT, VIRT_SPI } from "./map.js";
import { Pl031, WALL_CLOCK } from "./pl031.js";
import { Pl061 } from "./pl061.js";

/** Of the PL061, as QEMU wires the power key; how long it is held down. */
export const POWER_KEY_LINE = 3;
const POWER_KEY_MS = 100;

/** Places of the serial ports: the second is there where it is asked for, as in QEMU. */
export const VIRT_UARTS = [
  { ...VIRT.uart, spi: VIRT_SPI.uart },
  { ...VIRT.uart1, spi: VIRT_SPI.uart1 },
] as const;

export class PlatformDevices {
  readonly uarts: readonly Pl011[];
  readonly rtc: Pl031;
  readonly gpio: Pl061;
  readonly events: EventDevice;
  private readonly ends: SerialEnd[];
  private key: NodeJS.Timeout | null = null;

  /** @param serials of -serial */
  constructor(root: MemoryRegion, interrupts: GicInterrupts, serials: number) {
    const line = (spi: number) => (level: boolean) => interrupts.setLevel(FIRST_SPI + spi, level);
    const places = VIRT_UARTS.slice(0, Math.max(serials, 1));
    this.ends = places.map(() => NOBODY);
    this.uarts = places.map(({ base, size, spi }, index) => {
      const uart = new Pl011((byte) => this.ends[index].send(byte), line(spi), () => this.ends[index].hasRoom());
      root.add(base, MemoryRegion.mmio("pl011", size, uart));
      return uart;
    });
    this.rtc = new Pl031(WALL_CLOCK, line(VIRT_SPI.rtc));
    root.add(VIRT.rtc.base, MemoryRegion.mmio("pl031", VIRT.rtc.size, this.rtc));
    this.gpio = new Pl061(line(VIRT_SPI.gpio));
    root.add(VIRT.gpio.base, MemoryRegion.mmio("pl061", VIRT.gpio.size, this.gpio));
    root.add(VIRT.efiClock.base, MemoryRegion.mmio("efi-clock", VIRT.efiClock.size, new EfiClock(WALL_CLOCK)));
    this.events = new EventDevice(() => interrupts.spi(FIRST_SPI + VIRT_SPI.ged));
    root.add(VIRT.ged.base, MemoryRegion.mmio("acpi-ged", VIRT.ged.size, this.events));
  }

  /** Addresses of the data registers (Arm DDI 0183, UARTDR at 0). */
  get transmitters(): number[] {
    return VIRT_UARTS.slice(0, this.uarts.length).map(({ base }) => base);
  }

  connect(index: number, end: SerialEnd): void {
    this.ends[index] = end;
  }

  /** A guest by ACPI hears it from the event device, one by the device tree as a key. */
  pressPowerButton(): void {
    this.events.pressPowerButton();
    this.gpio.setInput(POWER_KEY_LINE, true);
    this.releaseKey();
    this.key = setTimeout(() => this.gpio.setInput(POWER_KEY_LINE, false), POWER_KEY_MS).unref();
  }

  private releaseKey(): void {
    if (this.key !== null) {
      clearTimeout(this.key);
      this.key = null;
    }
  }

  reset(): void {
    this.releaseKey();
    this.gpio.setInput(POWER_KEY_LINE, false);
    this.uarts.forEach((uart) => uart.reset());
    this.rtc.reset();
    this.gpio.reset();
    this.events.reset();
  }

  /** Before the board goes: no timer is left. */
  dispose(): void {
    this.releaseKey();
    this.rtc.reset();
  }
}
