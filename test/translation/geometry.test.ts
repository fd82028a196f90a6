import { describe, expect, it } from "vitest";
import { highWord, lowWord } from "../../src/support/index.js";
import { levelShift, selectStage1Range, stage1StartLevel, stage2StartLevel } from "../../src/translation/index.js";

describe("the shape of tables", () => {
  it("has the level shifts of DDI 0487 D8.2", () => {
    expect([3, 2, 1, 0].map((level) => levelShift(12, level))).toEqual([12, 21, 30, 39]);
    expect([3, 2, 1, 0].map((level) => levelShift(14, level))).toEqual([14, 25, 36, 47]);
    expect([3, 2, 1].map((level) => levelShift(16, level))).toEqual([16, 29, 42]);
  });

  it("starts stage 1 at the level that resolves its input bits (TnSZ tables of D8.2.6 to D8.2.8)", () => {
    const rows: Array<[12 | 14 | 16, number, number]> = [
      [12, 48, 0], [12, 40, 0], [12, 39, 1], [12, 31, 1], [12, 30, 2], [12, 25, 2],
      [14, 48, 0], [14, 47, 1], [14, 37, 1], [14, 36, 2], [14, 26, 2], [14, 25, 3],
      [16, 48, 1], [16, 43, 1], [16, 42, 2], [16, 30, 2], [16, 29, 3], [16, 25, 3],
    ];
    for (const [granule, bits, level] of rows) {
      expect(stage1StartLevel(granule, bits), `${granule} ${bits}`).toBe(level);
    }
  });

  it("starts stage 2 where S2SL0 says, where that is valid", () => {
    const rows: Array<[12 | 14 | 16, number, number, number, number]> = [
      // granule, SL0, input bits, physical bits, level
      [12, 2, 48, 48, 0], [12, 2, 44, 44, 0], [12, 2, 48, 42, -1], [12, 1, 40, 40, 1], [12, 1, 43, 44, 1],
      [12, 1, 44, 44, -1], [12, 1, 30, 40, -1], [12, 0, 34, 36, 2], [12, 0, 35, 36, -1], [12, 0, 22, 32, 2],
      [12, 3, 48, 48, -1],
      [14, 2, 48, 48, 1], [14, 2, 40, 40, -1], [14, 1, 40, 40, 2], [14, 1, 41, 44, -1], [14, 0, 29, 36, 3],
      [14, 3, 48, 48, -1],
      [16, 2, 48, 48, 1], [16, 2, 44, 42, -1], [16, 1, 42, 42, 2], [16, 1, 46, 48, 2], [16, 1, 47, 48, -1],
      [16, 0, 33, 40, 3], [16, 3, 48, 48, -1],
    ];
    for (const [granule, sl0, input, physical, level] of rows) {
      expect(stage2StartLevel(granule, sl0, input, physical), `${granule} ${sl0} ${input} ${physical}`).toBe(level);
    }
  });

  it("chooses between TTB0 and TTB1 by bit 55, and refuses what lies between", () => {
    const select = (address: bigint, t0sz = 16, t1sz = 16, tbi0 = false, tbi1 = false): number =>
      selectStage1Range(highWord(address), lowWord(address), t0sz, t1sz, tbi0, tbi1);
    expect(select(0n)).toBe(0);
    expect(select(0x0000_ffff_ffff_ffffn)).toBe(0);
    expect(select(0x0001_0000_0000_0000n)).toBe(-1);
    expect(select(0xffff_0000_0000_0000n)).toBe(1);
    expect(select(0xffff_ffff_ffff_ffffn)).toBe(1);
    expect(select(0xfffe_ffff_ffff_ffffn)).toBe(-1);
    // Different sizes of the halves.
    expect(select(0x0000_0080_0000_0000n, 25, 16)).toBe(-1);
    expect(select(0x0000_007f_ffff_ffffn, 25, 16)).toBe(0);
    expect(select(0xffff_ff80_0000_0000n, 16, 25)).toBe(1);
    expect(select(0xffff_ff7f_ffff_ffffn, 16, 25)).toBe(-1);
    // Ranges below 4 GiB, and of exactly that.
    expect(select(0x01ff_ffffn, 39)).toBe(0);
    expect(select(0x0200_0000n, 39)).toBe(-1);
    expect(select(0xffff_ffff_fe00_0000n, 16, 39)).toBe(1);
    expect(select(0xffff_ffff_fdff_ffffn, 16, 39)).toBe(-1);
    expect(select(0xffff_ffffn, 32)).toBe(0);
    expect(select(0x1_0000_0000n, 32)).toBe(-1);
    // The top byte counts unless it is ignored.
    expect(select(0x5a00_0000_0000_1000n)).toBe(-1);
    expect(select(0x5a00_0000_0000_1000n, 16, 16, true, false)).toBe(0);
    expect(select(0x5aff_0000_0000_1000n, 16, 16, true, false)).toBe(-1);
    expect(select(0x5aff_0000_0000_1000n, 16, 16, false, true)).toBe(1);
    expect(select(0x5a7f_0000_0000_1000n, 16, 16, true, true)).toBe(-1);
  });
});
