/** MSI-X (PCIe 7.7.2, 6.1.4): capability, table and pending bit array. */
import type { MmioHandler } from "../memory/index.js";
import { addCapability, CAP_MSIX } from "./capabilities.js";
import type { ConfigRegisters, PciFunction } from "./function.js";

export interface MsixOptions {
  readonly offset: number;
  /** 1 to 2048. */
  readonly vectors: number;
  readonly tableBar: number;
  /** Bytes into the BAR, a multiple of 8. */
  readonly tableOffset: number;
  readonly pbaBar: number;
  readonly pbaOffset: number;
}

const ENTRY_BYTES = 16;
const VECTOR_MASKED = 1;

/**
 * The table and the pending bits are register handlers (`table`, `pba`) that the owner places into its BARs;
 * offsets are from the table's start. Accesses of 4 and 8 bytes, as the specification asks; others are dropped
 * and read as zero.
 */
export class MsixCapability implements ConfigRegisters {
  readonly offset: number;
  readonly size = 12;
  readonly vectors: number;
  readonly tableBytes: number;
  readonly pbaBytes: number;
  readonly options: MsixOptions;
  /** A vector's message or mask, or the function's enable or mask, has changed; `live`: it would be sent now. */
  onVectorChanged: (vector: number, live: boolean) => void = () => {};
  /** How a message leaves; the default is the function's own memory write. Returns false where it did not get through. */
  deliver: (vector: number, address: bigint, data: number) => boolean;
  private readonly entries: Uint32Array;
  private readonly pending: Uint32Array;
  private wasOpen = false;

  constructor(
    private readonly fn: PciFunction,
    options: MsixOptions,
  ) {
    this.options = options;
    this.offset = options.offset;
    this.vectors = options.vectors;
    this.tableBytes = options.vectors * ENTRY_BYTES;
    this.pbaBytes = Math.ceil(options.vectors / 64) * 8;
    this.entries = new Uint32Array(options.vectors * 4);
    this.pending = new Uint32Array(this.pbaBytes / 4);
    this.deliver = (_vector, address, data) => fn.sendMessage(address, data) === 0;
    const at = addCapability(fn.config, CAP_MSIX, options.offset, this.size);
    fn.config.set16(at + 2, options.vectors - 1);
    fn.config.allow(at + 2, 2, 0xc000);
    fn.config.set32(at + 4, (options.tableOffset | options.tableBar) >>> 0);
    fn.config.set32(at + 8, (options.pbaOffset | options.pbaBar) >>> 0);
    this.maskAll();
    fn.registers.push(this);
  }

  get enabled(): boolean {
    return (this.fn.config.bytes[this.offset + 3] & 0x80) !== 0;
  }

  get functionMasked(): boolean {
    return (this.fn.config.bytes[this.offset + 3] & 0x40) !== 0;
  }

  message(vector: number): { address: bigint; data: number } {
    const at = vector * 4;
    return { address: (BigInt(this.entries[at + 1]) << 32n) | BigInt(this.entries[at]), data: this.entries[at + 2] };
  }

  /** Masked by its own bit or the function's. */
  isMasked(vector: number): boolean {
    return this.functionMasked || (this.entries[vector * 4 + 3] & VECTOR_MASKED) !== 0;
  }

  isPending(vector: number): boolean {
    return ((this.pending[vector >> 5] >>> (vector & 31)) & 1) !== 0;
  }

  /** True when a raised vector would be sent at once. */
  isLive(vector: number): boolean {
    return this.enabled && !this.isMasked(vector);
  }

  /** Sends the vector's message, or notes it as pending while masked. False: disabled, no such vector, or it did not get through. */
  raise(vector: number): boolean {
    if (!this.enabled || vector < 0 || vector >= this.vectors) {
      return false;
    }
    if (this.isMasked(vector)) {
      this.setPending(vector, true);
      return true;
    }
    const { address, data } = this.message(vector);
    return this.deliver(vector, address, data);
  }

  readonly table: MmioHandler = {
    read: (offset, size) => this.readWords(this.entries, offset, size),
    write: (offset, size, value) => this.writeTable(offset, size, value),
  };

  readonly pba: MmioHandler = {
    read: (offset, size) => this.readWords(this.pending, offset, size),
    write: () => {},
  };

  written(): void {
    const open = this.enabled && !this.functionMasked;
    if (open !== this.wasOpen) {
      this.wasOpen = open;
      for (let vector = 0; vector < this.vectors; vector++) {
        this.vectorChanged(vector);
      }
    }
  }

  reset(): void {
    this.entries.fill(0);
    this.pending.fill(0);
    this.maskAll();
    this.wasOpen = false;
    for (let vector = 0; vector < this.vectors; vector++) {
      this.onVectorChanged(vector, false);
    }
  }

  private maskAll(): void {
    for (let vector = 0; vector < this.vectors; vector++) {
      this.entries[vector * 4 + 3] = VECTOR_MASKED;
    }
  }

  private vectorChanged(vector: number): void {
    const live = this.isLive(vector);
    this.onVectorChanged(vector, live);
    if (live && this.isPending(vector)) {
      this.setPending(vector, false);
      this.raise(vector);
    }
  }

  private setPending(vector: number, pending: boolean): void {
    const bit = 1 << (vector & 31);
    this.pending[vector >> 5] = pending ? this.pending[vector >> 5] | bit : this.pending[vector >> 5] & ~bit;
  }

  private readWords(words: Uint32Array, offset: number, size: number): bigint {
    const index = offset >> 2;
    if ((size !== 4 && size !== 8) || offset % size !== 0 || index + size / 4 > words.length) {
      return 0n;
    }
    return size === 4 ? BigInt(words[index]) : BigInt(words[index]) | (BigInt(words[index + 1]) << 32n);
  }

  private writeTable(offset: number, size: number, value: bigint): void {
    const index = offset >> 2;
    if ((size !== 4 && size !== 8) || offset % size !== 0 || index + size / 4 > this.entries.length) {
      return;
    }
    this.storeWord(index, Number(value & 0xffff_ffffn));
    if (size === 8) {
      this.storeWord(index + 1, Number((value >> 32n) & 0xffff_ffffn));
    }
    this.vectorChanged(index >> 2);
  }

  private storeWord(index: number, word: number): void {
    // Address bits 1:0 are zero; of the vector control only the mask bit is kept.
    const part = index & 3;
    this.entries[index] = part === 0 ? word & ~3 : part === 3 ? word & VECTOR_MASKED : word;
  }
}
