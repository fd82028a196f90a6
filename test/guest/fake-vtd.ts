/**
 * A machine in a few lines: RAM from 0 and one VT-d unit whose commands are acknowledged at once and whose queue is
 * consumed when IQT is written. It does nothing of what descriptors say but wait descriptors' status writes; it
 * remembers what was written. Offsets and bits as in Linux's include/linux/intel-iommu.h.
 */
import type { AccessSize, FirmwareTables, Interrupt, MachinePort } from "../../src/port/index.js";

export const VTD_BASE = 0xfed9_0000;
export const VTD_RAM_BYTES = 128 * 1024 * 1024;

const names: Record<number, string> = {
  0x18: "GCMD", 0x20: "RTADDR", 0x28: "CCMD", 0x34: "FSTS", 0x38: "FECTL", 0x3c: "FEDATA", 0x40: "FEADDR", 0x44: "FEUADDR",
  0x88: "IQT", 0x90: "IQA", 0xb8: "IRTA", 0xf0: "IVA", 0xf8: "IOTLB",
};
const GSTS_STATES = 0x8000_0000 | 0x0400_0000 | 0x0200_0000;
const FRCD = 0x220;

export class FakeVtd implements MachinePort {
  /** `NAME value` of each register write, and `desc` with two 64-bit words of each consumed descriptor but wait descriptors. */
  readonly trace: string[] = [];
  readonly pending: Interrupt[] = [];
  /** Types of descriptors that the queue stops at. */
  readonly invalid = new Set<number>();
  /** What CCMD and IOTLB perform instead of what is asked for. */
  granularity: bigint | null = null;
  private readonly registers = new Map<number, bigint>();
  private readonly ram = new Uint8Array(VTD_RAM_BYTES);
  private readonly view = new DataView(this.ram.buffer);

  constructor(cap: bigint, ecap: bigint) {
    this.registers.set(0x08, cap);
    this.registers.set(0x10, ecap);
  }

  get(offset: number): bigint {
    return this.registers.get(offset) ?? 0n;
  }

  set(offset: number, value: bigint): void {
    this.registers.set(offset, value);
  }

  ram64(address: number): bigint {
    return this.view.getBigUint64(address, true);
  }

  /** Several 64-bit words, in hexadecimal. */
  words(address: number, count: number): string[] {
    return Array.from({ length: count }, (_, i) => this.ram64(address + i * 8).toString(16));
  }

  /** The trace since the last look. */
  taken(): string[] {
    return this.trace.splice(0);
  }

  async read(address: number, size: AccessSize): Promise<bigint> {
    if (address < VTD_RAM_BYTES) {
      return size === 8 ? this.ram64(address) : BigInt(this.view.getUint32(address, true));
    }
    const offset = address - VTD_BASE;
    return size === 8 ? this.get(offset) : offset % 8 === 4 && !this.registers.has(offset) ? this.get(offset - 4) >> 32n : this.get(offset) & 0xffff_ffffn;
  }

  async write(address: number, _size: AccessSize, value: bigint): Promise<void> {
    const offset = address - VTD_BASE;
    this.trace.push(`${names[offset] ?? offset.toString(16)} ${value.toString(16)}`);
    if (offset === 0x34) {
      this.set(offset, this.get(offset) & ~(value & 0x71n));
      this.consume();
    } else if (offset >= FRCD) {
      this.set(offset, this.get(offset) & ~(value & 0x8000_0000n));
    } else {
      this.set(offset, value);
    }
    if (offset === 0x18) {
      const once = value & 0x4100_0000n;
      this.set(0x1c, (value & BigInt(GSTS_STATES >>> 0)) | (this.get(0x1c) & 0x4100_0000n) | once);
      if ((value & 0x0400_0000n) === 0n) {
        this.set(0x80, 0n);
      }
    } else if (offset === 0x88) {
      this.consume();
    } else if (offset === 0x28) {
      this.set(offset, (value & ~(1n << 63n) & ~(3n << 59n)) | ((this.granularity ?? (value >> 61n) & 3n) << 59n));
    } else if (offset === 0xf8) {
      this.set(offset, (value & ~(1n << 63n) & ~(3n << 57n)) | ((this.granularity ?? (value >> 60n) & 3n) << 57n));
    }
  }

  private consume(): void {
    const iqa = this.get(0x90);
    const bytes = (iqa & 0x800n) !== 0n ? 32 : 16;
    const size = 4096 << Number(iqa & 7n);
    for (let head = Number(this.get(0x80)); head !== Number(this.get(0x88)) && (this.get(0x34) & 0x10n) === 0n; ) {
      const at = Number(iqa & ~0xfffn) + head;
      const [low, high] = [this.ram64(at), this.ram64(at + 8)];
      const type = Number(low & 0xfn);
      if (this.invalid.has(type)) {
        this.set(0x34, this.get(0x34) | 0x10n);
        this.set(0xb0, 3n);
        return;
      }
      if (type === 5) {
        this.view.setUint32(Number(high), Number(low >> 32n), true);
      } else {
        this.trace.push(`desc ${low.toString(16)} ${high.toString(16)}`);
      }
      head = (head + bytes) % size;
      this.set(0x80, BigInt(head));
    }
  }

  /** Leaves a record of two 64-bit words in a fault recording register. */
  fault(index: number, low: bigint, high: bigint): void {
    const at = FRCD + index * 16;
    [low & 0xffff_ffffn, low >> 32n, high & 0xffff_ffffn, high >> 32n].forEach((word, i) => this.set(at + i * 4, word));
    this.set(0x34, (this.get(0x34) & 0xff71n) | 2n | ((this.get(0x34) & 2n) === 0n ? BigInt(index) << 8n : 0n));
  }

  async readMemory(address: number, length: number): Promise<Uint8Array> {
    return this.ram.slice(address, address + length);
  }

  async writeMemory(address: number, data: Uint8Array): Promise<void> {
    this.ram.set(data, address);
  }

  async interrupts(): Promise<Interrupt[]> {
    return this.pending.splice(0);
  }

  async firmware(): Promise<FirmwareTables> {
    return { deviceTree: null, acpiRoot: null };
  }
}
