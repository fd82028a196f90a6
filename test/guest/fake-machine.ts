/**
 * A machine in a few lines: RAM and one SMMU whose registers acknowledge at once and whose command queue is
 * consumed when CMDQ_PROD is written. It does nothing of what the commands say; it remembers what was written.
 */
import type { AccessSize, FirmwareTables, Interrupt, MachinePort } from "../../src/port/index.js";

export const RAM_BASE = 0x4000_0000;
export const RAM_BYTES = 128 * 1024 * 1024;
export const SMMU_BASE = 0x0905_0000;
export const SMMU_INTERRUPTS = { eventq: 106, priq: 107, cmdqSync: 108, gerror: 109 };

const names: Record<number, string> = {
  0x20: "CR0", 0x28: "CR1", 0x2c: "CR2", 0x44: "GBPA", 0x50: "IRQ_CTRL", 0x64: "GERRORN", 0x68: "GERROR_IRQ_CFG0",
  0x80: "STRTAB_BASE", 0x88: "STRTAB_BASE_CFG", 0x90: "CMDQ_BASE", 0x98: "CMDQ_PROD", 0x9c: "CMDQ_CONS",
  0xa0: "EVENTQ_BASE", 0xb0: "EVENTQ_IRQ_CFG0", 0xc0: "PRIQ_BASE", 0xd0: "PRIQ_IRQ_CFG0",
  0x100a8: "EVENTQ_PROD", 0x100ac: "EVENTQ_CONS", 0x100c8: "PRIQ_PROD", 0x100cc: "PRIQ_CONS",
};

export class FakeMachine implements MachinePort {
  /** `NAME value` of each register write, and the commands where they were consumed, as two 64-bit words. */
  readonly trace: string[] = [];
  readonly registers = new Map<number, number>();
  readonly pending: Interrupt[] = [];
  /** Opcodes that the queue stops at with CERROR_ILL. */
  readonly illegal = new Set<number>();
  /** Consumed commands, two 64-bit words each. */
  readonly commands: Array<[bigint, bigint]> = [];
  private readonly ram = new Uint8Array(RAM_BYTES);
  private readonly view = new DataView(this.ram.buffer);
  private cmdqBase = 0n;
  private eventBase = 0n;

  constructor(idr: { idr0: number; idr1: number; idr3: number; idr5: number }) {
    for (const [offset, value] of [[0, idr.idr0], [4, idr.idr1], [0xc, idr.idr3], [0x14, idr.idr5]]) {
      this.registers.set(offset, value);
    }
  }

  get(offset: number): number {
    return (this.registers.get(offset) ?? 0) >>> 0;
  }

  ram64(address: number): bigint {
    return this.view.getBigUint64(address - RAM_BASE, true);
  }

  async read(address: number, size: AccessSize): Promise<bigint> {
    if (address >= RAM_BASE) {
      return size === 8 ? this.ram64(address) : BigInt(this.view.getUint32(address - RAM_BASE, true));
    }
    return BigInt(this.get(address - SMMU_BASE));
  }

  async write(address: number, _size: AccessSize, value: bigint): Promise<void> {
    const offset = address - SMMU_BASE;
    this.trace.push(`${names[offset] ?? offset.toString(16)} ${value.toString(16)}`);
    this.registers.set(offset, Number(value & 0xffff_ffffn));
    const acknowledge = { 0x20: 0x24, 0x50: 0x54 }[offset];
    if (acknowledge !== undefined) {
      this.registers.set(acknowledge, Number(value));
    }
    if (offset === 0x44) {
      this.registers.set(offset, Number(value & 0x7fff_ffffn));
    }
    if (offset === 0x90) {
      this.cmdqBase = value;
    }
    if (offset === 0xa0) {
      this.eventBase = value;
    }
    if (offset === 0x98 || offset === 0x64) {
      this.consume();
    }
  }

  private consume(): void {
    const log2 = Number(this.cmdqBase & 31n);
    const base = Number(this.cmdqBase & 0xf_ffff_ffff_ffe0n);
    let cons = this.get(0x9c) & 0xff_ffff;
    while (cons !== this.get(0x98) && this.get(0x60) === this.get(0x64) && (this.get(0x24) & 8) !== 0) {
      const at = base + (cons & ((1 << log2) - 1)) * 16;
      const command: [bigint, bigint] = [this.ram64(at), this.ram64(at + 8)];
      if (this.illegal.has(Number(command[0] & 0xffn))) {
        this.registers.set(0x9c, cons | (1 << 24));
        this.registers.set(0x60, this.get(0x60) ^ 1);
        this.pending.push({ kind: "spi", intid: SMMU_INTERRUPTS.gerror });
        return;
      }
      this.commands.push(command);
      this.trace.push(`command ${command[0].toString(16)} ${command[1].toString(16)}`);
      cons = (cons + 1) & ((2 << log2) - 1);
      this.registers.set(0x9c, cons);
    }
  }

  /** Writes a record of four 64-bit words into the event queue and signals it. */
  event(words: readonly bigint[]): void {
    const base = this.eventBase & 0xf_ffff_ffff_ffe0n;
    const log2 = Number(this.eventBase & 31n);
    const prod = this.get(0x100a8);
    words.forEach((word, i) => this.view.setBigUint64(Number(base) - RAM_BASE + (prod & ((1 << log2) - 1)) * 32 + i * 8, word, true));
    this.registers.set(0x100a8, ((prod & 0x8000_0000) | ((prod + 1) & ((2 << log2) - 1))) >>> 0);
    this.pending.push({ kind: "spi", intid: SMMU_INTERRUPTS.eventq });
  }

  async readMemory(address: number, length: number): Promise<Uint8Array> {
    return this.ram.slice(address - RAM_BASE, address - RAM_BASE + length);
  }

  async writeMemory(address: number, data: Uint8Array): Promise<void> {
    this.ram.set(data, address - RAM_BASE);
  }

  async interrupts(): Promise<Interrupt[]> {
    return this.pending.splice(0);
  }

  async firmware(): Promise<FirmwareTables> {
    return { deviceTree: null, acpiRoot: null };
  }
}
