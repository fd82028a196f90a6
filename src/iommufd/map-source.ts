/** What IOAS_MAP takes of a machine's memory. */
import type { MemorySection } from "../memory/index.js";
import type { MapSource } from "./iommufd.js";

/**
 * Bytes of a section from `at` on (bytes into it): of RAM by this process's addresses; of registers of a device of the
 * host by their dma-buf where they have one. Null: no device can be given it.
 */
export function mapSourceOf({ region, offset }: MemorySection, at = 0): MapSource | null {
  if (region.ram !== null) {
    return { address: region.ram.hostAddress + region.ramOffset + offset + at };
  }
  const file = region.device?.file() ?? null;
  return file === null ? null : { fd: file.fd, offset: file.offset + offset + at };
}
