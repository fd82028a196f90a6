/**
 * Bridges between conventional buses (PCI-to-PCI Bridge Architecture 1.2): QEMU's pci-bridge, pci-bridge-seat and
 * i82801b11-bridge. They are no PCI Express functions: what the root complex knows of a request from below is the
 * bridge's own requester id. The standard hot-plug controller of QEMU's pci-bridge is not modelled, nor is its BAR.
 */
import { PciBridge } from "./bridge.js";
import { addCapability, addSubsystemIds } from "./capabilities.js";
import type { PciIdentity } from "./function.js";
import { MsiCapability } from "./msi-capability.js";

const CAP_SLOT_ID = 0x04;
/** First slot of a chassis (PCI-to-PCI Bridge 1.2, 13.2). */
const FIRST_IN_CHASSIS = 0x20;

abstract class ConventionalBridge extends PciBridge {
  constructor(model: string, id: string, identity: PciIdentity, firstSlot: number) {
    super(model, id, "pci-bridge", identity, { isExpress: false, ownRequester: true, firstSlot, bridgeControl: 0x0bff, configBytes: 256 });
    const { config } = this;
    // 66 MHz capable and fast back-to-back, on both sides.
    config.set16(0x06, config.get16(0x06) | 0x00a0);
    config.set16(0x1e, 0x00a0);
    // Secondary latency timer.
    config.allow(0x1b, 1, 0xff);
  }
}

export interface ConventionalBridgeOptions {
  readonly id?: string;
  /** 1 to 255. */
  readonly chassis: number;
  readonly msi?: boolean;
  /** Devices of another seat are behind it (pci-bridge-seat). */
  readonly seat?: boolean;
  /** The first slot that takes a device. */
  readonly firstSlot?: number;
}

export class ConventionalPciBridge extends ConventionalBridge {
  readonly msi: MsiCapability | null;

  constructor({ id = "", chassis, msi = true, seat = false, firstSlot = 0 }: ConventionalBridgeOptions) {
    super(seat ? "pci-bridge-seat" : "pci-bridge", id, { vendorId: 0x1b36, deviceId: seat ? 0x000a : 0x0001, classCode: 0x060400 }, firstSlot);
    const { config } = this;
    config.bytes[0x3d] = 1;
    const at = addCapability(config, CAP_SLOT_ID, 0x48, 4);
    config.bytes[at + 2] = FIRST_IN_CHASSIS;
    config.bytes[at + 3] = chassis;
    config.allow(at + 3, 1, 0xff);
    this.msi = msi ? new MsiCapability(this, { offset: 0x4c, vectors: 1, perVectorMask: true }) : null;
  }
}

/** The ICH9's bridge to conventional PCI, which decodes subtractively. */
export class I82801b11Bridge extends ConventionalBridge {
  constructor({ id = "" }: { readonly id?: string } = {}) {
    super("i82801b11-bridge", id, { vendorId: 0x8086, deviceId: 0x244e, classCode: 0x060401, revision: 0x92 }, 0);
    addSubsystemIds(this.config, 0x50, 0, 0);
  }
}
