/** ioh3420: Intel's root port of the X58. The hotplug interrupt is vector 0 of its two MSIs, else INTA. */
import { addErrorReporting, addExpressCapability, addSubsystemIds, ExpressType } from "./capabilities.js";
import { MsiCapability } from "./msi-capability.js";
import { HotplugPort, type SlotPortOptions } from "./ports.js";

export class Ioh3420 extends HotplugPort {
  readonly msi: MsiCapability;

  constructor(options: SlotPortOptions = {}) {
    super("ioh3420", { vendorId: 0x8086, deviceId: 0x3420, classCode: 0x060400, revision: 2 }, "root-port", options, true);
    const { config } = this;
    addSubsystemIds(config, 0x40, 0x8086, 0);
    this.msi = new MsiCapability(this, { offset: 0x60, vectors: 2, is64: false, perVectorMask: true });
    const express = addExpressCapability(config, {
      offset: 0x90,
      type: ExpressType.RootPort,
      port: options.port,
      ariForwarding: true,
    });
    // Root Control: system error enables (PCIe 7.5.3.12).
    config.allow(express + 0x1c, 2, 0x07);
    this.makeSlot(express, options, 1, 1);
    addErrorReporting(config, 0x100, "root-port");
    config.bytes[0x3d] = 1;
  }

  override hotplugInterrupt(level: boolean): void {
    // The base class's parts are made first, and are quiet.
    if (this.msi?.enabled) {
      if (level) {
        this.msi.raise(0);
      }
    } else if (this.msi !== undefined) {
      this.setIntx(level);
    }
  }
}
