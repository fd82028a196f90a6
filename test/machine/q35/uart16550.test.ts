import { describe, expect, it } from "vitest";
import { Uart16550 } from "../../../src/machine/serial/uart16550.js";

function make(): { uart: Uart16550; sent: number[]; pin: () => boolean; rooms: () => number } {
  const sent: number[] = [];
  let level = false;
  let rooms = 0;
  const uart = new Uart16550((byte) => sent.push(byte), (to) => (level = to), () => rooms++);
  return { uart, sent, pin: () => level, rooms: () => rooms };
}

describe("a 16550A", () => {
  it("sends at once and is always empty", () => {
    const { uart, sent } = make();
    uart.write(0, 1, 0x41n);
    expect(sent).toEqual([0x41]);
    expect(uart.read(5, 1)).toBe(0x60n);
  });

  it("shows 16550A with FIFOs on, 8250's identification without, and a scratch register", () => {
    const { uart } = make();
    expect(uart.read(2, 1)).toBe(0x01n);
    uart.write(2, 1, 1n);
    expect(uart.read(2, 1)).toBe(0xc1n);
    uart.write(7, 1, 0xa5n);
    expect(uart.read(7, 1)).toBe(0xa5n);
  });

  it("keeps the divisor behind DLAB", () => {
    const { uart, sent } = make();
    uart.write(3, 1, 0x83n);
    uart.write(0, 1, 0x34n);
    uart.write(1, 1, 0x12n);
    expect([uart.read(0, 1), uart.read(1, 1)]).toEqual([0x34n, 0x12n]);
    uart.write(3, 1, 0x03n);
    expect([uart.read(0, 1), uart.read(1, 1)]).toEqual([0n, 0n]);
    expect(sent).toEqual([]);
  });

  it("interrupts for the empty transmitter when that is enabled, and is quiet once it was told", () => {
    const { uart, pin } = make();
    uart.write(4, 1, 0x0bn);
    uart.write(1, 1, 2n);
    expect(pin()).toBe(true);
    expect(uart.read(2, 1)).toBe(0x02n);
    expect(pin()).toBe(false);
    uart.write(0, 1, 0x41n);
    expect(pin()).toBe(true);
  });

  it("interrupts only with OUT2", () => {
    const { uart, pin } = make();
    uart.write(1, 1, 3n);
    uart.receive([1]);
    expect(pin()).toBe(false);
    uart.write(4, 1, 0x08n);
    expect(pin()).toBe(true);
  });

  it("receives into 16 bytes, tells received data first, overruns beyond, and says when it was read empty", () => {
    const { uart, rooms } = make();
    uart.write(2, 1, 1n);
    uart.write(4, 1, 8n);
    uart.write(1, 1, 7n);
    expect(uart.room).toBe(16);
    uart.receive(Array.from({ length: 17 }, (_, n) => n));
    expect(uart.read(2, 1)).toBe(0xc6n);
    expect(uart.read(5, 1)).toBe(0x63n);
    expect(uart.read(2, 1)).toBe(0xc4n);
    expect(Array.from({ length: 16 }, () => Number(uart.read(0, 1)))).toEqual(Array.from({ length: 16 }, (_, n) => n));
    expect(rooms()).toBe(1);
    expect(uart.read(5, 1)).toBe(0x60n);
  });

  it("loops back what it sends, and modem control to modem status", () => {
    const { uart, sent } = make();
    uart.write(4, 1, 0x1an);
    expect(uart.read(6, 1)).toBe(0x90n);
    uart.write(0, 1, 0x55n);
    expect([sent, uart.read(0, 1)]).toEqual([[], 0x55n]);
    uart.write(4, 1, 0n);
    expect(uart.read(6, 1)).toBe(0xb0n);
  });

  it("answers other widths as nothing would", () => {
    const { uart, sent } = make();
    uart.write(0, 2, 0x4142n);
    expect([sent, uart.read(0, 2)]).toEqual([[], 0xffffn]);
  });
});
