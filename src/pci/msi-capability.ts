/** MSI (PCIe 7.7.1): registers of the capability and the sending of its messages. */
import { addCapability, CAP_MSI } from "./capabilities.js";
import type { ConfigRegisters, PciFunction } from "./function.js";

export interface MsiOptions {
  readonly offset: number;
  /** 1, 2, 4, 8, 16 or 32. */
  readonly vectors: number;
  readonly is64?: boolean;
  readonly perVectorMask?: boolean;
}

export class MsiCapability implements ConfigRegisters {
  readonly offset: number;
  readonly size: number;
  readonly vectors: number;
  private readonly dataOffset: number;
  private readonly maskOffset: number;
  /** Called after the guest has written any of the capability's registers. */
  onChanged: () => void = () => {};
  /** How a message leaves; the default is the function's own memory write. Returns false where it did not get through. */
  deliver: (vector: number, address: bigint, data: number) => boolean;

  constructor(
    private readonly fn: PciFunction,
    options: MsiOptions,
  ) {
    const is64 = options.is64 ?? true;
    const masks = options.perVectorMask ?? false;
    this.offset = options.offset;
    this.vectors = options.vectors;
    this.dataOffset = options.offset + (is64 ? 0x0c : 0x08);
    this.maskOffset = masks ? this.dataOffset + 4 : 0;
    this.size = this.dataOffset + 2 - options.offset + (masks ? 10 : 0);
    this.deliver = (_vector, address, data) => fn.sendMessage(address, data) === 0;
    const { config } = fn;
    const at = addCapability(config, CAP_MSI, options.offset, this.size);
    const log2 = Math.log2(options.vectors);
    config.set16(at + 2, (log2 << 1) | (is64 ? 0x80 : 0) | (masks ? 0x100 : 0));
    // Enable, and multiple message enable (6:4) where there is more than one vector.
    config.allow(at + 2, 2, options.vectors > 1 ? 0x71 : 0x01);
    config.allow(at + 4, 4, 0xffff_fffc);
    if (is64) {
      config.allow(at + 8, 4, 0xffff_ffff);
    }
    config.allow(this.dataOffset, 2, 0xffff);
    if (masks) {
      config.allow(this.maskOffset, 4, 2 ** options.vectors - 1);
    }
    fn.registers.push(this);
  }

  get enabled(): boolean {
    return (this.fn.config.bytes[this.offset + 2] & 1) !== 0;
  }

  /** Vectors that the guest has enabled. */
  get enabledVectors(): number {
    return Math.min(this.vectors, 1 << ((this.fn.config.bytes[this.offset + 2] >> 4) & 7));
  }

  /** What the guest wrote for a vector; the low bits of the data tell vectors apart. */
  message(vector: number): { address: bigint; data: number } {
    const { config } = this.fn;
    const is64 = this.dataOffset === this.offset + 0x0c;
    const high = is64 ? BigInt(config.get32(this.offset + 8)) << 32n : 0n;
    const data = config.get16(this.dataOffset);
    const count = this.enabledVectors;
    return { address: high | BigInt(config.get32(this.offset + 4)), data: count > 1 ? (data & ~(count - 1)) | (vector & (count - 1)) : data };
  }

  isMasked(vector: number): boolean {
    return this.maskOffset !== 0 && ((this.fn.config.get32(this.maskOffset) >>> vector) & 1) !== 0;
  }

  isPending(vector: number): boolean {
    return this.maskOffset !== 0 && ((this.fn.config.get32(this.maskOffset + 4) >>> vector) & 1) !== 0;
  }

  /** Sends the vector's message, or notes it as pending while masked. False: disabled, or the write did not get through. */
  raise(vector: number): boolean {
    if (!this.enabled) {
      return false;
    }
    if (this.isMasked(vector)) {
      this.setPending(vector, true);
      return true;
    }
    const { address, data } = this.message(vector);
    return this.deliver(vector, address, data);
  }

  written(): void {
    if (this.maskOffset !== 0 && this.enabled) {
      for (let vector = 0; vector < this.vectors; vector++) {
        if (this.isPending(vector) && !this.isMasked(vector)) {
          this.setPending(vector, false);
          this.raise(vector);
        }
      }
    }
    this.onChanged();
  }

  reset(): void {
    this.onChanged();
  }

  private setPending(vector: number, pending: boolean): void {
    const at = this.maskOffset + 4;
    const bits = this.fn.config.get32(at);
    const bit = (1 << vector) >>> 0;
    this.fn.config.set32(at, (pending ? bits | bit : bits & ~bit) >>> 0);
  }
}
