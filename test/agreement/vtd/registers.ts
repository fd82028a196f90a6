/** What registers show after reset and what of a write they keep. */
import { REG } from "../../../src/vtd/spec/index.js";
import type { Observation } from "../agreement.js";
import type { Driver } from "../driver.js";
import { UNIT } from "./machines.js";

/** Bytes that are compared: all that QEMU maps. */
export const REGISTERS_END = 0x230;
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** IVA, IOTLB and the fault recording registers, where QEMU has them. */
const FURTHER_WIDE = [0xf0, 0xf8, 0x220, 0x228];
/** Registers of 64 bits that both have; others are accessed by 32 bits alone (11.2), and QEMU 7.2 ends where they are not. */
const WIDE = new Set<number>([REG.CAP, REG.ECAP, REG.RTADDR, REG.CCMD, REG.IQH, REG.IQT, REG.IQA, REG.IRTA, ...FURTHER_WIDE]);

const sizesAt = (offset: number): ReadonlyArray<4 | 8> => (WIDE.has(offset) ? [4, 8] : [4]);

/** Every 32-bit and 64-bit place. */
export async function readAll(driver: Driver): Promise<Observation> {
  const reads: Array<Promise<[string, string]>> = [];
  for (let offset = 0; offset < REGISTERS_END; offset += 4) {
    for (const size of sizesAt(offset)) {
      reads.push(driver.read(UNIT + offset, size).then((value) => [`${hex(offset)}/${size * 8}`, hex(value)]));
    }
  }
  return Object.fromEntries(await Promise.all(reads));
}

/** Patterns whose stored bits tell every mask: all ones, then each half of the bits. */
const PATTERNS = [0xffff_ffff_ffff_ffffn, 0x5555_5555_5555_5555n, 0xaaaa_aaaa_aaaa_aaaan, 0n];

/** Global commands are the topic of the queues. */
const SKIPPED = new Set<number>([REG.GCMD]);

/** Writes each place, 32 and 64 bits wide, and reads it back; then what else has changed. Nothing is enabled. */
export async function writeAll(driver: Driver): Promise<Observation> {
  const reads: Array<Promise<[string, string]>> = [];
  for (let at = 0; at < REGISTERS_END; at += 4) {
    for (const size of sizesAt(at)) {
      if (SKIPPED.has(at)) {
        continue;
      }
      const before = await driver.read(UNIT + at, size);
      for (const pattern of PATTERNS) {
        const value = BigInt.asUintN(8 * size, pattern);
        driver.write(UNIT + at, size, value);
        reads.push(driver.read(UNIT + at, size).then((found) => [`${hex(at)}/${size * 8}=${hex(value)}`, hex(found)]));
      }
      driver.write(UNIT + at, size, before);
    }
  }
  return { ...Object.fromEntries(await Promise.all(reads)), ...(await readAll(driver)) };
}
