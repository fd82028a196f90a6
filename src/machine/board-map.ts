import type { Range } from "./ram-layout.js";

/** Where a board has PCI; addresses are guest-physical, in bytes. */
export interface BoardMap {
  /** Configuration space, while it is mapped. */
  readonly ecam: Range;
  /** Buses that configuration space has room for. */
  readonly busCount: number;
  /** What would make room for more; null: it has room for all. */
  readonly moreBuses: string | null;
  readonly mmio32: Range;
  /** Null: the machine has no window above 4 GiB. */
  readonly mmio64: Range | null;
  /** Where memory devices go; null: -m has no maxmem above its size. */
  readonly deviceMemory: Range | null;
}
