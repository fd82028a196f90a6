/**
 * The configuration space that a process gets of a function (Linux vfio_pci_config.c): base address
 * registers and what else the host needs for itself are this side's, most of the rest is the hardware's to
 * read and nobody's to write.
 */
import type { PhysicalFunction } from "./hardware-port.js";

const CONFIG_BYTES = 4096;
const COMMAND = 0x04;
const COMMAND_MEMORY = 1 << 1;
const COMMAND_BUS_MASTER = 1 << 2;
/** I/O and memory decoding and INTx disable: what the process sets is kept here. */
const COMMAND_VIRTUAL = 0x403;
/** Bus master, parity error response, SERR. */
const COMMAND_PASSED = 0x144;
const CAP_POWER_MANAGEMENT = 0x01;
const CAP_MSI = 0x05;
const CAP_EXPRESS = 0x10;
const CAP_MSIX = 0x11;
/** In the MSI capability's control register: enable, multiple message enable, 64-bit address (PCIe 7.7.1.2). */
const MSI_ENABLE = 1 << 0;
const MSI_WIDE = 1 << 7;
/** PMCSR: the power state; PME enable and status, which are the host's (PCIe 7.5.2.2). */
const POWER_STATE = 0x0003;
const PME = 0x8100;
const NO_SOFT_RESET = 0x0008;
const DEVICE_CONTROL_FLR = 1 << 15;
/** Device Control but FLR: read request size, no snoop, payload, error reporting (PCIe 7.5.3.4). */
const DEVICE_CONTROL_VIRTUAL = 0x7fff;

/** Vectors of the MSI-X capability, and where in which BAR its table is. */
export interface MsixTable {
  /** 0: no capability. */
  readonly vectors: number;
  readonly bar: number;
  readonly offset: number;
  readonly bytes: number;
}

export class VfioConfigSpace {
  readonly table: MsixTable;
  /** Bits that are kept here instead of the hardware, and what they are. */
  private readonly virtual = new Uint8Array(CONFIG_BYTES);
  private readonly shadow = new Uint8Array(CONFIG_BYTES);
  /** Bits that the process may set of those. */
  private readonly writable = new Uint8Array(CONFIG_BYTES);
  private readonly capabilities = new Map<number, number>();

  /**
   * @param onReset the process has asked for a function level reset
   * @param onWoken the function has come back from D3hot as from a reset
   */
  constructor(
    private readonly device: PhysicalFunction,
    private readonly onReset: () => void,
    private readonly onWoken: () => void,
  ) {
    this.findCapabilities();
    this.table = this.findTable();
    this.reset();
  }

  /** The process lets the function answer to its memory addresses, and it is awake (Linux __vfio_pci_memory_enabled). */
  get memoryEnabled(): boolean {
    return (this.shadow[COMMAND] & COMMAND_MEMORY) !== 0 && this.powerState < 3;
  }

  private get powerState(): number {
    const power = this.capability(CAP_POWER_MANAGEMENT);
    return power === 0 ? 0 : this.device.configRead(power + 4, 1) & POWER_STATE;
  }

  /** Offset of a capability; 0: none. */
  capability(id: number): number {
    return this.capabilities.get(id) ?? 0;
  }

  /** Vectors of the MSI capability. */
  msiVectors(): number {
    const at = this.capability(CAP_MSI);
    return at === 0 ? 0 : 1 << ((this.device.configRead(at + 2, 2) >>> 1) & 7);
  }

  get hasInterruptPin(): boolean {
    return this.device.configRead(0x3d, 1) !== 0;
  }

  read(offset: number, out: Uint8Array): void {
    for (let i = 0; i < out.length; i++) {
      out[i] = this.readByte(offset + i);
    }
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const at = offset + i;
      const mask = this.writable[at];
      this.shadow[at] = (this.shadow[at] & ~mask) | (data[i] & mask);
    }
    const end = offset + data.length;
    if (offset < COMMAND + 2 && end > COMMAND) {
      this.passCommand();
    }
    // Device Control 2 is the hardware's (Linux init_pci_cap_exp_perm).
    const control2 = this.capability(CAP_EXPRESS) + 0x28;
    if (control2 > 0x28 && offset <= control2 && end >= control2 + 2) {
      this.device.configWrite(control2, 2, data[control2 - offset] | (data[control2 + 1 - offset] << 8));
    }
    const power = this.capability(CAP_POWER_MANAGEMENT) + 4;
    if (power > 4 && offset <= power && end > power) {
      this.setPowerState(data[power - offset] & POWER_STATE);
    }
    const control = this.capability(CAP_EXPRESS) + 9;
    if (control > 9 && offset <= control && end > control && (data[control - offset] & (DEVICE_CONTROL_FLR >>> 8)) !== 0) {
      this.onReset();
    }
  }

  /** The registers kept here as after a reset; the hardware decodes memory, and does not master the bus. */
  reset(): void {
    const { device } = this;
    this.virtual.fill(0);
    this.writable.fill(0);
    this.shadow.fill(0);
    this.keep(COMMAND, 2, COMMAND_VIRTUAL | COMMAND_PASSED, COMMAND_VIRTUAL | COMMAND_PASSED, 0);
    this.keep(0x0c, 2, 0xffff, 0xffff, 0);
    this.keepBars();
    this.keep(0x30, 4, -1, 0, 0);
    this.keep(0x3c, 1, 0xff, 0xff, 0);
    const power = this.capability(CAP_POWER_MANAGEMENT);
    if (power !== 0) {
      // The process gets no wake-up events; the state is the hardware's, and set by this side (Linux vfio_pm_config_write).
      this.keep(power + 4, 2, PME, 0, 0);
    }
    const express = this.capability(CAP_EXPRESS);
    if (express !== 0) {
      this.keep(express + 8, 2, 0xffff, DEVICE_CONTROL_VIRTUAL, device.configRead(express + 8, 2));
    }
    const msi = this.capability(CAP_MSI);
    if (msi !== 0) {
      this.keep(msi + 2, 2, 0x0071, 0x0071, 0);
      this.keep(msi + 4, 16, -1, -1, 0);
    }
    this.passCommand();
  }

  /** Gives the hardware back what the process has set, after a reset. */
  restore(): void {
    this.passCommand();
  }

  /** Programs the MSI capability for `count` vectors, whose data are their numbers; 0 switches it off. */
  enableMsi(address: bigint, count: number): void {
    const { device } = this;
    const at = this.capability(CAP_MSI);
    const control = device.configRead(at + 2, 2);
    const isWide = (control & MSI_WIDE) !== 0;
    device.configWrite(at + 4, 4, Number(address & 0xffff_ffffn));
    if (isWide) {
      device.configWrite(at + 8, 4, Number(address >> 32n));
    }
    device.configWrite(at + (isWide ? 12 : 8), 2, 0);
    device.configWrite(at + 2, 2, count === 0 ? 0 : MSI_ENABLE | (Math.ceil(Math.log2(count)) << 4));
  }

  private setPowerState(state: number): void {
    const { device } = this;
    const power = this.capability(CAP_POWER_MANAGEMENT);
    const before = device.configRead(power + 4, 2);
    device.configWrite(power + 4, 2, (before & ~(POWER_STATE | PME)) | state);
    if ((before & POWER_STATE) === 3 && this.powerState === 0 && (before & NO_SOFT_RESET) === 0) {
      this.onWoken();
    }
  }

  private findTable(): MsixTable {
    const at = this.capability(CAP_MSIX);
    if (at === 0) {
      return { vectors: 0, bar: -1, offset: 0, bytes: 0 };
    }
    const vectors = (this.device.configRead(at + 2, 2) & 0x7ff) + 1;
    const table = this.device.configRead(at + 4, 4);
    return { vectors, bar: table & 7, offset: table & ~7, bytes: 16 * vectors };
  }

  private readByte(at: number): number {
    if (at >= CONFIG_BYTES) {
      return 0xff;
    }
    const mask = this.virtual[at];
    return mask === 0xff ? this.shadow[at] : (this.device.configRead(at, 1) & ~mask) | (this.shadow[at] & mask);
  }

  /** Memory decoding stays on in the hardware while the function is open: the addresses are the host's. */
  private passCommand(): void {
    const value = this.shadow[COMMAND] | (this.shadow[COMMAND + 1] << 8);
    this.device.configWrite(COMMAND, 2, (value & COMMAND_PASSED) | COMMAND_MEMORY);
  }

  /** BARs: addresses of the process, which begin at zero; sizes and types are the hardware's. */
  private keepBars(): void {
    this.keep(0x10, 24, -1, 0, 0);
    for (let index = 0; index < 6; index++) {
      const { size } = this.device.regionInfo(index);
      if (size > 0) {
        const at = 0x10 + 4 * index;
        const flags = this.device.configRead(at, 4) & 0xf;
        this.keep(at, 4, -1, size > 0xffff_ffff ? 0 : -size & ~0xf, flags);
        if ((flags & 6) === 4) {
          index++;
          this.keep(at + 4, 4, -1, size > 0xffff_ffff ? -(size / 0x1_0000_0000) : -1, 0);
        }
      }
    }
  }

  private keep(offset: number, bytes: number, virtual: number, writable: number, value: number): void {
    for (let i = 0; i < bytes; i++) {
      const shift = 8 * (i % 4);
      this.virtual[offset + i] = virtual >>> shift;
      this.writable[offset + i] = writable >>> shift;
      this.shadow[offset + i] = value >>> shift;
    }
  }

  private findCapabilities(): void {
    let at = this.device.configRead(0x34, 1) & ~3;
    for (let hops = 0; at >= 0x40 && hops < 48; hops++) {
      this.capabilities.set(this.device.configRead(at, 1), at);
      at = this.device.configRead(at + 1, 1) & ~3;
    }
  }
}

/** Takes bus mastering from a function that nobody has open. */
export function quiesce(device: PhysicalFunction): void {
  device.configWrite(COMMAND, 2, device.configRead(COMMAND, 2) & ~(COMMAND_BUS_MASTER | COMMAND_MEMORY));
}
