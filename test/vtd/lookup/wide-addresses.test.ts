import { describe, expect, it } from "vitest";
import { TRANSLATED } from "../../../src/vtd/lookup/index.js";
import { Bench, firstStage, FS_RW, RID } from "./bench.js";

const SCE = 1n | 4n | 8n;

describe("the IOTLB with five levels", () => {
  it("tells apart addresses of 57 bits, and puts out 46", () => {
    const b = new Bench();
    const directory = b.page();
    const root = b.page();
    const high = [0x0080_0000_0000_0000n, 0x00ab_cdef_1234_5000n, 0xff80_0000_0000_0000n, 0xffff_ffff_ffff_f000n, 0x1000n];
    const outputs = high.map((_address, i) => 0x3000_0000_0000n + BigInt(i) * 0x1000n);
    high.forEach((address, i) => b.map(root, address & 0x1ff_ffff_ffff_f000n, outputs[i], FS_RW, FS_RW, 5));
    b.pasid(directory, 0, ...firstStage(root, 1n, 4n));
    b.scalable(RID, BigInt(directory) | SCE);
    for (let round = 0; round < 2; round++) {
      high.forEach((address, i) => {
        expect(b.translate(RID, address | 0x123n)).toBe(TRANSLATED);
        expect(b.out).toBe(outputs[i] | 0x123n);
      });
    }
    expect(b.translator.walks).toBe(high.length);
  });
});
