/** QEMU's educational device, by its specification (QEMU docs/specs/edu.rst). */
import { MemoryRegion, type MmioHandler } from "../memory/index.js";
import { MsiCapability } from "../pci/index.js";
import type { Log } from "../support/index.js";
import { hex } from "../support/index.js";
import { EmulatedEndpoint, type EndpointOptions } from "./endpoint.js";

export interface EduOptions extends EndpointOptions {
  /** Addresses that its DMA reaches; default 28 bits. */
  readonly dmaMask?: bigint;
  readonly log?: Log;
  /** Time, where it passes for devices; else a transfer is done at once. */
  readonly clock?: EduClock | null;
}

/** Nanoseconds of the machine. */
export interface EduClock {
  readonly now: bigint;
  /** @returns cancels it */
  at(time: bigint, run: () => void): () => void;
}

/** QEMU starts a transfer 100 ms, of whole milliseconds, after the command. */
const TRANSFER_DELAY_MS = 100n;
const NS_PER_MS = 1_000_000n;

const IDENTIFICATION = 0x0100_00ed;
const STATUS_COMPUTING = 0x01;
const STATUS_IRQ_FACTORIAL = 0x80;
const FACTORIAL_IRQ = 0x001;
const DMA_IRQ = 0x100;
const BUFFER_START = 0x40000n;
const BUFFER_BYTES = 4096n;
const COMMAND_RUN = 1n;
const COMMAND_TO_RAM = 2n;
const COMMAND_IRQ = 4n;

/**
 * Works are done at once: the factorial when it is written, a transfer when the command is, so that the busy
 * bits are never seen set; with a clock a transfer waits, and its registers are fixed meanwhile. A transfer that does not lie in the buffer is not done; in QEMU it ends the process or
 * worse.
 */
export class Edu extends EmulatedEndpoint {
  private readonly dmaMask: bigint;
  private readonly log: Log | null;
  private readonly clock: EduClock | null;
  private cancel: () => void = () => {};
  private readonly buffer = new Uint8Array(Number(BUFFER_BYTES));
  private liveness = 0;
  private factorial = 0;
  private status = 0;
  private irqStatus = 0;
  private readonly dmaRegisters = { source: 0n, destination: 0n, count: 0n, command: 0n };

  constructor(options: EduOptions = {}) {
    super("edu", options, { vendorId: 0x1234, deviceId: 0x11e8, classCode: 0x00ff00, revision: 0x10, subsystemVendorId: 0x1af4, subsystemId: 0x1100 }, 256);
    this.dmaMask = options.dmaMask ?? (1n << 28n) - 1n;
    this.log = options.log ?? null;
    this.clock = options.clock ?? null;
    this.config.bytes[0x3d] = 1;
    this.msi = new MsiCapability(this, { offset: 0x40, vectors: 1 });
    this.addBar({ index: 0, size: 0x10_0000, is64: false, prefetchable: false, region: MemoryRegion.mmio("edu-mmio", 0x10_0000, this.mmio) });
  }

  override reset(): void {
    super.reset();
    this.cancel();
    this.liveness = 0;
    this.factorial = 0;
    this.status = 0;
    this.irqStatus = 0;
    this.buffer.fill(0);
    Object.assign(this.dmaRegisters, { source: 0n, destination: 0n, count: 0n, command: 0n });
  }

  override unrealize(): void {
    this.cancel();
    super.unrealize();
  }

  /**
   * Only 4-byte accesses below 0x80, 4 or 8 bytes from there on; others read all ones and write nothing. Nor
   * does a device's DMA write: one access is not to set off an endless chain of transfers or interrupts.
   */
  readonly mmio: MmioHandler = {
    read: (offset, size) => {
      const all = (1n << BigInt(8 * size)) - 1n;
      return allowed(offset, size) ? this.readRegister(offset) & all : all;
    },
    write: (offset, size, value, attributes) => {
      if (attributes === undefined && allowed(offset, size)) {
        this.writeRegister(offset, value);
      }
    },
  };

  private readRegister(offset: number): bigint {
    switch (offset) {
      case 0x00:
        return BigInt(IDENTIFICATION);
      case 0x04:
        return BigInt(this.liveness);
      case 0x08:
        return BigInt(this.factorial);
      case 0x20:
        return BigInt(this.status);
      case 0x24:
        return BigInt(this.irqStatus);
      case 0x80:
        return this.dmaRegisters.source;
      case 0x88:
        return this.dmaRegisters.destination;
      case 0x90:
        return this.dmaRegisters.count;
      case 0x98:
        return this.dmaRegisters.command;
      default:
        return (1n << 64n) - 1n;
    }
  }

  private writeRegister(offset: number, value: bigint): void {
    const word = Number(value & 0xffff_ffffn);
    switch (offset) {
      case 0x04:
        this.liveness = ~word >>> 0;
        return;
      case 0x08:
        this.computeFactorial(word);
        return;
      case 0x20:
        this.status = (this.status & STATUS_COMPUTING) | (word & STATUS_IRQ_FACTORIAL);
        return;
      case 0x60:
        this.raise(word);
        return;
      case 0x64:
        this.irqStatus = (this.irqStatus & ~word) >>> 0;
        if (this.irqStatus === 0) {
          this.lowerInterrupt();
        }
        return;
      case 0x80:
      case 0x88:
      case 0x90:
      case 0x98:
        if ((this.dmaRegisters.command & COMMAND_RUN) === 0n) {
          this.writeDmaRegister(offset, value);
        }
        return;
      default:
    }
  }

  private writeDmaRegister(offset: number, value: bigint): void {
    const registers = this.dmaRegisters;
    if (offset === 0x80) {
      registers.source = value;
    } else if (offset === 0x88) {
      registers.destination = value;
    } else if (offset === 0x90) {
      registers.count = value;
    } else if ((value & COMMAND_RUN) !== 0n) {
      registers.command = value;
      if (this.clock === null) {
        this.transfer();
      } else {
        const due = (this.clock.now / NS_PER_MS + TRANSFER_DELAY_MS) * NS_PER_MS;
        this.cancel = this.clock.at(due, () => this.transfer());
      }
    }
  }

  /** Modulo 2^32; from 34 on the product is 0. */
  private computeFactorial(value: number): void {
    let product = value >= 34 ? 0 : 1;
    for (let factor = Math.min(value, 33); factor > 1; factor--) {
      product = Math.imul(product, factor);
    }
    this.factorial = product >>> 0;
    if ((this.status & STATUS_IRQ_FACTORIAL) !== 0) {
      this.raise(FACTORIAL_IRQ);
    }
  }

  private raise(bits: number): void {
    this.irqStatus = (this.irqStatus | bits) >>> 0;
    if (this.irqStatus !== 0) {
      this.raiseInterrupt(0);
    }
  }

  private transfer(): void {
    const registers = this.dmaRegisters;
    const { command } = registers;
    const toRam = (command & COMMAND_TO_RAM) !== 0n;
    const inside = toRam ? registers.source : registers.destination;
    const outside = toRam ? registers.destination : registers.source;
    if (inside < BUFFER_START || inside + registers.count > BUFFER_START + BUFFER_BYTES) {
      this.log?.guestError("edu.range", () => `EDU: DMA range ${hex(inside)}, ${registers.count} bytes, out of bounds (${hex(BUFFER_START)}, ${BUFFER_BYTES} bytes)`);
    } else {
      const address = outside & this.dmaMask;
      if (address !== outside) {
        this.log?.guestError("edu.mask", () => `EDU: clamping DMA ${hex(outside)} to ${hex(address)}`);
      }
      const start = Number(inside - BUFFER_START);
      const data = this.buffer.subarray(start, start + Number(registers.count));
      if (toRam) {
        this.dmaWrite(address, data);
      } else {
        this.dmaRead(address, data);
      }
    }
    registers.command = command & ~COMMAND_RUN;
    if ((command & COMMAND_IRQ) !== 0n) {
      this.raise(DMA_IRQ);
    }
  }
}

function allowed(offset: number, size: number): boolean {
  return size === 4 || (offset >= 0x80 && size === 8);
}
