import { describe, expect, it } from "vitest";
import { CD_ILLEGAL, CD_OK, CdView, decodeCd, type LookupFeatures } from "../../../src/smmuv3/lookup/index.js";
import { buildCd, type CD, type FieldValues } from "../../../src/smmuv3/spec/index.js";
import { cdFields, FULL, withIdr } from "./bench.js";

type Fields = FieldValues<typeof CD>;

const view = new CdView();
function decode(fields: Fields, features: LookupFeatures = FULL): number {
  return decodeCd(buildCd(fields), features, view);
}

const GOOD = cdFields(0x8000);
const BOTH: Fields = { ...GOOD, EPD1: 0, T1SZ: 25, TG1: 2, TTB1: 0x9000 };

describe("legality of context descriptors", () => {
  const cases: Array<[string, Fields, LookupFeatures, string]> = [
    ["legal", GOOD, FULL, ""],
    ["legal, both ranges", BOTH, FULL, ""],
    ["V", { ...GOOD, V: 0 }, FULL, "CD.V is 0"],
    ["S", { ...GOOD, S: 1 }, FULL, "CD.S is set"],
    ["A = 0", { ...GOOD, A: 0 }, FULL, ""],
    ["A = 0 with TERM_MODEL", { ...GOOD, A: 0 }, withIdr(0, 0, 1 << 26), "TERM_MODEL"],
    ["ENDI", { ...GOOD, ENDI: 1 }, FULL, "ENDI"],
    ["ENDI ignored without walks", { ...GOOD, ENDI: 1, EPD0: 1 }, FULL, ""],
    ["AA64", { ...GOOD, AA64: 0 }, FULL, "VMSAv8-32"],
    ["no VMSAv8-64", GOOD, withIdr(0, 0xc, 1 << 2), "no VMSAv8-64"],
    ["HA", { ...GOOD, HA: 1 }, FULL, "HTTU is 0"],
    ["HD", { ...GOOD, HD: 1 }, FULL, "HTTU is 0"],
    ["HA with HTTU", { ...GOOD, HA: 1 }, withIdr(0, 0, 0x40), ""],
    ["HD with access flag only", { ...GOOD, HA: 1, HD: 1 }, withIdr(0, 0, 0x40), "access flag only"],
    ["ASID of 16 bits", { ...GOOD, ASID: 0x100 }, FULL, ""],
    ["ASID beyond 8 bits", { ...GOOD, ASID: 0x100 }, withIdr(0, 0x1000), "CD.ASID is 256"],
    ["TG0 reserved", { ...GOOD, TG0: 3 }, FULL, "TG0"],
    ["TG0 16K", { ...GOOD, TG0: 2 }, FULL, ""],
    ["TG0 16K not supported", { ...GOOD, TG0: 2 }, withIdr(5, 0x20), "TG0"],
    ["TG0 64K not supported", { ...GOOD, TG0: 1 }, withIdr(5, 0x40), "TG0"],
    ["TG0 ignored with EPD0", { ...BOTH, EPD0: 1, TG0: 3, T0SZ: 0, TTB0: 0xff_ffff_ffff_fff0n }, FULL, ""],
    ["TG1 reserved", { ...BOTH, TG1: 0 }, FULL, "TG1"],
    ["TG1 64K not supported", { ...BOTH, TG1: 3 }, withIdr(5, 0x40), "TG1"],
    ["TG1 ignored with EPD1", { ...GOOD, TG1: 0, T1SZ: 0, TTB1: 0xff_ffff_ffff_fff0n }, FULL, ""],
    ["T0SZ 15", { ...GOOD, T0SZ: 15 }, FULL, "T0SZ is 15"],
    ["T0SZ 39", { ...GOOD, T0SZ: 39 }, FULL, ""],
    ["T0SZ 40", { ...GOOD, T0SZ: 40 }, FULL, "T0SZ is 40"],
    ["T0SZ 48 with small tables", { ...GOOD, T0SZ: 48 }, withIdr(3, 0, 0x200), ""],
    ["T0SZ 49 with small tables", { ...GOOD, T0SZ: 49 }, withIdr(3, 0, 0x200), "T0SZ is 49"],
    ["T0SZ 48 with small tables of 64K", { ...GOOD, TG0: 1, T0SZ: 48 }, withIdr(3, 0, 0x200), "T0SZ is 48"],
    ["T1SZ 15", { ...BOTH, T1SZ: 15 }, FULL, "T1SZ is 15"],
    ["T1SZ 40", { ...BOTH, T1SZ: 40 }, FULL, "T1SZ is 40"],
    ["TTB0 beyond IPS", { ...GOOD, IPS: 1, TTB0: 0x10_0000_0000n }, FULL, "TTB0 is beyond 36 bits"],
    ["TTB0 beyond the OAS", { ...GOOD, TTB0: 0x1000_0000_0000n }, withIdr(5, 7, 4), "TTB0 is beyond 44 bits"],
    ["TTB0 beyond 48 bits with 4K", { ...GOOD, IPS: 6, TTB0: 0x1_0000_0000_0000n }, withIdr(5, 7, 6), "TTB0 is beyond 48 bits"],
    ["TTB1 beyond IPS", { ...BOTH, IPS: 0, TTB1: 0x1_0000_0000n }, FULL, "TTB1 is beyond 32 bits"],
  ];
  it.each(cases)("%s", (_name, fields, features, expected) => {
    const code = decode(fields, features);
    expect(code).toBe(expected === "" ? CD_OK : CD_ILLEGAL);
    expect(view.code).toBe(code);
    expect(view.reason).toContain(expected);
    if (expected !== "") {
      expect([view.lower, view.upper]).toEqual([undefined, undefined]);
    }
  });

  it("decodes both ranges with their own granules", () => {
    decode({ ...BOTH, T0SZ: 16, TG0: 1, T1SZ: 25, TG1: 1, HAD0: 1, TBI0: 1, IPS: 4, TTB1: 0xa_0000_9000n }, withIdr(3, 0, 4));
    expect(view.lower).toMatchObject({ granuleBits: 16, inputBits: 48, startLevel: 1, hierarchicalDisabled: true, outputBits: 44, baseLow: 0x8000 });
    expect(view.upper).toMatchObject({ granuleBits: 14, inputBits: 39, startLevel: 1, hierarchicalDisabled: false, baseHigh: 0xa, baseLow: 0x9000 });
    expect(view).toMatchObject({ tbi0: true, tbi1: false, asid: 1, aborts: true, records: true });
  });

  it("decodes the attributes of the walk", () => {
    decode({ ...GOOD, AFFD: 1, WXN: 1, UWXN: 1, PAN: 1 });
    expect(view.lower).toMatchObject({ accessFlagFaultsDisabled: true, writeImpliesNoExecute: true, privilegedAccessNever: true });
    decode({ ...GOOD, HAD0: 1 }, withIdr(3, 4));
    expect(view.lower!.hierarchicalDisabled).toBe(false);
    decode({ ...GOOD, E0PD0: 1 });
    expect(view.e0pd0).toBe(false);
    decode({ ...GOOD, E0PD0: 1 }, withIdr(3, 0, 0x2000));
    expect(view.e0pd0).toBe(true);
  });
});
