/** Which driver a function gets. */
import type { InterruptController } from "../interrupts.js";
import { CAP_VENDOR, type PciFunction } from "../pci/function.js";
import type { DmaDevice } from "./dma-device.js";
import { EduDevice } from "./edu.js";
import { DmaEngine } from "./engine.js";
import { IommuTestdev } from "./iommu-testdev.js";

/** 'D' at byte 3 of the vendor-specific capability that says where the engine is. */
const ENGINE_CAPABILITY_KIND = 0x44;
const ENGINE_CAPABILITY_BYTES = 12;

/** The driver for a function whose BARs are placed; null for one that no driver here knows. */
export async function findDmaDevice(fn: PciFunction, interrupts: InterruptController): Promise<DmaDevice | null> {
  const bar0 = fn.barAddress(0);
  if (fn.vendorId === 0x1234 && fn.deviceId === 0x11e8) {
    return bar0 === null ? null : new EduDevice(fn, bar0, interrupts);
  }
  if (fn.vendorId === 0x1b36 && fn.deviceId === 0x0005) {
    return bar0 === null ? null : new IommuTestdev(fn, bar0);
  }
  for (const at of fn.vendorCapabilities) {
    const header = await fn.read32(at);
    if ((header & 0xff) === CAP_VENDOR && ((header >>> 16) & 0xff) === ENGINE_CAPABILITY_BYTES && header >>> 24 === ENGINE_CAPABILITY_KIND) {
      const bar = fn.barAddress((await fn.read32(at + 4)) & 7);
      const offset = await fn.read32(at + 8);
      return bar === null ? null : DmaEngine.at(fn, bar + offset, interrupts);
    }
  }
  return bar0 === null ? null : DmaEngine.at(fn, bar0, interrupts);
}
