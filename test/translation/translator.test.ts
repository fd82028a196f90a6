import { describe, expect, it } from "vitest";
import { RamBlock, RamWordMemory } from "../../src/memory/index.js";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  NO_ASID,
  PageWalker,
  Tlb,
  Translator,
  WALK_OK,
  WALK_PERMISSION_FAULT,
  WALK_TRANSLATION_FAULT,
  type StageTables,
} from "../../src/translation/index.js";

const BASE = 0x4000_0000;

/** One level of 4-KiB pages for the first 2 MiB, at BASE + offset. */
function table(offset: number): StageTables {
  return {
    granuleBits: 12,
    inputBits: 30,
    startLevel: 2,
    baseHigh: 0,
    baseLow: BASE + offset,
    outputBits: 48,
    accessFlagFaultsDisabled: false,
    hierarchicalDisabled: false,
    writeImpliesNoExecute: false,
  };
}

function setUp() {
  const memory = new RamWordMemory();
  memory.place(BASE, new RamBlock("ram", 1 << 20, 0));
  const put = (address: number, descriptor: number): void => {
    memory.store64(0, address, 0, descriptor);
  };
  put(BASE, (BASE + 0x1000) | 3);
  put(BASE + 0x2000, (BASE + 0x3000) | 3);
  const map1 = (iova: number, out: number, bits = 0xc40): void => put(BASE + 0x1000 + (iova >> 12) * 8, out === 0 ? 0 : out | bits | 3);
  const map2 = (ipa: number, out: number, bits = 0x4c0): void => put(BASE + 0x3000 + (ipa >> 12) * 8, out === 0 ? 0 : out | bits | 3);
  const translator = new Translator(new PageWalker(memory), new Tlb(64));
  return { map1, map2, translator, stage1: table(0), stage2: table(0x2000) };
}

describe("Translator", () => {
  it("keeps answering from the TLB after the tables changed, until they are invalidated", () => {
    const { map1, translator, stage1 } = setUp();
    map1(0x5000, 0x9000);
    const translate = (asid = 1): number => translator.translate(0, asid, stage1, undefined, 0, 0x5123, ACCESS_READ);
    expect(translate()).toBe(WALK_OK);
    expect(translator.outLow).toBe(0x9123);
    map1(0x5000, 0xa000);
    expect(translate()).toBe(WALK_OK);
    expect(translator).toMatchObject({ outHigh: 0, outLow: 0x9123, outPageBits: 12 });
    // Another ASID walks, and that does not help the first one.
    map1(0x5000, 0xa000, 0xc40);
    expect(translate(2)).toBe(WALK_OK);
    expect(translator.outLow).toBe(0xa123);
    expect(translate()).toBe(WALK_OK);
    expect(translator.outLow).toBe(0x9123);
    map1(0x5000, 0);
    expect(translate()).toBe(WALK_OK);
    translator.tlb.invalidateAsid(0, 2);
    translator.tlb.invalidateAddress(0, 1, 0, 0x5fff);
    expect(translate()).toBe(WALK_TRANSLATION_FAULT);
    expect(translate(2)).toBe(WALK_TRANSLATION_FAULT);
  });

  it("does not cache faults", () => {
    const { map1, translator, stage1 } = setUp();
    expect(translator.translate(0, 1, stage1, undefined, 0, 0x5123, ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    map1(0x5000, 0x9000);
    expect(translator.translate(0, 1, stage1, undefined, 0, 0x5123, ACCESS_READ)).toBe(WALK_OK);
  });

  it("lets a walk tell the stage that forbids an access, and takes permissions granted since", () => {
    const { map1, map2, translator, stage1, stage2 } = setUp();
    map1(0x5000, 0x6000, 0xc40);
    // The stage-1 tables are at IPAs that stage 2 does not map.
    const write = (): number => translator.translate(3, 1, stage1, stage2, 0, 0x5010, ACCESS_WRITE);
    expect(write()).toBe(WALK_TRANSLATION_FAULT);
    expect(translator.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 1 });
    expect(translator.translate(3, 0, undefined, stage2, 0, 0x6010, ACCESS_READ)).toBe(WALK_TRANSLATION_FAULT);
    map2(0x6000, 0xb000, 0x440);
    expect(translator.translate(3, 0, undefined, stage2, 0, 0x6010, ACCESS_READ)).toBe(WALK_OK);
    expect(translator.translate(3, 0, undefined, stage2, 0, 0x6010, ACCESS_WRITE)).toBe(WALK_PERMISSION_FAULT);
    expect(translator.walker).toMatchObject({ faultStage: 2, faultOnTableWalk: 0, faultLow: 0x6010 });
    map2(0x6000, 0xb000, 0x4c0);
    expect(translator.translate(3, 0, undefined, stage2, 0, 0x6010, ACCESS_WRITE)).toBe(WALK_OK);
    expect(translator.outLow).toBe(0xb010);
  });

  it("keeps stage 2 alone apart from stage 1, and counts walks", () => {
    const { map1, map2, translator, stage1, stage2 } = setUp();
    map1(0x5000, 0x9000, 0x440);
    map2(0x5000, 0xc000);
    expect(translator.translate(3, 1, stage1, undefined, 0, 0x5000, ACCESS_READ)).toBe(WALK_OK);
    expect(translator.outLow).toBe(0x9000);
    expect(translator.translate(3, 1, undefined, stage2, 0, 0x5000, ACCESS_READ)).toBe(WALK_OK);
    expect(translator.outLow).toBe(0xc000);
    translator.tlb.invalidateVmidStage1(3);
    map2(0x5000, 0xd000);
    expect(translator.translate(3, 7, undefined, stage2, 0, 0x5000, ACCESS_READ)).toBe(WALK_OK);
    expect(translator.outLow).toBe(0xc000);
    expect(translator.walks).toBe(2);
    expect(translator.tlb.contextOf(3, NO_ASID)).toBeGreaterThan(0);
  });
});
