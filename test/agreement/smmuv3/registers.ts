/** What registers show after reset and what of a write they keep. */
import type { Observation } from "../agreement.js";
import type { Driver } from "../driver.js";
import { REG } from "../../../src/smmuv3/spec/index.js";

const PAGES = [0, 0x10000];
const PAGE_BYTES = 0x1000;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export function registerKey(offset: number, bits: number): string {
  return `${hex(offset)}/${bits}`;
}

/** Every 32-bit and 64-bit place of both pages. */
export async function readAll(driver: Driver, base: number): Promise<Observation> {
  const reads: Array<Promise<[string, string]>> = [];
  for (const page of PAGES) {
    for (let offset = page; offset < page + PAGE_BYTES; offset += 4) {
      for (const size of offset % 8 === 0 ? ([4, 8] as const) : ([4] as const)) {
        reads.push(driver.read(base + offset, size).then((value) => [registerKey(offset, size * 8), hex(value)]));
      }
    }
  }
  return Object.fromEntries(await Promise.all(reads));
}

/** Patterns whose stored bits tell every mask: all ones, then each half of the bits. */
const PATTERNS = [0xffff_ffff_ffff_ffffn, 0x5555_5555_5555_5555n, 0xaaaa_aaaa_aaaa_aaaan, 0n];

/** Writes that set things off are the topic of the queues, not of this one. */
const SKIPPED = new Set<number>([REG.CR0]);

/**
 * Writes each place of both pages, 32 and 64 bits wide, and reads it back; then what else has changed. The SMMU is off
 * unless `cr0` says otherwise, and CMDQ_PROD equals CMDQ_CONS for that, so nothing is set off.
 */
export async function writeAll(driver: Driver, base: number, cr0 = 0): Promise<Observation> {
  driver.write(base + REG.CR0, 4, cr0);
  const reads: Array<Promise<[string, string]>> = [];
  for (const page of PAGES) {
    for (let at = 0; at < 0x200; at += 4) {
      if (SKIPPED.has(at) || (cr0 !== 0 && (at === REG.CMDQ_PROD || at === REG.CMDQ_CONS))) {
        continue;
      }
      for (const size of at % 8 === 0 ? ([4, 8] as const) : ([4] as const)) {
        const address = base + page + at;
        const before = await driver.read(address, size);
        for (const pattern of PATTERNS) {
          // GBPA takes a value only with UPDATE set; GERRORN toggles.
          driver.write(address, size, BigInt.asUintN(8 * size, pattern));
          reads.push(driver.read(address, size).then((value) => [`${registerKey(page + at, size * 8)}=${hex(BigInt.asUintN(8 * size, pattern))}`, hex(value)]));
        }
        driver.write(address, size, before);
        driver.write(base + REG.GERRORN, 4, 0);
        driver.write(base + REG.GBPA, 4, 0x8000_1000);
      }
    }
  }
  driver.write(base + REG.CR0, 4, 0);
  return { ...Object.fromEntries(await Promise.all(reads)), ...(await readAll(driver, base)) };
}
