import type { KnownFunction } from "./known.js";
import { NVME_ENGINE_OFFSET } from "../names/index.js";

/** Where the capabilities of a function lie in its configuration space; 0: not there. */
export interface CapabilityOffsets {
  readonly powerManagement: number;
  readonly express: number;
  readonly msi: number;
  readonly msix: number;
  readonly ats: number;
  readonly pri: number;
  readonly pasid: number;
}

const CONFIG_BYTES = 4096;
const POWER_MANAGEMENT = 0x40;
const EXPRESS = 0x60;
const MSI = 0x50;
const MSIX = 0xa0;
const VENDOR = 0xb0;
/** Extended capabilities follow one another from here (PCIe 7.6.1). */
const EXTENDED = 0x100;

/** Capability ids (PCI Code and ID Assignment) and extended ones. */
const CAP_POWER_MANAGEMENT = 0x01;
const CAP_MSI = 0x05;
const CAP_EXPRESS = 0x10;
const CAP_MSIX = 0x11;
const CAP_VENDOR = 0x09;
/** Byte 3 of the vendor-specific capability that tells where the DMA engine is, and its length. */
const ENGINE_MARK = 0x44;
const ENGINE_CAPABILITY_BYTES = 12;
const EXT_ATS = 0x000f;
const EXT_PRI = 0x0013;
const EXT_PASID = 0x001b;

/** Bytes of BAR 0 that hold the MSI-X table and pending bits. */
export const MSIX_TABLE_OFFSET = 0x4000;
export const MSIX_PBA_OFFSET = 0x6000;

export const COMMAND = 0x04;
export const COMMAND_MEMORY = 1 << 1;
export const COMMAND_BUS_MASTER = 1 << 2;
/** PMCSR. */
export const POWER_STATE = 0x0003;
export const NO_SOFT_RESET = 0x0008;
/** Bits of PCIe Device Control and of the capabilities' control registers that do something here. */
export const DEVICE_CONTROL_FLR = 1 << 15;
export const MSI_ENABLE = 1 << 0;
export const MSIX_CONTROL_MASK = 1 << 14;
export const MSIX_CONTROL_ENABLE = 1 << 15;
export const ATS_CONTROL_ENABLE = 1 << 15;
export const PASID_ENABLE = 1 << 0;
export const PASID_EXECUTE = 1 << 1;
export const PASID_PRIVILEGED = 1 << 2;

/**
 * The configuration space of a type-0 PCI Express function (PCIe 7.5, 7.7, 10.5): header, BARs with the
 * sizing protocol, power management, PCI Express, MSI-X, and ATS, PRI, PASID extended capabilities.
 * Writes that do more than to store bits are seen by `onWrite`.
 */
export class FunctionConfig {
  readonly offsets: CapabilityOffsets;
  /** Device Capabilities say that it has function level reset. */
  readonly resetsByFlr: boolean;
  private readonly bytes = new Uint8Array(CONFIG_BYTES);
  private readonly writable = new Uint8Array(CONFIG_BYTES);
  private readonly clearable = new Uint8Array(CONFIG_BYTES);
  private readonly defaults: Uint8Array;

  /** @param description whose `reset`, where it is known and without "flr", takes function level reset away */
  constructor(description: KnownFunction) {
    this.resetsByFlr = description.reset?.includes("flr") ?? true;
    this.header(description);
    this.offsets = this.capabilities(description);
    this.defaults = this.bytes.slice();
  }

  /** Registers as after a reset of the function. */
  reset(): void {
    this.bytes.set(this.defaults);
  }

  /** Reads 1, 2 or 4 bytes at an offset in bytes; all ones beyond the space. */
  read(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      value = value * 256 + (offset + i < CONFIG_BYTES ? this.bytes[offset + i] : 0xff);
    }
    return value;
  }

  /** Writes 1, 2 or 4 bytes at an offset; read-only bits keep their value. */
  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size && offset + i < CONFIG_BYTES; i++) {
      const byte = (value >>> (8 * i)) & 0xff;
      const at = offset + i;
      const mask = this.writable[at];
      this.bytes[at] = ((this.bytes[at] & ~mask) | (byte & mask)) & ~(byte & this.clearable[at]);
    }
  }

  /** Sets or clears a bit of a 16-bit register, as the function itself does. */
  setBit(offset: number, mask: number, on: boolean): void {
    const value = this.read(offset, 2);
    this.put(offset, 2, on ? value | mask : value & ~mask);
  }

  private header(description: KnownFunction): void {
    this.put(0x00, 2, description.vendor);
    this.put(0x02, 2, description.device);
    // Status: capabilities list (PCIe 7.5.1.1.4).
    this.put(0x06, 2, 0x0010);
    this.put(0x08, 4, (description.class << 8) | description.revision);
    // Command: memory space, bus master, parity response, SERR, INTx disable (PCIe 7.5.1.1.3); there is no I/O space.
    this.allow(COMMAND, 2, 0x0546);
    this.allow(0x0c, 1, 0xff);
    this.allow(0x3c, 1, 0xff);
    // Status: error bits are cleared by writing one.
    this.clearable[0x07] = 0xf9;
    this.put(0x2c, 2, description.vendor);
    this.put(0x2e, 2, description.device);
    this.put(0x34, 1, POWER_MANAGEMENT);
    for (const bar of description.bars) {
      const at = 0x10 + 4 * bar.index;
      this.put(at, 4, (bar.is64 ? 0x4 : 0) | (bar.prefetchable ? 0x8 : 0));
      // Address bits below the size are read-only zero: that is how software finds the size (PCIe 7.5.1.2.1).
      this.allow(at, 4, bar.size > 0xffff_ffff ? 0 : -bar.size & ~0xf);
      if (bar.is64) {
        this.allow(at + 4, 4, bar.size > 0xffff_ffff ? -(bar.size / 0x1_0000_0000) : -1);
      }
    }
  }

  private capabilities(description: KnownFunction): CapabilityOffsets {
    const vectors = description.msixVectors;
    // Power management, version 3; D0 and D3hot; a soft reset on the way back to D0 or none (PCIe 7.5.2).
    this.put(POWER_MANAGEMENT, 2, CAP_POWER_MANAGEMENT | ((description.msiVectors > 0 ? MSI : EXPRESS) << 8));
    this.put(POWER_MANAGEMENT + 2, 2, 0x0003);
    this.put(POWER_MANAGEMENT + 4, 2, description.noSoftReset ? NO_SOFT_RESET : 0);
    if (description.msiVectors > 0) {
      // 64-bit addresses, no masks (PCIe 7.7.1).
      this.put(MSI, 2, CAP_MSI | (EXPRESS << 8));
      this.put(MSI + 2, 2, 0x0080 | (Math.log2(description.msiVectors) << 1));
      this.allow(MSI + 2, 2, 0x0071);
      this.allow(MSI + 4, 4, ~3);
      this.allow(MSI + 8, 4, -1);
      this.allow(MSI + 12, 2, 0xffff);
    }
    this.allow(POWER_MANAGEMENT + 4, 2, 0x0003);
    // PCI Express, version 2, endpoint (PCIe 7.5.3).
    const vendor = description.model === "nvme" ? VENDOR : 0;
    this.put(EXPRESS, 2, CAP_EXPRESS | ((vectors > 0 ? MSIX : vendor) << 8));
    this.put(EXPRESS + 2, 2, 0x0002);
    // Device Capabilities: 256-byte payloads, extended tags, role-based error reporting, function level reset.
    this.put(EXPRESS + 4, 4, this.resetsByFlr ? 0x1000_8021 : 0x8021);
    // Device Control after reset: relaxed ordering, no snoop, 512-byte read requests; FLR reads as zero.
    this.put(EXPRESS + 8, 2, 0x2810);
    this.allow(EXPRESS + 8, 2, 0x79ff);
    this.clearable[EXPRESS + 10] = 0x0f;
    // Link: 16 GT/s, x16, as capability and as status.
    this.put(EXPRESS + 0x0c, 4, 0x0000_0104);
    this.put(EXPRESS + 0x12, 2, 0x0104);
    this.allow(EXPRESS + 0x10, 2, 0x00c3);
    this.put(EXPRESS + 0x2c, 4, 0x0000_001e);
    if (description.pasidBits > 0) {
      // Device Capabilities 2: extended Fmt field, one end-to-end TLP prefix, which a PASID is (PCIe 6.20.1, 7.5.3.15); Device Control 2: their blocking.
      this.put(EXPRESS + 0x24, 4, 0x0070_0000);
      this.allow(EXPRESS + 0x28, 2, 0x8000);
    }
    if (vectors > 0) {
      this.put(MSIX, 2, CAP_MSIX | (vendor << 8));
      this.put(MSIX + 2, 2, vectors - 1);
      this.allow(MSIX + 2, 2, MSIX_CONTROL_MASK | MSIX_CONTROL_ENABLE);
      this.put(MSIX + 4, 4, MSIX_TABLE_OFFSET);
      this.put(MSIX + 8, 4, MSIX_PBA_OFFSET);
    }
    if (vendor !== 0) {
      // BAR 0 has a controller's registers first: where the engine is has to be told. The index of the BAR, the offset in it.
      this.put(VENDOR, 4, CAP_VENDOR | (ENGINE_CAPABILITY_BYTES << 16) | (ENGINE_MARK << 24));
      this.put(VENDOR + 8, 4, NVME_ENGINE_OFFSET);
    }
    const extended: Array<{ id: number; version: number; bytes: number }> = [];
    if (description.ats) {
      extended.push({ id: EXT_ATS, version: 1, bytes: 8 });
    }
    if (description.pri) {
      extended.push({ id: EXT_PRI, version: 1, bytes: 16 });
    }
    if (description.pasidBits > 0) {
      extended.push({ id: EXT_PASID, version: 1, bytes: 8 });
    }
    const at = new Map<number, number>();
    let offset = EXTENDED;
    extended.forEach((capability, i) => {
      const next = i + 1 < extended.length ? offset + capability.bytes : 0;
      this.put(offset, 4, capability.id | (capability.version << 16) | (next << 20));
      at.set(capability.id, offset);
      offset += capability.bytes;
    });
    const ats = at.get(EXT_ATS) ?? 0;
    if (ats !== 0) {
      // Page aligned requests, global invalidation supported; queue depth 0 means 32 (PCIe 10.5.1.2).
      this.put(ats + 4, 2, 0x0060);
      // Smallest translation unit and enable.
      this.allow(ats + 6, 2, 0x801f);
    }
    const pri = at.get(EXT_PRI) ?? 0;
    if (pri !== 0) {
      this.allow(pri + 4, 2, 0x0003);
      // Status: stopped, and the capacity of outstanding requests (PCIe 10.5.2).
      this.put(pri + 6, 2, 0x0100);
      this.put(pri + 8, 4, 32);
      this.allow(pri + 12, 4, -1);
    }
    const pasid = at.get(EXT_PASID) ?? 0;
    if (pasid !== 0) {
      // Execute permission and privileged mode supported, and the width (PCIe 7.8.9.2).
      this.put(pasid + 4, 2, PASID_EXECUTE | PASID_PRIVILEGED | (description.pasidBits << 8));
      this.allow(pasid + 6, 2, PASID_ENABLE | PASID_EXECUTE | PASID_PRIVILEGED);
    }
    return { powerManagement: POWER_MANAGEMENT, express: EXPRESS, msi: description.msiVectors > 0 ? MSI : 0, msix: vectors > 0 ? MSIX : 0, ats, pri, pasid };
  }

  private put(offset: number, size: 1 | 2 | 4, value: number): void {
    for (let i = 0; i < size; i++) {
      this.bytes[offset + i] = (value >>> (8 * i)) & 0xff;
    }
  }

  private allow(offset: number, size: 1 | 2 | 4, mask: number): void {
    for (let i = 0; i < size; i++) {
      this.writable[offset + i] |= (mask >>> (8 * i)) & 0xff;
    }
  }
}
