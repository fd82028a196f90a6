import type { PciIdentity } from "./function.js";

/** Configuration space: bytes with a write mask and a write-one-to-clear mask, as PCIe 7.5 has registers. */
export class ConfigSpace {
  readonly bytes: Uint8Array;
  /** Bits that software may write. */
  readonly writable: Uint8Array;
  /** Bits that software clears by writing one. */
  readonly clearable: Uint8Array;
  private defaults: Uint8Array | null = null;

  constructor(size: 256 | 4096, identity: PciIdentity) {
    this.bytes = new Uint8Array(size);
    this.writable = new Uint8Array(size);
    this.clearable = new Uint8Array(size);
    this.set16(0x00, identity.vendorId);
    this.set16(0x02, identity.deviceId);
    this.bytes[0x08] = identity.revision ?? 0;
    this.bytes[0x09] = identity.classCode & 0xff;
    this.bytes[0x0a] = (identity.classCode >> 8) & 0xff;
    this.bytes[0x0b] = (identity.classCode >> 16) & 0xff;
    this.set16(0x2c, identity.subsystemVendorId ?? 0);
    this.set16(0x2e, identity.subsystemId ?? 0);
    // Command: I/O, memory, bus master, SERR, INTx disable (PCIe 7.5.1.1.3); parity response is not offered.
    this.writable[0x04] = 0x07;
    this.writable[0x05] = 0x05;
    // Cache line size, latency timer, interrupt line.
    this.writable[0x0c] = 0xff;
    this.writable[0x3c] = 0xff;
  }

  get size(): number {
    return this.bytes.length;
  }

  get16(offset: number): number {
    return this.bytes[offset] | (this.bytes[offset + 1] << 8);
  }

  get32(offset: number): number {
    return (this.get16(offset) | (this.get16(offset + 2) << 16)) >>> 0;
  }

  set16(offset: number, value: number): void {
    this.bytes[offset] = value & 0xff;
    this.bytes[offset + 1] = (value >> 8) & 0xff;
  }

  set32(offset: number, value: number): void {
    this.set16(offset, value & 0xffff);
    this.set16(offset + 2, value >>> 16);
  }

  /** Makes bits of a 16- or 32-bit register writable. */
  allow(offset: number, size: 1 | 2 | 4, mask: number): void {
    for (let i = 0; i < size; i++) {
      this.writable[offset + i] |= (mask >>> (8 * i)) & 0xff;
    }
  }

  /** Makes bits of a 16- or 32-bit register write-one-to-clear. */
  allowClear(offset: number, size: 1 | 2 | 4, mask: number): void {
    for (let i = 0; i < size; i++) {
      this.clearable[offset + i] |= (mask >>> (8 * i)) & 0xff;
    }
  }

  /** Remembers the present contents as those after reset. */
  freezeDefaults(): void {
    this.defaults = this.bytes.slice();
  }

  reset(): void {
    if (this.defaults !== null) {
      this.bytes.set(this.defaults);
    }
  }

  read(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      value = value * 256 + (offset + i < this.bytes.length ? this.bytes[offset + i] : 0xff);
    }
    return value;
  }

  /** What the register of `bytes` bytes at `at` would have after a write; nothing is changed. */
  afterWrite(at: number, bytes: 1 | 2 | 4, offset: number, size: number, value: number): number {
    let result = 0;
    for (let i = bytes - 1; i >= 0; i--) {
      const lane = at + i - offset;
      result = result * 256 + (lane >= 0 && lane < size ? this.written(at + i, (value >>> (8 * lane)) & 0xff) : this.bytes[at + i]);
    }
    return result;
  }

  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size && offset + i < this.bytes.length; i++) {
      const byte = (value >>> (8 * i)) & 0xff;
      this.bytes[offset + i] = this.written(offset + i, byte);
    }
  }

  private written(at: number, byte: number): number {
    const mask = this.writable[at];
    return ((this.bytes[at] & ~mask) | (byte & mask)) & ~(byte & this.clearable[at]);
  }
}
