import { describe, expect, it } from "vitest";
import { buildCd, buildSte, type STE } from "../../src/smmuv3/spec/index.js";
import type { FieldValues } from "../../src/smmuv3/spec/index.js";
import { cdKind, planUpdate, steKind, toQwords } from "../../src/guest/index.js";

const ste = (values: FieldValues<typeof STE>): bigint[] => toQwords(buildSte(values));
const abort = ste({ V: 1, CONFIG: 0 });
const bypass = ste({ V: 1, CONFIG: 4, SHCFG: 1 });
const table = (dss: number, pointer = 0xdead_bee0_0000, ats = 1): bigint[] =>
  ste({ V: 1, CONFIG: 5, S1FMT: 2, S1CONTEXTPTR: pointer, S1CDMAX: 16, S1DSS: dss, S1CIR: 1, S1COR: 1, S1CSH: 3, S1STALLD: 1, EATS: ats, STRW: 0, SHCFG: dss === 1 ? 1 : 0 });
const stage2 = ste({ V: 1, CONFIG: 6, EATS: 1, SHCFG: 1, S2T0SZ: 20, S2SL0: 2, S2IR0: 1, S2OR0: 1, S2SH0: 3, S2TG: 0, S2PS: 4, S2AA64: 1, S2PTW: 1, S2R: 1, S2TTB: 0xbeef_0000 });

/** The entry that hardware may see after each step. */
function seen(kind: typeof steKind, from: bigint[], to: bigint[]): bigint[][] {
  const entry = [...from];
  return planUpdate(kind, from, to).map((step) => {
    step.forEach(({ index, value }) => (entry[index] = value));
    return [...entry];
  });
}

describe("changes of a stream table entry", () => {
  // The numbers of CMD_SYNCs are those of Linux's KUnit tests of the same transitions (arm-smmu-v3-test.c).
  it.each([
    ["bypass to abort", bypass, abort, 2],
    ["abort to bypass", abort, bypass, 2],
    ["context table to abort", table(2), abort, 2],
    ["abort to context table", abort, table(2), 2],
    ["context table to bypass", table(2), bypass, 3],
    ["bypass to context table", bypass, table(2), 3],
    ["another S1DSS", table(2), table(1), 1],
    ["context table with bypass to bypass", table(1), bypass, 2],
    ["bypass to context table with bypass", bypass, table(1), 2],
    ["stage 2 to abort", stage2, abort, 2],
    ["abort to stage 2", abort, stage2, 2],
    ["stage 2 to bypass", stage2, bypass, 2],
    ["bypass to stage 2", bypass, stage2, 2],
    ["context table to stage 2", table(2), stage2, 3],
    ["stage 2 to context table", stage2, table(2), 3],
  ])("%s keeps V set", (_what, from, to, syncs) => {
    const states = seen(steKind, from, to);
    expect(states).toHaveLength(syncs);
    expect(states.at(-1)).toEqual(to);
    expect(states.every((state) => (state[0] & 1n) === 1n)).toBe(true);
  });

  it("goes through V = 0 where two words that are in use change", () => {
    const from = table(2);
    const to = table(0, 0x1234_0000);
    const states = seen(steKind, from, to);
    expect(states.map((state) => state[0] & 1n)).toEqual([0n, 0n, 1n]);
    expect(states.at(-1)).toEqual(to);
  });

  it("turns EATS alone on in one step, although it is in use", () => {
    expect(seen(steKind, table(2, 0x1000, 0), table(2, 0x1000, 1))).toEqual([table(2, 0x1000, 1)]);
  });

  it("writes nothing where nothing changes", () => {
    expect(planUpdate(steKind, bypass, bypass)).toEqual([]);
  });
});

describe("changes of a context descriptor", () => {
  const cd = (asid: number): bigint[] => toQwords(buildCd({ V: 1, T0SZ: 16, EPD1: 1, AA64: 1, ASID: asid, TTB0: 0x4000_0000, MAIR0: 0xff44 }));
  const empty = new Array<bigint>(8).fill(0n);

  it("is hitless from nothing, to nothing, and for another ASID", () => {
    expect(seen(cdKind, empty, cd(1)).map((state) => (state[0] >> 31n) & 1n)).toEqual([0n, 1n]);
    expect(seen(cdKind, cd(1), empty).map((state) => (state[0] >> 31n) & 1n)).toEqual([0n, 0n]);
    expect(seen(cdKind, cd(1), cd(2))).toEqual([cd(2)]);
  });

  it("ignores TTB0 while EPD0 is set", () => {
    const blocked = toQwords(buildCd({ V: 1, EPD0: 1, EPD1: 1, AA64: 1, ASID: 1, MAIR0: 0xff44 }));
    expect(seen(cdKind, cd(1), blocked)).toHaveLength(2);
  });
});
