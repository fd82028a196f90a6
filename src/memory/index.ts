export { AddressSpace, type MemoryListener } from "./address-space.js";
export { DMA_DECODE_ERROR, DMA_FAULT, DMA_OK, type DmaAttributes, type DmaSpace } from "./dma.js";
export { type MakeMemory, processMemory, type RamBacking, RamBlock } from "./ram.js";
export { DISCARDED, REFUSED, RESOLVED, TranslatedSpace } from "./translated-space.js";
export { exchangeWord, loadSettled, loadWords, MEMORY_ABORT, MEMORY_CHANGED, MEMORY_OK, PHYSICAL_BITS, RamWordMemory, type WordMemory, type WordWindow } from "./word-memory.js";
export { type DeviceMemory, MemoryRegion, type MmioHandler, type RegionKind } from "./region.js";
export type { MemorySection } from "./rendering.js";
