import { describe, expect, it } from "vitest";
import { featuresOf, TRANSLATED } from "../../../src/smmuv3/lookup/index.js";
import { ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { Bench } from "./bench.js";

/**
 * The memory that QEMU's qtest programs write (tests/qtest/libqos/qos-smmuv3.c and .h), word by word, with
 * the identification registers of the same QEMU. What they expect: the IOVA lands at 0x4ecba567.
 */
const IOVA = 0x80_8060_4567n;
const STRTAB = 0x4e17_9000;
const SID = 1;

function bench(config: number, idr0: number, idr3: number): Bench {
  const bench = new Bench(featuresOf([idr0, 0x02730010, 0, idr3, 0, 0x74]));
  bench.translator.table.base = STRTAB;
  bench.translator.table.log2Size = 5;
  const ste = STRTAB + SID * 64;
  bench.write64(ste, 0x4e17_8fc0n | BigInt((config << 1) | 1));
  bench.write64(ste + 0x10, 0x000d_0094_0000_0000n);
  bench.write64(ste + 0x18, 0x4e4d_0000n);
  if (config !== 6) {
    bench.write64(0x4e17_8fc0, 0x1e20_6204_c000_0010n);
    bench.write64(0x4e17_8fc8, 0x4e4d_0001n);
    bench.write64(0x4e17_8fd0, 1n);
  }
  const leaf = config === 6 ? 0x0400_0000_0000_07e3n : 0x0400_0000_0000_0763n;
  const next = 0x8000_0000_0000_0003n;
  const tables = [0x4e4d_0000, 0x4e4d_1000, 0x4e4d_2000, 0x4e4d_3000];
  const values = [0x4e4d_1000n | next, 0x4e4d_2000n | next, 0x4e4d_3000n | next];
  const index = (address: bigint, level: number): number => Number((address >> BigInt(39 - 9 * level)) & 0x1ffn);
  const stage2 = (ipa: bigint, attributes: bigint): void => {
    for (let level = 0; level < 3; level++) {
      bench.write64(tables[level] + index(ipa, level) * 8, values[level]);
    }
    bench.write64(tables[3] + index(ipa, 3) * 8, (ipa & 0xffff_ffff_f000n) | attributes);
  };
  const stage1 = (level: number, value: bigint): void => {
    const slot = tables[level] + index(IOVA, level) * 8;
    stage2(BigInt(slot), 0x0400_0000_0000_0763n);
    bench.write64(slot, value);
  };
  for (let level = 0; level < 3; level++) {
    stage1(level, values[level]);
  }
  stage1(3, 0x4ecb_a000n | leaf);
  stage2(0x4ecb_a000n, 0x0400_0000_0000_07e3n);
  if (config === 7) {
    stage2(0x4e17_8fc0n, 0x0400_0000_0000_0763n);
  }
  return bench;
}

describe("QEMU's qtest images", () => {
  it.each([
    ["stage 1", 5, 0x0d44101a, 0x1404],
    ["stage 2", 6, 0x0d441019, 0x1414],
    ["nested", 7, 0x0d44101b, 0x1414],
  ])("%s", (_name, config, idr0, idr3) => {
    const b = bench(config, idr0, idr3);
    expect(b.translate(SID, IOVA, ACCESS_READ)).toBe(TRANSLATED);
    expect(b.out).toBe(0x4ecb_a567n);
    expect(b.translate(SID, IOVA, ACCESS_WRITE)).toBe(TRANSLATED);
    expect(b.out).toBe(0x4ecb_a567n);
    expect(b.event).toBeUndefined();
  });
});
