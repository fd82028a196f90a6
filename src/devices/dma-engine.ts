/**
 * The DMA engine of the emulated endpoints. Registers are 32 bits, little-endian, byte offsets in the block:
 *
 * | offset | register |
 * | --- | --- |
 * | 0x00 | ID, 0x4d4d4f49 |
 * | 0x04 | FEATURES: bit 0 PASID, bit 1 ATS; an emulated endpoint has neither |
 * | 0x08, 0x0c | SRC, low and high |
 * | 0x10, 0x14 | DST, low and high |
 * | 0x18 | LENGTH in bytes: up to 1 MiB, up to 32 KiB with the buffer |
 * | 0x1c | CONTROL: 0 start; 2:1 operation (0 copy SRC to DST, 1 SRC to the buffer, 2 the buffer to DST, 3 fill DST with PATTERN); 3 with PASID; 4 through ATS; 5 privileged and 6 execute, which need PASID; 7 interrupt when done, however it ended; 31:16 its vector |
 * | 0x20 | PASID |
 * | 0x24 | STATUS, cleared by writing one: 0 busy, 1 done, 2 fault, 3 bad request |
 * | 0x28, 0x2c | FAULT address, low and high |
 * | 0x30 | BYTES done |
 * | 0x34 | PATTERN |
 * | 0x38 | INTERRUPT: writing n raises vector n |
 * | 0x8000 | buffer, 32 KiB |
 *
 * An operation runs to its end when CONTROL is written with the start bit, a 4 KiB page at a time, and stops
 * at the first access that fails. Only a CPU starts operations and interrupts: writes to CONTROL and INTERRUPT
 * that are a device's DMA do nothing, so that one access cannot set off an endless chain.
 */
import type { DmaAttributes, MmioHandler } from "../memory/index.js";
import { highWord, lowWord, toBigInt } from "../support/index.js";
import type { EmulatedEndpoint } from "./endpoint.js";

export const ENGINE_ID = 0x4d4d_4f49;
/** Bytes of the block. */
export const ENGINE_BYTES = 0x1_0000;
const BUFFER = 0x8000;
const BUFFER_BYTES = 0x8000;
const MOST_BYTES = 0x10_0000;
const REGISTERS_END = 0x3c;
const PAGE = 4096;

/** Indices of registers: byte offset / 4. */
const SRC = 0x08 / 4;
const DST = 0x10 / 4;
const LENGTH = 0x18 / 4;
const CONTROL = 0x1c / 4;
const STATUS = 0x24 / 4;
const FAULT = 0x28 / 4;
const BYTES = 0x30 / 4;
const PATTERN = 0x34 / 4;

const CONTROL_START = 0x01;
/** PASID, ATS, privileged, execute: what an emulated endpoint does not have (PCIe 2.2.10.2: the last two are parts of the PASID prefix). */
const CONTROL_NOT_HERE = 0x78;
const CONTROL_INTERRUPT = 0x80;

const COPY = 0;
const READ = 1;
const WRITE = 2;
const FILL = 3;

const DONE = 2;
const FAULTED = 4;
const BAD_REQUEST = 8;

export class DmaEngine implements MmioHandler {
  private readonly registers = new Int32Array(REGISTERS_END / 4);
  private readonly buffer = new Uint8Array(BUFFER_BYTES);
  private readonly scratch = new Uint8Array(PAGE);

  constructor(private readonly fn: EmulatedEndpoint) {}

  reset(): void {
    this.registers.fill(0);
    this.buffer.fill(0);
  }

  read(offset: number, size: number): bigint {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) {
      value = (value << 8n) | BigInt(this.byteAt(offset + i));
    }
    return value;
  }

  /** Registers take whole 32-bit words, the lower of two first; the buffer takes any bytes. */
  write(offset: number, size: number, value: bigint, attributes?: DmaAttributes): void {
    if (offset >= BUFFER) {
      for (let i = 0; i < size && offset + i < BUFFER + BUFFER_BYTES; i++) {
        this.buffer[offset - BUFFER + i] = Number((value >> BigInt(8 * i)) & 0xffn);
      }
      return;
    }
    for (let i = 0; i + 4 <= size && offset % 4 === 0; i += 4) {
      if (attributes === undefined || (offset + i !== 0x1c && offset + i !== 0x38)) {
        this.writeRegister(offset + i, lowWord(value >> BigInt(8 * i)));
      }
    }
  }

  private byteAt(offset: number): number {
    if (offset < REGISTERS_END) {
      const word = offset < 4 ? ENGINE_ID : this.registers[offset >> 2];
      return (word >>> (8 * (offset & 3))) & 0xff;
    }
    return offset >= BUFFER && offset < BUFFER + BUFFER_BYTES ? this.buffer[offset - BUFFER] : 0;
  }

  private writeRegister(offset: number, value: number): void {
    const index = offset / 4;
    switch (offset) {
      case 0x08: case 0x0c: case 0x10: case 0x14: case 0x18: case 0x20: case 0x34:
        this.registers[index] = value;
        return;
      case 0x1c:
        this.registers[CONTROL] = value & ~CONTROL_START;
        if ((value & CONTROL_START) !== 0) {
          this.run(value);
        }
        return;
      case 0x24:
        this.registers[STATUS] &= ~value;
        return;
      case 0x38:
        this.fn.raiseInterrupt(value & 0xffff);
        return;
      default:
    }
  }

  private run(control: number): void {
    const { registers, fn } = this;
    const operation = (control >>> 1) & 3;
    const length = registers[LENGTH] >>> 0;
    const reads = operation === COPY || operation === READ;
    const writes = operation !== READ;
    registers[BYTES] = 0;
    registers[FAULT] = 0;
    registers[FAULT + 1] = 0;
    const source = toBigInt(registers[SRC + 1], registers[SRC]);
    const target = toBigInt(registers[DST + 1], registers[DST]);
    const most = operation === READ || operation === WRITE ? BUFFER_BYTES : MOST_BYTES;
    const wraps = (address: bigint): boolean => address + BigInt(Math.min(length, MOST_BYTES)) > 1n << 64n;
    if (!fn.busMaster || length > most || (control & CONTROL_NOT_HERE) !== 0 || (reads && wraps(source)) || (writes && wraps(target))) {
      registers[STATUS] = DONE | BAD_REQUEST;
    } else {
      registers[STATUS] = this.transfer(operation, length, source, target) ? DONE : DONE | FAULTED;
    }
    if ((control & CONTROL_INTERRUPT) !== 0) {
      fn.raiseInterrupt(control >>> 16);
    }
  }

  private transfer(operation: number, length: number, source: bigint, target: bigint): boolean {
    const { fn, registers } = this;
    const attributes = fn.dmaAttributes();
    const pattern = registers[PATTERN];
    for (let done = 0; done < length; ) {
      const from = source + BigInt(done);
      const to = target + BigInt(done);
      let step = length - done;
      if (operation === COPY || operation === READ) {
        step = Math.min(step, PAGE - (lowWord(from) & (PAGE - 1)));
      }
      if (operation !== READ) {
        step = Math.min(step, PAGE - (lowWord(to) & (PAGE - 1)));
      }
      const data = operation === READ || operation === WRITE ? this.buffer.subarray(done, done + step) : this.scratch.subarray(0, step);
      if (operation === FILL) {
        for (let i = 0; i < step; i++) {
          data[i] = pattern >>> (8 * ((done + i) & 3));
        }
      }
      if ((operation === COPY || operation === READ) && fn.dmaRead(from, data, attributes) !== 0) {
        return this.fail(from);
      }
      if (operation !== READ && fn.dmaWrite(to, data, attributes) !== 0) {
        return this.fail(to);
      }
      done += step;
      registers[BYTES] = done;
    }
    return true;
  }

  private fail(address: bigint): false {
    this.registers[FAULT] = lowWord(address);
    this.registers[FAULT + 1] = highWord(address);
    return false;
  }
}
