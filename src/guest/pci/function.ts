/** Configuration space of a function, and what a driver reads out of it. Offsets in bytes. */
import type { MachinePort } from "../../port/index.js";
import type { ConfigAccess } from "./config-access.js";

export const PCI = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  CLASS_REVISION: 0x08,
  HEADER_TYPE: 0x0e,
  BAR0: 0x10,
  PRIMARY_BUS: 0x18,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  MEMORY_BASE: 0x20,
  MEMORY_LIMIT: 0x22,
  PREFETCH_BASE: 0x24,
  PREFETCH_LIMIT: 0x26,
  PREFETCH_BASE_UPPER: 0x28,
  PREFETCH_LIMIT_UPPER: 0x2c,
  CAPABILITIES: 0x34,
} as const;

export const COMMAND_MEMORY = 1 << 1;
export const COMMAND_MASTER = 1 << 2;
export const COMMAND_INTX_DISABLE = 1 << 10;

/** Capability ids (PCI Code and ID Assignment). */
export const CAP_MSI = 0x05;
export const CAP_VENDOR = 0x09;
export const CAP_EXPRESS = 0x10;
export const CAP_MSIX = 0x11;
/** Extended capability ids. */
export const EXT_CAP_ATS = 0x0f;
export const EXT_CAP_PASID = 0x1b;

/** Device/Port Type of the PCI Express Capabilities register (PCIe 6.0, 7.5.3.2). */
export const PORT_ROOT = 4;
export const PORT_UPSTREAM = 5;
export const PORT_DOWNSTREAM = 6;
export const PORT_PCIE_TO_PCI = 7;

export interface Bar {
  readonly index: number;
  readonly size: number;
  readonly is64: boolean;
  readonly prefetchable: boolean;
  /** Guest-physical address that CPU accesses go to; null while it has no place. */
  cpuAddress: number | null;
}

export function formatBdf(bdf: number): string {
  const two = (value: number): string => value.toString(16).padStart(2, "0");
  return `${two((bdf >> 8) & 0xff)}:${two((bdf >> 3) & 0x1f)}.${bdf & 7}`;
}

export class PciFunction {
  vendorId = 0;
  deviceId = 0;
  /** Base class, subclass, programming interface. */
  classCode = 0;
  headerType = 0;
  /** Device/Port Type of the PCI Express capability; null for conventional PCI. */
  portType: number | null = null;
  /** Offsets of the first capability of each id; 0x100 and up are extended ones. */
  readonly capabilities = new Map<number, number>();
  readonly extendedCapabilities = new Map<number, number>();
  readonly vendorCapabilities: number[] = [];
  bars: Bar[] = [];
  /** Bridges: numbers that this driver wrote. */
  secondary = 0;
  subordinate = 0;
  readonly children: PciFunction[] = [];

  constructor(
    private readonly config: ConfigAccess,
    readonly bus: number,
    readonly devfn: number,
    readonly parent: PciFunction | null,
  ) {}

  get bdf(): number {
    return (this.bus << 8) | this.devfn;
  }

  get name(): string {
    return formatBdf(this.bdf);
  }

  /** Number of the root bus, and devfn of each function from there on: what stays when buses get other numbers. */
  get path(): string {
    return this.parent === null ? `${this.bus}/${this.devfn}` : `${this.parent.path}/${this.devfn}`;
  }

  get isBridge(): boolean {
    return this.headerType === 1;
  }

  /** Class 06: bridges of any kind, host bridges among them. */
  get isBridgeClass(): boolean {
    return this.classCode >> 16 === 6;
  }

  /** `vvvv:dddd` as lspci has it. */
  get ids(): string {
    return `${this.vendorId.toString(16).padStart(4, "0")}:${this.deviceId.toString(16).padStart(4, "0")}`;
  }

  /**
   * The requester ids that the function's requests may carry, its own first: below a PCIe-to-PCI bridge also
   * the bridge's secondary bus with devfn 0, below a conventional bridge that bridge's own (Linux's
   * pci_for_each_dma_alias).
   */
  get requesterIds(): number[] {
    const ids = [this.bdf];
    for (let at = this.parent; at !== null; at = at.parent) {
      if (at.portType === PORT_PCIE_TO_PCI) {
        ids.push(at.secondary << 8);
      } else if (at.portType === null) {
        ids.push(at.bdf);
      }
    }
    return [...new Set(ids)];
  }

  /** The requester id at the root complex, which MSIs carry too. */
  get requesterId(): number {
    const ids = this.requesterIds;
    return ids[ids.length - 1];
  }

  get port(): MachinePort {
    return this.config.port;
  }

  read8(offset: number): Promise<number> {
    return this.config.read(this.bus, this.devfn, offset, 1);
  }

  read16(offset: number): Promise<number> {
    return this.config.read(this.bus, this.devfn, offset, 2);
  }

  read32(offset: number): Promise<number> {
    return this.config.read(this.bus, this.devfn, offset, 4);
  }

  write8(offset: number, value: number): Promise<void> {
    return this.config.write(this.bus, this.devfn, offset, 1, value & 0xff);
  }

  write16(offset: number, value: number): Promise<void> {
    return this.config.write(this.bus, this.devfn, offset, 2, value & 0xffff);
  }

  write32(offset: number, value: number): Promise<void> {
    return this.config.write(this.bus, this.devfn, offset, 4, value >>> 0);
  }

  /** Reads identity and capabilities. Returns false where no function answers. */
  async probe(): Promise<boolean> {
    const ids = await this.read32(PCI.VENDOR_ID);
    if ((ids & 0xffff) === 0xffff || (ids & 0xffff) === 0) {
      return false;
    }
    this.vendorId = ids & 0xffff;
    this.deviceId = ids >>> 16;
    this.classCode = (await this.read32(PCI.CLASS_REVISION)) >>> 8;
    this.headerType = (await this.read8(PCI.HEADER_TYPE)) & 0x7f;
    await this.readCapabilities();
    const express = this.capabilities.get(CAP_EXPRESS);
    if (express !== undefined) {
      this.portType = ((await this.read16(express + 2)) >> 4) & 0xf;
    }
    return true;
  }

  private async readCapabilities(): Promise<void> {
    this.capabilities.clear();
    this.extendedCapabilities.clear();
    this.vendorCapabilities.length = 0;
    if (((await this.read16(PCI.STATUS)) & 0x10) !== 0) {
      let at = (await this.read8(PCI.CAPABILITIES)) & 0xfc;
      // 48 capabilities of 4 bytes fill the space: a list that is longer goes round in a circle.
      for (let i = 0; at >= 0x40 && i < 48; i++) {
        const header = await this.read16(at);
        const id = header & 0xff;
        if (!this.capabilities.has(id)) {
          this.capabilities.set(id, at);
        }
        if (id === CAP_VENDOR) {
          this.vendorCapabilities.push(at);
        }
        at = (header >> 8) & 0xfc;
      }
    }
    if (!this.capabilities.has(CAP_EXPRESS) || !this.config.extended) {
      return;
    }
    let at = 0x100;
    for (let i = 0; at >= 0x100 && i < 480; i++) {
      const header = await this.read32(at);
      if (header === 0 || header === 0xffff_ffff) {
        break;
      }
      if (!this.extendedCapabilities.has(header & 0xffff)) {
        this.extendedCapabilities.set(header & 0xffff, at);
      }
      at = (header >>> 20) & 0xffc;
    }
  }

  /** Sets or clears bits of the Command register. */
  async setCommand(set: number, clear = 0): Promise<void> {
    await this.write16(PCI.COMMAND, ((await this.read16(PCI.COMMAND)) & ~clear) | set);
  }

  /** Sizes the BARs with decoding off (PCI 3.0, 6.2.5.1). I/O BARs are passed over. */
  async sizeBars(): Promise<void> {
    const command = await this.read16(PCI.COMMAND);
    await this.write16(PCI.COMMAND, command & ~3);
    this.bars = [];
    const count = this.isBridge ? 2 : 6;
    for (let index = 0; index < count; index++) {
      const offset = PCI.BAR0 + index * 4;
      const low = await this.read32(offset);
      if ((low & 1) !== 0) {
        continue;
      }
      const is64 = (low & 6) === 4;
      await this.write32(offset, 0xffff_ffff);
      let mask = BigInt(((await this.read32(offset)) & 0xffff_fff0) >>> 0);
      await this.write32(offset, low);
      if (is64) {
        const high = await this.read32(offset + 4);
        await this.write32(offset + 4, 0xffff_ffff);
        mask |= BigInt(await this.read32(offset + 4)) << 32n;
        await this.write32(offset + 4, high);
      } else if (mask !== 0n) {
        mask |= 0xffff_ffffn << 32n;
      }
      if (mask !== 0n) {
        const size = Number(BigInt.asUintN(64, ~mask) + 1n);
        this.bars.push({ index, size, is64, prefetchable: (low & 8) !== 0, cpuAddress: null });
      }
      if (is64) {
        index++;
      }
    }
    await this.write16(PCI.COMMAND, command);
  }

  /** Guest-physical address of a BAR; null where it was not placed or does not exist. */
  barAddress(index: number): number | null {
    return this.bars.find((bar) => bar.index === index)?.cpuAddress ?? null;
  }

  /** This function and all below it. */
  *walk(): Generator<PciFunction> {
    yield this;
    for (const child of this.children) {
      yield* child.walk();
    }
  }
}
