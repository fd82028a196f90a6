import { PciBridge } from "./bridge.js";
import { addErrorReporting, addExpressCapability, addPowerManagement, ExpressType } from "./capabilities.js";
import { MsiCapability } from "./msi-capability.js";

export interface PciePciBridgeOptions {
  readonly id?: string;
  readonly msi?: boolean;
}

/**
 * pcie-pci-bridge: conventional PCI behind PCI Express. Requests of all functions behind it carry the
 * requester id (secondary bus, 0), so nothing may sit in slot 0 (which QEMU refuses too). It has no hotplug
 * controller: what is behind it is there from the start.
 */
export class PciePciBridge extends PciBridge {
  readonly msi: MsiCapability | null;

  constructor(options: PciePciBridgeOptions = {}) {
    super("pcie-pci-bridge", options.id ?? "", "pci-bridge", { vendorId: 0x1b36, deviceId: 0x000e, classCode: 0x060400 }, {
      isExpress: false,
      firstSlot: 1,
      bridgeControl: 0x0bff,
    });
    const { config } = this;
    // 66 MHz capable and fast back-to-back, on both sides.
    config.set16(0x06, config.get16(0x06) | 0x00a0);
    config.set16(0x1e, 0x00a0);
    config.bytes[0x3d] = 1;
    // Secondary latency timer: there is a conventional bus behind.
    config.allow(0x1b, 1, 0xff);
    addExpressCapability(config, { offset: 0x48, type: ExpressType.PciBridge, ariForwarding: true });
    addPowerManagement(config, 0x84, 0x0003);
    this.msi = options.msi === false ? null : new MsiCapability(this, { offset: 0x8c, vectors: 1, perVectorMask: true });
    addErrorReporting(config, 0x100, "endpoint");
  }
}
