/**
 * A function that is placed and not modelled: configuration space as it was recorded of a real QEMU, and nothing
 * behind it. Its registers read as zero and take no writes (but for the MSI-X table, which a guest's kernel fills
 * without knowing the device), it does no DMA and raises no interrupt. Zeros, not the ones that an absent device
 * reads as: a driver that resets its device waits for bits to become zero, and some wait for ever.
 */
import { MemoryRegion, type MmioHandler } from "../memory/index.js";
import { CAP_EXPRESS, CAP_MSIX, findCapability, FunctionLevelReset, MsixCapability, PciFunction } from "../pci/index.js";

/** Configuration space after reset, and the bits that a guest can write. */
export interface InertSpace {
  readonly size: 256 | 4096;
  readonly image: Uint8Array;
  readonly mask: Uint8Array;
}

export interface InertOptions {
  readonly id?: string;
  readonly space: InertSpace;
}

const BARS = 0x10;
const BAR_COUNT = 6;
const IO = 1;
const IS_64 = 4;
const PREFETCHABLE = 8;
const DEVICE_CAPABILITIES = 4;
const FUNCTION_LEVEL_RESET = 0x1000_0000;

export interface InertBar {
  readonly index: number;
  /** Bytes. */
  readonly size: number;
  readonly kind: "io" | "memory";
  readonly is64: boolean;
  readonly prefetchable: boolean;
}

/** Base address registers of a type-0 header (PCIe 7.5.1.2.1), by the bits of them that can be written. */
export function barsOf({ image, mask }: InertSpace): InertBar[] {
  const word = (bytes: Uint8Array, at: number): number => (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
  const bars: InertBar[] = [];
  for (let index = 0; index < BAR_COUNT; index++) {
    const at = BARS + 4 * index;
    const kind = (image[at] & IO) !== 0 ? "io" : "memory";
    const is64 = kind === "memory" && (image[at] & IS_64) !== 0 && index + 1 < BAR_COUNT;
    const low = word(mask, at) & (kind === "io" ? ~3 : ~15);
    const wide = (BigInt(is64 ? word(mask, at + 4) : 0xffff_ffff) << 32n) | BigInt(low >>> 0);
    if (low !== 0 || (is64 && word(mask, at + 4) !== 0)) {
      bars.push({ index, size: kind === "io" ? (low & -low) >>> 0 : Number(wide & -wide), kind, is64, prefetchable: kind === "memory" && (image[at] & PREFETCHABLE) !== 0 });
    }
    index += is64 ? 1 : 0;
  }
  return bars;
}

export interface MsixPlace {
  readonly vectors: number;
  readonly tableBar: number;
  readonly tableOffset: number;
  readonly pbaBar: number;
  readonly pbaOffset: number;
}

export class InertFunction extends PciFunction {
  private readonly msix: MsixCapability | null;

  constructor(model: string, { id, space }: InertOptions) {
    const { image } = space;
    super(model, id ?? "", "endpoint", { vendorId: 0, deviceId: 0, classCode: 0 }, space.size);
    this.putSpace(space);
    const at = findCapability(this.config, CAP_MSIX);
    this.msix = at === 0 ? null : new MsixCapability(this, { offset: at, ...this.msixPlace(at) });
    for (const bar of barsOf(space).filter(({ kind }) => kind === "memory")) {
      this.addBar({ ...bar, region: MemoryRegion.mmio(`${model}.bar${bar.index}`, bar.size, this.registersOf(bar.index)) });
    }
    const express = findCapability(this.config, CAP_EXPRESS);
    if (express !== 0 && (this.config.get32(express + DEVICE_CAPABILITIES) & FUNCTION_LEVEL_RESET) !== 0) {
      new FunctionLevelReset(this, express);
    }
    // What the parts above have written is theirs to write, and as the record has it.
    this.config.bytes.set(image);
  }

  private putSpace({ image, mask }: InertSpace): void {
    this.config.bytes.set(image);
    this.config.writable.set(mask);
  }

  private msixPlace(at: number): MsixPlace {
    const { config } = this;
    const table = config.get32(at + 4);
    const pba = config.get32(at + 8);
    return { vectors: (config.get16(at + 2) & 0x7ff) + 1, tableBar: table & 7, tableOffset: table - (table & 7), pbaBar: pba & 7, pbaOffset: pba - (pba & 7) };
  }

  /** The MSI-X table and the pending bits, where they are in this BAR; the rest is nothing. */
  private registersOf(bar: number): MmioHandler {
    const { msix } = this;
    const part = (offset: number): { handler: MmioHandler; at: number } | null => {
      if (msix === null) {
        return null;
      }
      const { tableBar, tableOffset, pbaBar, pbaOffset } = msix.options;
      if (bar === tableBar && offset >= tableOffset && offset < tableOffset + msix.tableBytes) {
        return { handler: msix.table, at: offset - tableOffset };
      }
      return bar === pbaBar && offset >= pbaOffset && offset < pbaOffset + msix.pbaBytes ? { handler: msix.pba, at: offset - pbaOffset } : null;
    };
    return {
      read: (offset, size) => {
        const found = part(offset);
        return found === null ? 0n : found.handler.read(found.at, size);
      },
      write: (offset, size, value) => {
        const found = part(offset);
        found?.handler.write(found.at, size, value);
      },
    };
  }
}
