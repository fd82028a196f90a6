/**
 * VMSAv8-64 tables, stage 1 (TTB0) or stage 2, for a 4, 16 or 64 KiB granule, with the sizes and attributes of
 * Linux's io-pgtable-arm (Arm DDI 0487, D8).
 */
import type { PageTableFormat, Protection } from "../iommu/page-table.js";

const VALID = 1n;
/** Bits [1:0] of a table descriptor, and of a page at the last level. */
const TABLE_OR_PAGE = 3n;
const ACCESS_FLAG = 1n << 10n;
const INNER_SHAREABLE = 3n << 8n;
const NOT_GLOBAL = 1n << 11n;
const AP_UNPRIVILEGED = 1n << 6n;
const AP_READ_ONLY = 1n << 7n;
const EXECUTE_NEVER = 3n << 53n;
const S2AP_READ = 1n << 6n;
const S2AP_WRITE = 1n << 7n;
/** MAIR indices: 0 Normal non-cacheable, 1 Normal write-back, 2 Device-nGnRE, 3 inner non-cacheable. */
export const MAIR = 0xf404_ff44;
const ATTR_WRITE_BACK = 1n << 2n;
const ATTR_DEVICE = 2n << 2n;
/** Stage 2 MemAttr: Normal inner and outer write-back; Device-nGnRE. */
const S2_WRITE_BACK = 0xfn << 2n;
const S2_DEVICE = 1n << 2n;

/** `granule`: log2, 12, 14 or 16. Leaves of 4 KiB, 2 MiB, 1 GiB; 16 KiB, 32 MiB; 64 KiB, 512 MiB. */
export function vmsaFormat(stage: 1 | 2, granule: number, inputBits: number, outputBits: number): PageTableFormat {
  return {
    stage,
    granule,
    inputBits,
    outputBits,
    ...tableGeometry(stage, granule, inputBits),
    pageSizes: granule === 12 ? [2 ** 12, 2 ** 21, 2 ** 30] : granule === 14 ? [2 ** 14, 2 ** 25] : [2 ** 16, 2 ** 29],
    present: (entry) => (entry & VALID) !== 0n,
    tableEntry: (address) => BigInt(address) | TABLE_OR_PAGE,
    attributes: (protection) => attributes(stage, protection),
    leafEntry: (physical, level, bits) => BigInt(physical) | bits | (level === 3 ? TABLE_OR_PAGE : VALID),
  };
}

function attributes(stage: 1 | 2, protection: Protection): bigint {
  const device = protection.device === true;
  let bits = ACCESS_FLAG | INNER_SHAREABLE;
  if (stage === 1) {
    bits |= NOT_GLOBAL | (device ? ATTR_DEVICE : ATTR_WRITE_BACK);
    if (protection.write !== true) {
      bits |= AP_READ_ONLY;
    }
    if (protection.privileged !== true) {
      bits |= AP_UNPRIVILEGED;
    }
  } else {
    bits |= device ? S2_DEVICE : S2_WRITE_BACK;
    bits |= (protection.read === false ? 0n : S2AP_READ) | (protection.write === true ? S2AP_WRITE : 0n);
  }
  return protection.noExecute === true ? bits | EXECUTE_NEVER : bits;
}

interface Geometry {
  readonly startLevel: number;
  readonly rootEntries: number;
}

/** Where the walk starts, and how large the first table is; stage 2 concatenates up to 16 tables instead of a level 0 (DDI 0487, D8.2.2). */
function tableGeometry(stage: 1 | 2, granule: number, inputBits: number): Geometry {
  const perLevel = granule - 3;
  const bits = inputBits - granule;
  const levels = Math.ceil(bits / perLevel);
  const rootEntries = 1 << (bits - (levels - 1) * perLevel);
  const startLevel = 4 - levels;
  if (stage === 2 && startLevel === 0 && rootEntries <= 16) {
    return { startLevel: 1, rootEntries: rootEntries << perLevel };
  }
  return { startLevel, rootEntries };
}
