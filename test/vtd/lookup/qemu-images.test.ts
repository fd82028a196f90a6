import { describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory } from "../../../src/memory/index.js";
import { highWord, lowWord, toBigInt } from "../../../src/support/index.js";
import { ACCESS_READ, ACCESS_WRITE } from "../../../src/translation/index.js";
import { BYPASSED, featuresOf, NO_PASID, TRANSLATED, VtdTranslator } from "../../../src/vtd/lookup/index.js";

/**
 * The memory that QEMU's qtest programs write (tests/qtest/libqos/qos-intel-iommu.c and .h), quadword by quadword,
 * with the CAP and ECAP of the same configurations. Device 00:04.0; the IOVA lands at 0x10100567.
 */
const IOVA = 0x1020_0567n;
const SID = 4 << 3;
const CAP = 0x80d2008c222f0606n;

describe("QEMU's qtest images", () => {
  it.each([
    ["legacy-pt", CAP, 0xf00f4an],
    ["legacy-trans", CAP, 0xf00f4an],
    ["scalable-pt", CAP, 0x480080f00f4an],
    ["scalable-slt", CAP, 0x480080f00f4an],
    ["scalable-flt", 0x81d2008c222f0606n, 0x880000f00f4an],
  ])("%s", (mode, cap, ecap) => {
    const memory = new RamWordMemory();
    memory.place(0, new RamBlock("ram", 0x2000_0000, 0x7f00_0000_0000));
    const write = (address: number, value: bigint): void => {
      expect(memory.store64(highWord(address), lowWord(address), highWord(value), lowWord(value))).toBe(0);
    };
    const first = mode === "scalable-flt";
    const translates = !mode.endsWith("-pt");
    write(0x1000_0000, 0x1000_1001n);
    if (mode.startsWith("legacy")) {
      write(0x1000_1000 + SID * 16, mode === "legacy-pt" ? 0x9n : 0x1001_0001n);
      write(0x1000_1008 + SID * 16, 2n);
    } else {
      write(0x1000_1000 + SID * 32, 0x1003_0001n);
      write(0x1003_0000, 0x1003_1001n);
      const entry = { "scalable-pt": [0x101n, 0n, 0n], "scalable-slt": [0x1001_0089n, 0n, 0n], "scalable-flt": [0x41n, 0n, 0x1001_0000n] }[mode]!;
      entry.forEach((value, i) => write(0x1003_1000 + i * 8, value));
    }
    if (translates) {
      const [table, leaf] = first ? [0x27n, 0x67n] : [3n, 3n];
      write(0x1001_0000 + Number((IOVA >> 39n) & 0x1ffn) * 8, 0x1001_1000n | table);
      write(0x1001_1000 + Number((IOVA >> 30n) & 0x1ffn) * 8, 0x1001_2000n | table);
      write(0x1001_2000 + Number((IOVA >> 21n) & 0x1ffn) * 8, 0x1001_3000n | table);
      write(0x1001_3000 + Number((IOVA >> 12n) & 0x1ffn) * 8, 0x1010_0000n | leaf);
    }
    const t = new VtdTranslator(memory, featuresOf(cap, ecap, 48));
    const rtaddr = mode.startsWith("legacy") ? 0x1000_0000n : 0x1000_0400n;
    t.rootTable = Number(rtaddr & ~0xfffn);
    t.mode = Number((rtaddr >> 10n) & 3n);
    t.enabled = true;
    for (const access of [ACCESS_READ, ACCESS_WRITE, ACCESS_READ | ACCESS_WRITE]) {
      const code = t.translate(SID, NO_PASID, 0, Number(IOVA), access);
      expect([mode, code, t.reason]).toEqual([mode, translates ? TRANSLATED : BYPASSED, 0]);
      expect(toBigInt(t.outHigh, t.outLow)).toBe(translates ? 0x1010_0567n : IOVA);
      expect(t.outPermissions & access).toBe(access);
      expect(t.hasFault).toBe(false);
    }
  });
});
