/** The guest's own RAM management: pages for queues, tables and DMA buffers, and little-endian access to them. */
import type { MachinePort } from "../port/index.js";
import type { AddressRange } from "./firmware/dmar.js";
import { GuestFailure } from "./failure.js";

const PAGE = 4096;
/** The part at the start of RAM that a kernel image, its device tree and initrd occupy. */
const KERNEL_BYTES = 64 * 1024 * 1024;
const ZEROS = new Uint8Array(64 * 1024);

export class GuestMemory {
  private readonly free: Array<{ from: number; to: number }>;
  private readonly sizes = new Map<number, number>();

  constructor(
    readonly port: MachinePort,
    ram: readonly AddressRange[],
    occupied: readonly AddressRange[],
  ) {
    this.free = freeRanges(ram, occupied);
  }

  /** Bytes that are allocated now. */
  get allocated(): number {
    return [...this.sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  /** The ranges that are allocated now. */
  inUse(): AddressRange[] {
    return [...this.sizes].map(([base, size]) => ({ base, size }));
  }

  /**
   * Takes RAM: at least `bytes`, rounded up to a power of two of 4 KiB pages and aligned to that, as Linux's
   * coherent allocations are. `below`: no byte at or above that address. Contents are what RAM holds.
   */
  allocate(bytes: number, options: { below?: number } = {}): number {
    let size = PAGE;
    while (size < bytes) {
      size *= 2;
    }
    const limit = options.below ?? Number.MAX_SAFE_INTEGER;
    for (let i = 0; i < this.free.length; i++) {
      const range = this.free[i];
      const at = Math.ceil(range.from / size) * size;
      if (at + size <= range.to && at + size <= limit) {
        const rest = [
          { from: range.from, to: at },
          { from: at + size, to: range.to },
        ].filter((part) => part.from < part.to);
        this.free.splice(i, 1, ...rest);
        this.sizes.set(at, size);
        return at;
      }
    }
    throw new GuestFailure(`the guest has no ${size} bytes of contiguous RAM left`);
  }

  /** The same, filled with zeros. */
  async allocateZeroed(bytes: number, options: { below?: number } = {}): Promise<number> {
    const address = this.allocate(bytes, options);
    await this.zero(address, this.sizes.get(address) ?? bytes);
    return address;
  }

  /** Gives back what `allocate` returned. */
  release(address: number): void {
    const size = this.sizes.get(address);
    if (size === undefined) {
      throw new GuestFailure(`0x${address.toString(16)} is not allocated`);
    }
    this.sizes.delete(address);
    const index = this.free.findIndex((range) => range.from > address);
    this.free.splice(index < 0 ? this.free.length : index, 0, { from: address, to: address + size });
    for (let i = 0; i + 1 < this.free.length; ) {
      if (this.free[i].to === this.free[i + 1].from) {
        this.free[i].to = this.free[i + 1].to;
        this.free.splice(i + 1, 1);
      } else {
        i++;
      }
    }
  }

  async zero(address: number, bytes: number): Promise<void> {
    for (let done = 0; done < bytes; done += ZEROS.length) {
      await this.port.writeMemory(address + done, ZEROS.subarray(0, Math.min(ZEROS.length, bytes - done)));
    }
  }

  read(address: number, bytes: number): Promise<Uint8Array> {
    return this.port.readMemory(address, bytes);
  }

  write(address: number, data: Uint8Array): Promise<void> {
    return this.port.writeMemory(address, data);
  }

  /** 32-bit little-endian words. */
  async readWords(address: number, count: number): Promise<Int32Array> {
    const bytes = await this.port.readMemory(address, count * 4);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Int32Array.from({ length: count }, (_, i) => view.getInt32(i * 4, true));
  }

  async writeWords(address: number, words: Int32Array): Promise<void> {
    const bytes = new Uint8Array(words.length * 4);
    const view = new DataView(bytes.buffer);
    words.forEach((word, i) => view.setInt32(i * 4, word, true));
    await this.port.writeMemory(address, bytes);
  }

  /** Eight bytes in one store, as an entry of a table that hardware may read meanwhile is written. */
  async write64(address: number, value: bigint): Promise<void> {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
    await this.port.writeMemory(address, bytes);
  }
}

/** RAM without what is occupied, and without the kernel's part of the first bank (a quarter of it where the bank is small). */
function freeRanges(ram: readonly AddressRange[], occupied: readonly AddressRange[]): Array<{ from: number; to: number }> {
  const banks = [...ram].sort((a, b) => a.base - b.base);
  const first = banks[0];
  const holes = [...occupied];
  if (first !== undefined) {
    holes.push({ base: first.base, size: Math.min(KERNEL_BYTES, Math.floor(first.size / 4)) });
  }
  let ranges = banks.map((bank) => ({ from: bank.base, to: bank.base + bank.size }));
  for (const hole of holes) {
    const from = Math.floor(hole.base / PAGE) * PAGE;
    const to = Math.ceil((hole.base + hole.size) / PAGE) * PAGE;
    ranges = ranges.flatMap((range) =>
      to <= range.from || from >= range.to
        ? [range]
        : [
            { from: range.from, to: from },
            { from: to, to: range.to },
          ].filter((part) => part.from < part.to),
    );
  }
  return ranges;
}
