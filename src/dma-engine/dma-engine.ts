import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../translation/index.js";

/** Registers of the DMA engine, byte offsets in its block; 32 bits each, little-endian. */
export const ENGINE = {
  ID: 0x00,
  FEATURES: 0x04,
  SRC_LOW: 0x08,
  SRC_HIGH: 0x0c,
  DST_LOW: 0x10,
  DST_HIGH: 0x14,
  LENGTH: 0x18,
  CONTROL: 0x1c,
  PASID: 0x20,
  STATUS: 0x24,
  FAULT_LOW: 0x28,
  FAULT_HIGH: 0x2c,
  BYTES: 0x30,
  PATTERN: 0x34,
  INTERRUPT: 0x38,
  /** First byte after the registers. */
  END: 0x3c,
  BUFFER: 0x8000,
} as const;

/** Value of ENGINE.ID. */
export const ENGINE_ID = 0x4d4d_4f49;
export const ENGINE_FEATURE_PASID = 1 << 0;
export const ENGINE_FEATURE_ATS = 1 << 1;
/** Bytes of the block. */
export const ENGINE_BYTES = 0x1_0000;
/** Bytes of the device buffer. */
export const ENGINE_BUFFER_BYTES = 0x8000;
/** Most bytes of one operation. */
export const ENGINE_MOST_BYTES = 0x10_0000;

export const CONTROL_START = 1 << 0;
export const CONTROL_PASID = 1 << 3;
export const CONTROL_ATS = 1 << 4;
export const CONTROL_PRIVILEGED = 1 << 5;
export const CONTROL_EXECUTE = 1 << 6;
export const CONTROL_INTERRUPT = 1 << 7;
/** Values of CONTROL[2:1]. */
export const OPERATION_COPY = 0;
export const OPERATION_READ = 1;
export const OPERATION_WRITE = 2;
export const OPERATION_FILL = 3;

export const STATUS_BUSY = 1 << 0;
export const STATUS_DONE = 1 << 1;
export const STATUS_FAULT = 1 << 2;
export const STATUS_BAD_REQUEST = 1 << 3;

/** A request does not cross a 4 KiB boundary (PCIe 2.2.7). */
const REQUEST_BYTES = 4096;

/** What the engine asks of the function that it is in. */
export interface EngineHost {
  /** ENGINE_FEATURE_* that are switched on. */
  features(): number;
  /** Whether a request of this kind may be made at all: bus mastering, PASID and ATS enables. */
  mayRequest(pasid: number, access: number, ats: boolean): boolean;
  /** One read request, at most to the end of a 4 KiB page; false: it failed. `access` is ACCESS_*. */
  readMemory(high: number, low: number, out: Uint8Array, pasid: number, access: number, ats: boolean): boolean;
  writeMemory(high: number, low: number, data: Uint8Array, pasid: number, access: number, ats: boolean): boolean;
  raise(vector: number): void;
}

/**
 * The DMA engine of the simulated host's functions and of emulated endpoints (docs/host-file.md describes
 * its registers). An operation runs to its end when CONTROL is written: at most 1 MiB, 4 KiB page by page,
 * and stops at the first fault.
 */
export class DmaEngine {
  private readonly registers = new Int32Array(ENGINE.END / 4);
  private readonly buffer = new Uint8Array(ENGINE_BUFFER_BYTES);
  private readonly scratch = new Uint8Array(REQUEST_BYTES);

  constructor(private readonly host: EngineHost) {}

  reset(): void {
    this.registers.fill(0);
    this.buffer.fill(0);
  }

  /** Reads bytes of the block from `offset` on into `out`; what is no register and no buffer is zero. */
  read(offset: number, out: Uint8Array): void {
    for (let i = 0; i < out.length; i++) {
      const at = offset + i;
      if (at < ENGINE.END) {
        out[i] = this.register(at & ~3) >>> (8 * (at & 3));
      } else {
        out[i] = at >= ENGINE.BUFFER && at < ENGINE.BUFFER + ENGINE_BUFFER_BYTES ? this.buffer[at - ENGINE.BUFFER] : 0;
      }
    }
  }

  /** Writes bytes of the block; registers take whole 32-bit words only, in the order of their offsets. */
  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; ) {
      const at = offset + i;
      if (at < ENGINE.END && at % 4 === 0 && i + 4 <= data.length) {
        this.writeRegister(at, data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24));
        i += 4;
        continue;
      }
      if (at >= ENGINE.BUFFER && at < ENGINE.BUFFER + ENGINE_BUFFER_BYTES) {
        this.buffer[at - ENGINE.BUFFER] = data[i];
      }
      i++;
    }
  }

  private register(offset: number): number {
    switch (offset) {
      case ENGINE.ID:
        return ENGINE_ID;
      case ENGINE.FEATURES:
        return this.host.features();
      default:
        return this.registers[offset / 4];
    }
  }

  private writeRegister(offset: number, value: number): void {
    const { registers } = this;
    switch (offset) {
      case ENGINE.ID:
      case ENGINE.FEATURES:
      case ENGINE.FAULT_LOW:
      case ENGINE.FAULT_HIGH:
      case ENGINE.BYTES:
        return;
      case ENGINE.STATUS:
        registers[ENGINE.STATUS / 4] &= ~value;
        return;
      case ENGINE.INTERRUPT:
        this.host.raise(value & 0xffff);
        return;
      case ENGINE.CONTROL:
        registers[ENGINE.CONTROL / 4] = value & ~CONTROL_START;
        if ((value & CONTROL_START) !== 0) {
          this.run(value);
        }
        return;
      default:
        registers[offset / 4] = value;
    }
  }

  private run(control: number): void {
    const { registers } = this;
    const operation = (control >>> 1) & 3;
    const length = registers[ENGINE.LENGTH / 4] >>> 0;
    const pasid = (control & CONTROL_PASID) === 0 ? -1 : registers[ENGINE.PASID / 4];
    const ats = (control & CONTROL_ATS) !== 0;
    const privileged = (control & CONTROL_PRIVILEGED) === 0 ? 0 : ACCESS_PRIVILEGED;
    const reading = privileged | ACCESS_READ | ((control & CONTROL_EXECUTE) === 0 ? 0 : ACCESS_EXECUTE);
    registers[ENGINE.STATUS / 4] = 0;
    registers[ENGINE.BYTES / 4] = 0;
    registers[ENGINE.FAULT_LOW / 4] = 0;
    registers[ENGINE.FAULT_HIGH / 4] = 0;
    const reads = operation === OPERATION_COPY || operation === OPERATION_READ;
    const writes = operation !== OPERATION_READ;
    const fits =
      length <= (operation === OPERATION_READ || operation === OPERATION_WRITE ? ENGINE_BUFFER_BYTES : ENGINE_MOST_BYTES) &&
      !(reads && wraps(registers[ENGINE.SRC_HIGH / 4], registers[ENGINE.SRC_LOW / 4], length)) &&
      !(writes && wraps(registers[ENGINE.DST_HIGH / 4], registers[ENGINE.DST_LOW / 4], length));
    if (
      !fits ||
      (reads && !this.host.mayRequest(pasid, reading, ats)) ||
      (writes && !this.host.mayRequest(pasid, privileged | ACCESS_WRITE, ats))
    ) {
      registers[ENGINE.STATUS / 4] = STATUS_DONE | STATUS_BAD_REQUEST;
    } else {
      const ok = this.transfer(operation, length, pasid, reading, privileged | ACCESS_WRITE, ats);
      registers[ENGINE.STATUS / 4] = ok ? STATUS_DONE : STATUS_DONE | STATUS_FAULT;
    }
    if ((control & CONTROL_INTERRUPT) !== 0) {
      this.host.raise(control >>> 16);
    }
  }

  private transfer(operation: number, length: number, pasid: number, reading: number, writing: number, ats: boolean): boolean {
    const { registers, host } = this;
    const pattern = registers[ENGINE.PATTERN / 4];
    for (let done = 0; done < length; ) {
      const sourceLow = (registers[ENGINE.SRC_LOW / 4] >>> 0) + done;
      const targetLow = (registers[ENGINE.DST_LOW / 4] >>> 0) + done;
      const sourceHigh = registers[ENGINE.SRC_HIGH / 4] + Math.floor(sourceLow / 0x1_0000_0000);
      const targetHigh = registers[ENGINE.DST_HIGH / 4] + Math.floor(targetLow / 0x1_0000_0000);
      const left = length - done;
      const sourceStep = operation === OPERATION_COPY || operation === OPERATION_READ ? REQUEST_BYTES - (sourceLow % REQUEST_BYTES) : left;
      const targetStep = operation === OPERATION_READ ? left : REQUEST_BYTES - (targetLow % REQUEST_BYTES);
      const step = Math.min(left, sourceStep, targetStep);
      let data = this.scratch.subarray(0, step);
      if (operation === OPERATION_FILL) {
        for (let i = 0; i < step; i++) {
          data[i] = pattern >>> (8 * ((done + i) & 3));
        }
      } else if (operation !== OPERATION_COPY) {
        data = this.buffer.subarray(done, done + step);
      }
      if ((operation === OPERATION_COPY || operation === OPERATION_READ) && !host.readMemory(sourceHigh | 0, sourceLow | 0, data, pasid, reading, ats)) {
        return this.fail(sourceHigh, sourceLow);
      }
      if (operation !== OPERATION_READ && !host.writeMemory(targetHigh | 0, targetLow | 0, data, pasid, writing, ats)) {
        return this.fail(targetHigh, targetLow);
      }
      done += step;
      registers[ENGINE.BYTES / 4] = done;
    }
    return true;
  }

  private fail(high: number, low: number): false {
    this.registers[ENGINE.FAULT_LOW / 4] = low | 0;
    this.registers[ENGINE.FAULT_HIGH / 4] = high | 0;
    return false;
  }
}

/** Whether `length` bytes from the address on go past the end of the 64-bit address space. */
function wraps(high: number, low: number, length: number): boolean {
  return high >>> 0 === 0xffff_ffff && (low >>> 0) + length > 0x1_0000_0000;
}
