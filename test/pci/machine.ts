import { AddressSpace, MemoryRegion, RamBlock } from "../../src/memory/index.js";
import { PciRoot } from "../../src/pci/index.js";

export const RAM_BASE = 0x4000_0000;
export const ECAM_BASE = 0x40_1000_0000;
export const LOW_WINDOW = { base: 0x1000_0000, size: 0x2eff_0000 };
export const HIGH_WINDOW = { base: 0x80_0000_0000, size: 0x80_0000_0000 };

/** RAM, a PCI hierarchy with its ECAM and its two memory windows, at virt's addresses. */
export function makeMachine(): { memory: AddressSpace; system: MemoryRegion; root: PciRoot; ram: RamBlock } {
  const system = MemoryRegion.container("system", 2 ** 52);
  const ram = new RamBlock("ram", 16 << 20, 0x7000_0000_0000);
  system.add(RAM_BASE, MemoryRegion.ram("ram", ram));
  const memory = new AddressSpace("memory", system);
  const root = new PciRoot({ systemMemory: memory });
  system.add(ECAM_BASE, MemoryRegion.mmio("ecam", 0x1000_0000, root.ecam));
  system.add(LOW_WINDOW.base, MemoryRegion.alias("pcie-mmio", root.memory, LOW_WINDOW.base, LOW_WINDOW.size));
  system.add(HIGH_WINDOW.base, MemoryRegion.alias("pcie-mmio-high", root.memory, HIGH_WINDOW.base, HIGH_WINDOW.size));
  return { memory, system, root, ram };
}
