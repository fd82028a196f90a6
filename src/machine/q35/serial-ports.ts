/** A PC's serial ports: COM1 to COM4, as many as there are consoles asked for. */
import { NOBODY, type SerialEnd } from "../serial/end.js";
import { Uart16550 } from "../serial/uart16550.js";
import type { IoApic } from "./ioapic.js";
import type { IoPorts } from "./io-ports.js";

/** I/O ports and ISA interrupts by number. */
export const SERIAL_PORTS = [
  { port: 0x3f8, irq: 4 },
  { port: 0x2f8, irq: 3 },
  { port: 0x3e8, irq: 4 },
  { port: 0x2e8, irq: 3 },
] as const;

export class SerialPorts {
  readonly uarts: readonly Uart16550[];
  private readonly ends: SerialEnd[];

  constructor(count: number, ports: IoPorts, ioapic: IoApic) {
    // Two ports may share an interrupt: it is asserted while one of them asks.
    const asking = new Map<number, Set<number>>();
    this.ends = Array.from({ length: count }, () => NOBODY);
    this.uarts = SERIAL_PORTS.slice(0, count).map(({ port, irq }, index) => {
      const set = asking.get(irq) ?? new Set();
      asking.set(irq, set);
      const uart = new Uart16550(
        (byte) => this.ends[index].send(byte),
        (level) => {
          const before = set.size > 0;
          if (level) {
            set.add(index);
          } else {
            set.delete(index);
          }
          if (set.size > 0 !== before) {
            ioapic.setPin(irq, set.size > 0 ? 1 : 0);
          }
        },
        () => this.ends[index].hasRoom(),
      );
      ports.add("serial", port, 8, uart);
      return uart;
    });
  }

  /** Ports of the transmitter holding registers, which are also the low halves of the divisors (16550D, table II). */
  get transmitters(): number[] {
    return SERIAL_PORTS.slice(0, this.uarts.length).map(({ port }) => port);
  }

  connect(index: number, end: SerialEnd): void {
    this.ends[index] = end;
  }

  reset(): void {
    this.uarts.forEach((uart) => uart.reset());
  }
}
