/** First-stage tables, which are those of x86 processors, and second-stage ones (Intel VT-d 5.x, 9.8 and 9.9). */
import type { PageTableFormat } from "../iommu/page-table.js";

const ROOT_ENTRIES = 512;
const FS_PRESENT = 1n << 0n;
const FS_WRITE = 1n << 1n;
const FS_USER = 1n << 2n;
const FS_ACCESSED = 1n << 5n;
const FS_DIRTY = 1n << 6n;
const FS_EXECUTE_DISABLE = 1n << 63n;
const SS_READ = 1n << 0n;
const SS_WRITE = 1n << 1n;
const SS_SNOOP = 1n << 11n;
/** Page size: the entry above the last level is a leaf. */
const LARGE = 1n << 7n;

/**
 * `levels`: 4 or 5. Accessed, and dirty where it may be written, are set from the start, as Linux sets them; so
 * are user accesses, which all DMA without a privilege is.
 */
export function firstStageFormat(levels: 4 | 5, pages1g: boolean, outputBits: number): PageTableFormat {
  return {
    stage: 1,
    granule: 12,
    inputBits: 9 * levels + 12,
    outputBits,
    startLevel: 4 - levels,
    rootEntries: ROOT_ENTRIES,
    pageSizes: pages1g ? [2 ** 12, 2 ** 21, 2 ** 30] : [2 ** 12, 2 ** 21],
    present: (entry) => (entry & FS_PRESENT) !== 0n,
    tableEntry: (address) => BigInt(address) | FS_PRESENT | FS_WRITE | FS_USER | FS_ACCESSED,
    attributes: ({ write, privileged, noExecute }) =>
      FS_PRESENT |
      FS_ACCESSED |
      (write === true ? FS_WRITE | FS_DIRTY : 0n) |
      (privileged === true ? 0n : FS_USER) |
      (noExecute === true ? FS_EXECUTE_DISABLE : 0n),
    leafEntry: (physical, level, attributes) => BigInt(physical) | attributes | (level === 3 ? 0n : LARGE),
  };
}

/** `levels` 3, 4 or 5. `snoop`: entries ask for snooped accesses (ECAP.SC). */
export function secondStageFormat(levels: 3 | 4 | 5, inputBits: number, pageSizes: readonly number[], outputBits: number, snoop = false): PageTableFormat {
  return {
    stage: 2,
    granule: 12,
    inputBits,
    outputBits,
    startLevel: 4 - levels,
    rootEntries: ROOT_ENTRIES,
    pageSizes,
    // Neither R nor W: not present (9.9).
    present: (entry) => (entry & (SS_READ | SS_WRITE)) !== 0n,
    tableEntry: (address) => BigInt(address) | SS_READ | SS_WRITE,
    attributes: ({ read, write }) => (read === false ? 0n : SS_READ) | (write === true ? SS_WRITE : 0n) | (snoop ? SS_SNOOP : 0n),
    leafEntry: (physical, level, attributes) => BigInt(physical) | attributes | (level === 3 ? 0n : LARGE),
  };
}
