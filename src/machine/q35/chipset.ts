/**
 * The chipset's own functions on pcie.0, as configuration space shows them (Intel 3 Series MCH, ICH9; QEMU 11.1). The
 * MCH places configuration space. What else they do is not modelled: no disk behind the AHCI controller, no SMBus,
 * none of the LPC bridge's routing, power management and RCBA; the MCH's PAM and SMRAM registers move nothing.
 */
import { MemoryRegion, type MmioHandler } from "../../memory/index.js";
import { PciFunction } from "../../pci/index.js";
import { Q35 } from "./map.js";

const SUBSYSTEM = { subsystemVendorId: 0x1af4, subsystemId: 0x1100 } as const;
const VENDOR = 0x8086;
const INTERRUPT_PIN = 0x3d;

/** PCIEXBAR (MCH datasheet 5.1.16): enable, length, base 35:26. */
const PCIEXBAR = 0x60;
const PCIEXBAR_SIZES: Readonly<Record<number, number>> = { 0: 0x1000_0000, 1: 0x0800_0000, 2: 0x0400_0000 };

/** The memory controller hub: 00.0. */
export class Mch extends PciFunction {
  /** Called when configuration space is mapped or moved; null: it is off. */
  onEcam: (place: { base: number; size: number } | null) => void = () => {};

  constructor() {
    super("mch", "", "host-bridge", { vendorId: VENDOR, deviceId: 0x29c0, classCode: 0x060000, ...SUBSYSTEM }, 256);
    this.config.set32(0x50, 0x40);
    this.config.set32(PCIEXBAR, Q35.ecam.base);
    // SMRAM and ESMRAMC.
    this.config.set32(0x9c, 0x0038_0200);
    this.config.allow(PCIEXBAR, 4, 0xfc00_0007 | 0);
    this.config.allow(PCIEXBAR + 4, 4, 0xf);
    this.registers.push({ offset: PCIEXBAR, size: 8, written: () => this.update(), reset: () => this.update() });
  }

  /** What firmware does first of all (PCI Firmware 3.3, 4.1): configuration space at its usual place. */
  enableEcam(): void {
    this.config.set32(PCIEXBAR + 4, 0);
    this.config.set32(PCIEXBAR, Q35.ecam.base | 1);
    this.update();
  }

  /** Where configuration space is; null: nowhere. */
  get ecam(): { base: number; size: number } | null {
    const low = this.config.get32(PCIEXBAR);
    const size = PCIEXBAR_SIZES[(low >> 1) & 3];
    if ((low & 1) === 0 || size === undefined) {
      return null;
    }
    const address = ((this.config.get32(PCIEXBAR + 4) & 0xf) * 2 ** 32) + (low >>> 0);
    return { base: address - (address % size), size };
  }

  private update(): void {
    this.onEcam(this.ecam);
  }
}

/** The bridge to what is left of ISA: 1f.0. */
export class Ich9Lpc extends PciFunction {
  constructor() {
    super("ICH9-LPC", "", "endpoint", { vendorId: VENDOR, deviceId: 0x2918, classCode: 0x060100, revision: 2, ...SUBSYSTEM }, 256);
    this.multifunction = true;
    // PMBASE, and PIRQ[n]_ROUT: not routed.
    this.config.set32(0x40, 1);
    this.config.set32(0x60, 0x8080_8080);
    this.config.set32(0x68, 0x8080_8080);
  }
}

const SILENT: MmioHandler = { read: () => 0n, write: () => {} };

/** The SATA controller: 1f.2. */
export class Ich9Ahci extends PciFunction {
  constructor() {
    super("ich9-ahci", "", "endpoint", { vendorId: VENDOR, deviceId: 0x2922, classCode: 0x010601, revision: 2, ...SUBSYSTEM }, 256);
    this.multifunction = true;
    // Capabilities: MSI at 0x80, then SATA at 0xa8; they are there and do nothing, for no command ever ends.
    this.config.set16(0x06, 0x0010);
    this.config.set32(0x34, 0x80);
    this.config.bytes[INTERRUPT_PIN] = 1;
    this.config.set32(0x80, 0x0080_a805);
    this.config.allow(0x80, 4, 0x0001_0000);
    this.config.allow(0x84, 4, ~3);
    this.config.allow(0x88, 4, ~0);
    this.config.allow(0x8c, 4, 0xffff);
    this.config.set32(0x90, 0x40);
    this.config.set32(0xa8, 0x0010_0012);
    this.config.set32(0xac, 0x48);
    this.addIoBarRegister(4, 32);
    this.addBar({ index: 5, size: 0x1000, is64: false, prefetchable: false, region: MemoryRegion.mmio("ahci", 0x1000, SILENT) });
  }
}

/** The SMBus controller: 1f.3. */
export class Ich9Smbus extends PciFunction {
  constructor() {
    super("ICH9-SMB", "", "endpoint", { vendorId: VENDOR, deviceId: 0x2930, classCode: 0x0c0500, revision: 2, ...SUBSYSTEM }, 256);
    this.multifunction = true;
    this.config.bytes[INTERRUPT_PIN] = 1;
    this.addIoBarRegister(4, 64);
  }
}
