/**
 * A PCI function: identity, configuration space, base address registers, and where it sits. Kinds of
 * functions (bridges, emulated endpoints, passed-through ones) extend it.
 */
import { DMA_DECODE_ERROR, type DmaAttributes, type DmaSpace, type MemoryRegion } from "../memory/index.js";
import { lowWord } from "../support/index.js";
import type { PciBus } from "./bus.js";
import { ConfigSpace } from "./config-space.js";
import { iommuPath, type IommuPath } from "./iommu.js";

export type FunctionKind = "host-bridge" | "root-port" | "upstream-port" | "downstream-port" | "pci-bridge" | "expander" | "endpoint";

/** Index of the expansion ROM base address register (0x30) among the BARs; it decodes where its bit 0 is set (PCIe 7.5.1.2.4). */
export const ROM_BAR = 6;
const ROM = 0x30;
const ROM_ENABLE = 1;

export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  readonly revision?: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
}

export interface Bar {
  /** ROM_BAR: the expansion ROM's. */
  readonly index: number;
  /** Bytes, a power of two. */
  readonly size: number;
  readonly is64: boolean;
  readonly prefetchable: boolean;
  readonly region: MemoryRegion;
}

/** A part of a function that acts on writes to its registers in configuration space. */
export interface ConfigRegisters {
  /** First byte, and bytes. */
  readonly offset: number;
  readonly size: number;
  /** Bytes offset to offset + size - 1 of configuration space have been written (this part's, or some of them). */
  written(offset: number, size: number): void;
  /** The registers are back at their defaults. */
  reset?(): void;
}

/** Command register bits (PCIe 7.5.1.1.3). */
export const COMMAND_MEMORY = 0x0002;
export const COMMAND_BUS_MASTER = 0x0004;
export const COMMAND_INTX_DISABLE = 0x0400;
const COMMAND = 0x04;
const STATUS = 0x06;
const STATUS_INTERRUPT = 0x08;

export abstract class PciFunction {
  readonly config: ConfigSpace;
  readonly bars: Bar[] = [];
  /** Set while plugged. */
  bus: PciBus | null = null;
  devfn = 0;
  /** Buses that this function makes: none for an endpoint. */
  readonly secondaryBuses: PciBus[] = [];
  /** Where its DMA goes, set while plugged. */
  dma: DmaSpace | null = null;
  /** Set by the user: other functions may share the slot (header type bit 7 of function 0). */
  multifunction = false;
  /** The function came while the machine was running. */
  hotplugged = false;
  /** The slot that it is in has power. Without, configuration reads give all ones and nothing else works. */
  powered = true;
  /** Parts that act on configuration writes: MSI, MSI-X, slot, windows. */
  readonly registers: ConfigRegisters[] = [];
  private intxLevel = false;

  constructor(
    /** QEMU's name of the model, such as `pcie-root-port`. */
    readonly model: string,
    /** The user's id; empty when none was given. */
    readonly id: string,
    readonly kind: FunctionKind,
    identity: PciIdentity,
    /** 256 for conventional PCI, 4096 for PCI Express. */
    configBytes: 256 | 4096,
  ) {
    this.config = new ConfigSpace(configBytes, identity);
  }

  /** A name for messages: `e1000e 'net0'`, or the model alone. */
  get label(): string {
    return this.id === "" ? this.model : `${this.model} '${this.id}'`;
  }

  /** The host's function behind a passed-through one, and the iommufd that it goes through (null: a legacy container); null for an emulated function. */
  get passthrough(): { readonly hostAddress: string; readonly iommufd: string | null } | null {
    return null;
  }

  get isBridge(): boolean {
    return this.kind !== "endpoint";
  }

  /** bus << 8 | devfn as configuration cycles address it. */
  get bdf(): number {
    return ((this.bus?.number ?? 0) << 8) | this.devfn;
  }

  /** As `bb:dd.f`. */
  get bdfText(): string {
    return formatBdf(this.bdf);
  }

  get iommuPath(): IommuPath {
    if (this.bus === null) {
      throw new Error(`${this.label} is not plugged`);
    }
    return iommuPath(this.bus, this.devfn);
  }

  /** What its requests carry: its own bus, device, function, or its PCIe-to-PCI bridge's. */
  get requesterId(): number {
    const path = this.iommuPath;
    return (path.bus.number << 8) | path.devfn;
  }

  /** Secondary bus number register of a bridge; 0 for an endpoint. */
  get secondaryBus(): number {
    return 0;
  }

  /** Subordinate bus number register of a bridge. */
  get subordinateBus(): number {
    return 0;
  }

  /** Called when the function has its place and address space; makes what needs them. Throws Refusal or HostError, leaving nothing behind. */
  realize(): void {}

  /** Undoes `realize`. */
  unrealize(): void {}

  /** Reset of the function: configuration registers to their defaults, hardware quiet. */
  reset(): void {
    this.setIntx(false);
    this.config.reset();
    for (const part of this.registers) {
      part.reset?.();
    }
    this.decodingChanged();
  }

  /**
   * Adds a memory BAR (PCIe 7.5.1.2.1): its register at 0x10 + 4 * index, of which the bits above the size
   * can be written. Throws RangeError for a size that is no power of two from 16 bytes on, or an index in use.
   */
  addBar(bar: Bar): void {
    const last = bar.is64 ? bar.index + 1 : bar.index;
    const slots = this.isBridge && this.kind !== "host-bridge" && this.kind !== "expander" ? 2 : 6;
    const used = this.bars.some((other) => other.index <= last && (other.is64 ? other.index + 1 : other.index) >= bar.index);
    if (used || bar.index < 0 || last >= slots || bar.size < 16 || 2 ** Math.round(Math.log2(bar.size)) !== bar.size) {
      throw new RangeError(`${this.label}: BAR ${bar.index} of ${bar.size} bytes cannot be`);
    }
    const at = 0x10 + 4 * bar.index;
    this.config.set32(at, (bar.is64 ? 4 : 0) | (bar.prefetchable ? 8 : 0));
    const mask = -BigInt(bar.size);
    this.config.allow(at, 4, lowWord(mask) & ~0xf);
    if (bar.is64) {
      this.config.allow(at + 4, 4, lowWord(mask >> 32n));
    }
    this.bars.push(bar);
  }

  /** Adds the expansion ROM, of a power of two of bytes from 2 KiB on. Throws RangeError for another size. */
  addRom(size: number, region: MemoryRegion): void {
    if (size < 0x800 || 2 ** Math.round(Math.log2(size)) !== size) {
      throw new RangeError(`${this.label}: an expansion ROM of ${size} bytes cannot be`);
    }
    this.config.set32(ROM, 0);
    this.config.allow(ROM, 4, (-size & ~0x7ff) | ROM_ENABLE);
    this.bars.push({ index: ROM_BAR, size, is64: false, prefetchable: false, region });
  }

  /**
   * Adds the register of an I/O BAR of `size` bytes: it can be sized and written. No machine here has an
   * I/O window, so it never decodes.
   */
  addIoBarRegister(index: number, size: number): void {
    this.config.set32(0x10 + 4 * index, 1);
    this.config.allow(0x10 + 4 * index, 4, ~(size - 1) & ~3);
  }

  /** Address that the guest wrote into a BAR, whether or not it is decoded; bytes. 0 for a ROM that is not enabled. */
  barAddress(bar: Bar): bigint {
    if (bar.index === ROM_BAR) {
      const register = this.config.get32(ROM);
      return (register & ROM_ENABLE) === 0 ? 0n : BigInt((register & ~0x7ff) >>> 0);
    }
    const at = 0x10 + 4 * bar.index;
    const low = BigInt((this.config.get32(at) & ~0xf) >>> 0);
    return bar.is64 ? low | (BigInt(this.config.get32(at + 4)) << 32n) : low;
  }

  get command(): number {
    return this.config.get16(COMMAND);
  }

  /** Command.Memory Space Enable, in a slot with power. */
  get decodesMemory(): boolean {
    return this.powered && (this.command & COMMAND_MEMORY) !== 0;
  }

  /** Command.Bus Master Enable, in a slot with power: without it neither DMA nor MSIs leave the function. */
  get busMaster(): boolean {
    return this.powered && (this.command & COMMAND_BUS_MASTER) !== 0;
  }

  /** Attributes of a request of this function as its requester id is now. `pasid` -1: none. */
  dmaAttributes(pasid = -1, execute = false, privileged = false): DmaAttributes {
    return { requesterId: this.requesterId, pasid, execute, privileged };
  }

  /** DMA read of out.length bytes at an IOVA; a DMA_ code. Without bus mastering nothing leaves: DMA_DECODE_ERROR. */
  dmaRead(iova: bigint, out: Uint8Array, attributes?: DmaAttributes): number {
    return this.dma === null || !this.busMaster ? DMA_DECODE_ERROR : this.dma.read(iova, out, attributes ?? this.dmaAttributes());
  }

  dmaWrite(iova: bigint, data: Uint8Array, attributes?: DmaAttributes): number {
    return this.dma === null || !this.busMaster ? DMA_DECODE_ERROR : this.dma.write(iova, data, attributes ?? this.dmaAttributes());
  }

  /**
   * An MSI is a 32-bit memory write (PCIe 6.1.4) through the same translation as any other. Where the IOMMU
   * tells the doorbell, the address is not looked at: this side does not walk that guest's tables. A DMA_ code.
   */
  sendMessage(address: bigint, data: number): number {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, data >>> 0, true);
    const doorbell = this.directDoorbell();
    if (doorbell === null) {
      return this.dmaWrite(address, bytes);
    }
    const memory = this.bus?.topology?.systemMemory;
    return memory === undefined || !this.busMaster ? DMA_DECODE_ERROR : memory.write(BigInt(doorbell), bytes, this.dmaAttributes());
  }

  private directDoorbell(): number | null {
    if (this.bus === null) {
      return null;
    }
    const { ops, bus, devfn } = this.iommuPath;
    return ops?.getMsiDirectGpa?.(bus, devfn) ?? null;
  }

  /** Drives INTx: status bit 3, and the line at the root unless command.Interrupt Disable is set. */
  setIntx(level: boolean): void {
    const status = this.config.get16(STATUS);
    this.config.set16(STATUS, level ? status | STATUS_INTERRUPT : status & ~STATUS_INTERRUPT);
    const line = level && (this.command & COMMAND_INTX_DISABLE) === 0;
    if (line !== this.intxLevel) {
      this.intxLevel = line;
      this.bus?.topology?.intxChanged(this, line);
    }
  }

  /** Tells the hierarchy that what this function decodes may have changed. */
  decodingChanged(): void {
    this.bus?.topology?.decodingChanged(this);
  }

  /** A guest's configuration access; offset in bytes, size 1, 2 or 4, within the space. */
  configRead(offset: number, size: number): number {
    return this.config.read(offset, size);
  }

  configWrite(offset: number, size: number, value: number): void {
    this.config.write(offset, size, value);
    for (const part of this.registers) {
      if (offset < part.offset + part.size && offset + size > part.offset) {
        part.written(offset, size);
      }
    }
    if (offset < 0x06 && offset + size > COMMAND) {
      this.setIntx((this.config.get16(STATUS) & STATUS_INTERRUPT) !== 0);
      this.decodingChanged();
    } else if ((offset < 0x28 && offset + size > 0x10) || (offset < ROM + 4 && offset + size > ROM)) {
      this.decodingChanged();
    }
  }
}

export function formatBdf(bdf: number): string {
  const two = (value: number): string => value.toString(16).padStart(2, "0");
  return `${two(bdf >> 8)}:${two((bdf >> 3) & 0x1f)}.${bdf & 7}`;
}
