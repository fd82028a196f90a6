import { describe, expect, it } from "vitest";
import { Edu } from "../../src/devices/index.js";
import { plugFunction } from "../../src/pci/index.js";
import { Log } from "../../src/support/index.js";
import { makeMachine, RAM_BASE } from "../pci/machine.js";

const BAR = 0x1200_0000;

function make(dmaMask?: bigint) {
  const machine = makeMachine();
  const { root, memory } = machine;
  const log = new Log();
  const edu = new Edu({ id: "edu", dmaMask, log });
  plugFunction(edu, root.bus, 8);
  root.configWrite(8, 0x10, 4, BAR);
  root.configWrite(8, 4, 2, 6);
  const lines: boolean[] = [];
  root.onInterruptLine = (_line, level) => lines.push(level);
  const read = (offset: number, size = 4): bigint => memory.readWord(BAR + offset, size);
  const write = (offset: number, value: number | bigint, size = 4): void => memory.writeWord(BAR + offset, size, BigInt(value));
  return { ...machine, edu, log, lines, read, write };
}

describe("edu, by its specification", () => {
  it("identifies itself, inverts, computes factorials", () => {
    const { read, write } = make();
    expect(read(0x00)).toBe(0x0100_00edn);
    write(0x04, 0x1234_5678);
    expect(read(0x04)).toBe(0xedcb_a987n);
    // Modulo 2^32: 13! = 6227020800, 33! and 34! end in 31 and 32 zero bits.
    for (const [n, result] of [[0, 1n], [1, 1n], [5, 120n], [12, 479_001_600n], [13, 1_932_053_504n], [33, 0x8000_0000n], [34, 0n], [0xffff_ffff, 0n]] as const) {
      write(0x08, n);
      expect(read(0x08)).toBe(result);
      expect(read(0x20) & 1n).toBe(0n);
    }
  });

  it("answers 4-byte accesses only below 0x80, 4 and 8 bytes from there on", () => {
    const { read, write } = make();
    expect(read(0x00, 8)).toBe(0xffff_ffff_ffff_ffffn);
    expect(read(0x00, 2)).toBe(0xffffn);
    write(0x04, 0, 2);
    expect(read(0x04)).toBe(0n);
    write(0x80, 0x1_2345_6789n, 8);
    expect(read(0x80, 8)).toBe(0x1_2345_6789n);
    expect(read(0x80)).toBe(0x2345_6789n);
    expect(read(0x80, 2)).toBe(0xffffn);
    expect(read(0x30)).toBe(0xffff_ffffn);
  });

  it("raises and acknowledges interrupts by INTA", () => {
    const { read, write, lines } = make();
    write(0x60, 0x12);
    write(0x60, 0x01);
    expect(read(0x24)).toBe(0x13n);
    write(0x64, 0x10);
    expect(lines).toEqual([true]);
    write(0x64, 0x03);
    expect(read(0x24)).toBe(0n);
    expect(lines).toEqual([true, false]);
    write(0x60, 0);
    expect(lines.length).toBe(2);
  });

  it("raises them by MSI, a message each time", () => {
    const { write, root, memory, lines, read } = make();
    root.configWrite(8, 0x44, 4, RAM_BASE + 0x20);
    root.configWrite(8, 0x4c, 2, 0x42);
    root.configWrite(8, 0x42, 2, 1);
    write(0x20, 0x80);
    write(0x08, 3);
    expect(memory.readWord(RAM_BASE + 0x20, 4)).toBe(0x42n);
    expect(read(0x24)).toBe(1n);
    expect(read(0x20)).toBe(0x80n);
    memory.writeWord(RAM_BASE + 0x20, 4, 0n);
    write(0x60, 8);
    expect(memory.readWord(RAM_BASE + 0x20, 4)).toBe(0x42n);
    expect(lines).toEqual([]);
  });

  it("moves RAM to its buffer and back, as the specification's example does", () => {
    const { memory, read, write, edu } = make((1n << 40n) - 1n);
    const data = Uint8Array.from({ length: 100 }, (_unused, i) => i ^ 0x5a);
    memory.writeBytes(RAM_BASE + 0x40, data);
    write(0x80, RAM_BASE + 0x40, 8);
    write(0x88, 0x4_0000, 8);
    write(0x90, 100, 8);
    write(0x98, 1, 8);
    expect(read(0x98, 8) & 1n).toBe(0n);
    write(0x80, 0x4_0000, 8);
    write(0x88, RAM_BASE + 0x40 + 100, 8);
    write(0x98, 3 | 4, 8);
    const back = new Uint8Array(100);
    memory.readBytes(RAM_BASE + 0x40 + 100, back);
    expect(back).toEqual(data);
    expect(read(0x24)).toBe(0x100n);
    expect(edu.counters).toEqual({ transactions: 2, bytes: 200, faults: 0 });
  });

  it("reaches 28 bits of addresses unless told otherwise, and says when it cuts one", () => {
    const { read, write, edu, log } = make();
    write(0x80, RAM_BASE, 8);
    write(0x88, 0x4_0000, 8);
    write(0x90, 4, 8);
    write(0x98, 1, 8);
    // 0x40000000 cut to 28 bits is 0: nothing answers there.
    expect(edu.counters.faults).toBe(1);
    expect(log.lines[0].text).toBe("EDU: clamping DMA 0x40000000 to 0x0");
    expect(read(0x98)).toBe(0n);
  });

  it("takes a transfer that ends where its buffer does", () => {
    const { write, edu, log } = make((1n << 40n) - 1n);
    for (const [at, count] of [[0x4_0ffc, 4], [0x4_0000, 4096]] as const) {
      write(0x80, RAM_BASE, 8);
      write(0x88, at, 8);
      write(0x90, count, 8);
      write(0x98, 1, 8);
    }
    expect(edu.counters).toEqual({ transactions: 2, bytes: 4100, faults: 0 });
    expect(log.lines).toEqual([]);
  });

  it("does not leave its buffer", () => {
    const { write, edu, log } = make((1n << 40n) - 1n);
    for (const [at, count] of [[0x3_ffff, 4], [0x4_0ffd, 4], [0x4_0000, 4097], [0x4_0000, 0xffff_ffff_ffff_ffffn]] as const) {
      write(0x80, RAM_BASE, 8);
      write(0x88, at, 8);
      write(0x90, count, 8);
      write(0x98, 1, 8);
    }
    expect(edu.counters.transactions).toBe(0);
    expect(log.lines.length).toBe(4);
  });

  it("does not run what its own DMA or messages write into its registers", () => {
    const { write, root, edu, memory } = make((1n << 40n) - 1n);
    root.configWrite(8, 0x44, 4, BAR + 0x60);
    root.configWrite(8, 0x4c, 2, 1);
    root.configWrite(8, 0x42, 2, 1);
    write(0x60, 1);
    memory.writeWord(RAM_BASE, 8, 3n);
    write(0x80, RAM_BASE, 8);
    write(0x88, 0x4_0000, 8);
    write(0x90, 8, 8);
    write(0x98, 1, 8);
    write(0x80, 0x4_0000, 8);
    write(0x88, BAR + 0x98, 8);
    write(0x98, 3, 8);
    expect(edu.counters.transactions).toBe(2);
  });

  it("is quiet after reset", () => {
    const { root, read, write, lines } = make();
    write(0x60, 1);
    root.reset();
    expect(lines).toEqual([true, false]);
    root.configWrite(8, 0x10, 4, BAR);
    root.configWrite(8, 4, 2, 6);
    expect([read(0x04), read(0x08), read(0x20), read(0x24), read(0x80, 8)]).toEqual([0n, 0n, 0n, 0n, 0n]);
  });
});
