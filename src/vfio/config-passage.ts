/**
 * Which bits of a function's configuration space are this side's (emulated), and which are the host's: those are read
 * from it and written to it each time, as QEMU's vfio_pci_read_config and vfio_pci_write_config do. The host keeps to
 * itself what it must.
 */
import { VfioRegion } from "../iommufd/index.js";
import type { ConfigSpace } from "../pci/index.js";
import type { FunctionRegions } from "./regions.js";

const STATUS = 0x06;
/** An interrupt is pending (PCIe 7.5.1.1.4): this side's where it drives the line, and the device's. */
const STATUS_INTERRUPT = 0x08;

export class ConfigPassage {
  /** Bits that are this side's. */
  private readonly emulated: Uint8Array;

  /**
   * @param config what the guest gets: this side's bits, and the host's as they were last read
   * @param bytes that the host has of it (256, or 4096); what is beyond is this side's
   */
  constructor(
    private readonly config: ConfigSpace,
    bytes: number,
  ) {
    this.emulated = new Uint8Array(config.size);
    this.emulated.fill(0xff, bytes);
    this.emulateBits(STATUS, STATUS_INTERRUPT);
  }

  /** All bits of a register are this side's. */
  emulate(offset: number, bytes: number): void {
    this.emulated.fill(0xff, offset, offset + bytes);
  }

  /** Bits of a byte. */
  emulateBits(offset: number, bits: number): void {
    this.emulated[offset] |= bits;
  }

  /** Gives a register of this side's a value that stays. */
  fix(offset: number, bytes: 2 | 4, value: number): void {
    this.emulate(offset, bytes);
    if (bytes === 2) {
      this.config.set16(offset, value);
    } else {
      this.config.set32(offset, value >>> 0);
    }
  }

  /** What the guest reads. The host's bits are all ones where it refuses. */
  read(regions: FunctionRegions, offset: number, size: number): number {
    const { config, emulated } = this;
    if (this.isOwn(offset, size)) {
      return config.read(offset, size);
    }
    const host = new Uint8Array(size);
    const answered = regions.read(VfioRegion.CONFIG, offset, host);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const at = offset + i;
      const mask = emulated[at];
      let byte = (host[i] & ~mask) | (config.bytes[at] & mask);
      if (answered) {
        config.bytes[at] = byte;
      }
      if (at === STATUS) {
        byte |= host[i] & STATUS_INTERRUPT;
      }
      value = value * 256 + byte;
    }
    return value;
  }

  /** Sends the host what of a write is not this side's alone, by registers of its own width. */
  write(regions: FunctionRegions, offset: number, size: number, value: number): void {
    const data = Uint8Array.from({ length: size }, (_unused, i) => (value >>> (8 * i)) & 0xff);
    for (let at = offset; at < offset + size; ) {
      if (this.isOwn(at, 1)) {
        at++;
        continue;
      }
      let width = at % 4 === 0 ? 4 : at % 2 === 0 ? 2 : 1;
      while (at + width > offset + size || Array.from({ length: width }, (_unused, i) => i).some((i) => this.isOwn(at + i, 1))) {
        width >>= 1;
      }
      regions.write(VfioRegion.CONFIG, at, data.slice(at - offset, at - offset + width));
      at += width;
    }
  }

  private isOwn(offset: number, size: number): boolean {
    for (let at = offset; at < offset + size; at++) {
      if (this.emulated[at] !== 0xff) {
        return false;
      }
    }
    return true;
  }
}
