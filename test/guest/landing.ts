/** Where a function's write comes to when its tables change under it. */
import { expect } from "vitest";
import { ENGINE_FILL, type Device, type DmaEngine, type Domain, type Kernel } from "../../src/guest/index.js";

export const IOVA = 0x1234_0000n;
const PAGE = 0x1000;
const SILENT = { page: async () => {}, walk: async () => {} };

export interface Landing {
  readonly domain: Domain;
  /** Guest-physical pages that IOVA is mapped to before and after the change. */
  readonly before: number;
  readonly after: number;
  /** Fills 16 bytes at IOVA and tells where they came to. */
  lands(how?: { ats?: boolean; pasid?: number }): Promise<"before" | "after" | "fault">;
  /** Maps IOVA to `after` without a word to the IOMMU. */
  remap(domain?: Domain): Promise<void>;
}

/** Gives a device whose DMA is an engine's its own domain, with IOVA mapped to a fresh page. */
export async function landing(kernel: Kernel, device: Device): Promise<Landing> {
  const domain = await kernel.useOwnDomain(device);
  const [before, after] = [kernel.memory.allocate(PAGE), kernel.memory.allocate(PAGE)];
  await domain.map(IOVA, before, PAGE, { read: true, write: true });
  const engine = device.dma as DmaEngine;
  let pattern = 0x1000_0001;
  return {
    domain,
    before,
    after,
    lands: async (how = {}) => {
      await Promise.all([before, after].map((page) => kernel.memory.zero(page, 16)));
      const outcome = await engine.run({ operation: ENGINE_FILL, source: 0n, destination: IOVA, length: 16, pattern: ++pattern, ...how });
      if (!outcome.ok) {
        return "fault";
      }
      const [first] = await kernel.memory.readWords(before, 1);
      const [second] = await kernel.memory.readWords(after, 1);
      expect([first, second].sort()).toEqual([0, pattern]);
      return first === pattern ? "before" : "after";
    },
    remap: async (target = domain) => {
      await target.table.unmap(IOVA, PAGE, SILENT);
      await target.table.map(IOVA, after, PAGE, { read: true, write: true });
    },
  };
}
