import { describe, expect, it } from "vitest";
import { Pl011 } from "../../../src/machine/serial/pl011.js";

const [DR, RSR, FR, IBRD, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR] = [0x00, 0x04, 0x18, 0x24, 0x2c, 0x30, 0x34, 0x38, 0x3c, 0x40, 0x44];
const RX = 0x10;
const TX = 0x20;

function make(): { uart: Pl011; read(offset: number): number; write(offset: number, value: number): void; sent: number[]; line(): boolean; rooms(): number } {
  const sent: number[] = [];
  let level = false;
  let rooms = 0;
  const uart = new Pl011((byte) => sent.push(byte), (to) => (level = to), () => rooms++);
  return { uart, read: (offset) => Number(uart.read(offset, 4)), write: (offset, value) => uart.write(offset, 4, BigInt(value)), sent, line: () => level, rooms: () => rooms };
}

describe("PL011", () => {
  it("has the identification that Linux's amba bus looks for, and the reset values of the manual", () => {
    const { uart, read } = make();
    expect([0xfe0, 0xfe4, 0xfe8, 0xfec, 0xff0, 0xff4, 0xff8, 0xffc].map((at) => Number(uart.read(at, 4)))).toEqual([0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    expect([FR, CR, IFLS, IMSC, RIS].map(read)).toEqual([0x90, 0x300, 0x12, 0, 0]);
  });

  it("sends what is written, by accesses of any width, and is empty again at once", () => {
    const { uart, read, sent } = make();
    uart.write(DR, 1, 0x41n);
    uart.write(DR, 2, 0x142n);
    uart.write(DR, 4, 0x43n);
    expect([sent, uart.sent, read(FR)]).toEqual([[0x41, 0x42, 0x43], 3, 0x90]);
  });

  it("interrupts when it has sent, while that is unmasked, until it is cleared", () => {
    const { read, write, line } = make();
    write(IMSC, TX);
    expect(line()).toBe(false);
    write(DR, 0x41);
    expect([line(), read(RIS), read(MIS)]).toEqual([true, TX, TX]);
    write(ICR, TX);
    expect([line(), read(RIS)]).toEqual([false, 0]);
    write(IMSC, 0);
    write(DR, 0x42);
    expect([line(), read(RIS), read(MIS)]).toEqual([false, TX, 0]);
  });

  it("receives as many bytes as its FIFO has, and tells when there is room again", () => {
    const { uart, read, write, line, rooms } = make();
    expect(uart.room).toBe(1);
    write(LCR_H, 0x70);
    write(IMSC, RX);
    expect(uart.room).toBe(16);
    const before = rooms();
    uart.receive(Buffer.from("0123456789abcdef"));
    expect([uart.room, read(FR), line()]).toEqual([0, 0xc0, true]);
    expect(Array.from({ length: 16 }, () => String.fromCharCode(read(DR))).join("")).toBe("0123456789abcdef");
    expect([read(FR), line(), rooms()]).toEqual([0x90, false, before + 1]);
  });

  it("overruns where more comes, and tells it with the next byte that is read", () => {
    const { uart, read, write } = make();
    uart.receive([1, 2]);
    expect([read(RIS) & 0x400, read(RSR)]).toEqual([0x400, 8]);
    expect([read(DR), read(DR)]).toEqual([0x801, 0]);
    write(ICR, 0x7ff);
    expect(read(RIS)).toBe(0);
  });

  it("has what it sends come back in loopback, keeps its rate, and forgets all at a reset", () => {
    const { uart, read, write, sent } = make();
    write(CR, 0x381);
    write(DR, 0x55);
    expect([sent, read(DR)]).toEqual([[], 0x55]);
    write(IBRD, 0x1_0027);
    expect(read(IBRD)).toBe(0x27);
    uart.reset();
    expect([read(IBRD), read(CR), read(RIS)]).toEqual([0, 0x300, 0]);
  });

  it("withstands any access", () => {
    const { uart } = make();
    let seed = 12345;
    for (let n = 0; n < 20_000; n++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      const offset = (seed >>> 8) & 0xfff;
      const size = 1 << ((seed >>> 4) & 3);
      uart.write(offset, size, BigInt(seed) * 0x1_0000_0001n);
      expect(uart.read(offset, size)).toBeLessThan(1n << BigInt(8 * size));
      uart.receive([n & 0xff]);
    }
  });
});
