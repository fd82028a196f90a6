import { describe, expect, it } from "vitest";
import { decodeSte, STE_ILLEGAL, SteView, type LookupFeatures } from "../../../src/smmuv3/lookup/index.js";
import { buildSte, type FieldValues, type STE } from "../../../src/smmuv3/spec/index.js";
import { FULL, stage2Fields, withIdr } from "./bench.js";

type Fields = FieldValues<typeof STE>;

const view = new SteView();
const decode = (fields: Fields, features: LookupFeatures = FULL): number =>
  decodeSte(buildSte(fields), features, view);

const S1: Fields = { V: 1, CONFIG: 5, S1CONTEXTPTR: 0x1000 };
const S2: Fields = { V: 1, CONFIG: 6, ...stage2Fields(0x8000) };
const NESTED: Fields = { ...S1, ...S2, CONFIG: 7 };

describe("classification of stream table entries", () => {
  it.each([
    [0, 0],
    [1, 0],
    [2, 0],
    [3, 0],
    [4, 4],
    [5, 5],
    [6, 6],
    [7, 7],
  ])("Config %i", (config, kind) => {
    expect(decode({ ...NESTED, CONFIG: config })).toBe(kind);
    expect(view.kind).toBe(kind);
    expect(view.stage2 !== undefined).toBe((kind & 6) === 6);
  });

  it("ignores everything of an entry that aborts or bypasses", () => {
    const rubbish = buildSte({ V: 1, CONFIG: 4 }).fill(-1, 1);
    expect(decodeSte(rubbish, withIdr(0, 3), view)).toBe(4);
    rubbish[0] = 1;
    expect(decodeSte(rubbish, FULL, view)).toBe(0);
    rubbish[0] = -2;
    expect(decodeSte(rubbish, FULL, view)).toBe(STE_ILLEGAL);
    expect(view.reason).toBe("STE.V is 0");
  });

  it("ignores the fields of a stage that is off", () => {
    expect(decode({ ...S1, S2TG: 3, S2T0SZ: 63, S2S: 1, S2HA: 1, S2TTB: 0xf_ffff_ffff_fff0n })).toBe(5);
    expect(decode({ ...S2, S1CDMAX: 31, S1FMT: 2, S1STALLD: 1, S1CONTEXTPTR: 0xf_ffff_ffff_ffc0n }, withIdr(0, 0x80000))).toBe(6);
  });

  const cases: Array<[string, Fields, LookupFeatures, string | number]> = [
    ["stage 1 not implemented", S1, withIdr(0, 2), "IDR0.S1P is 0"],
    ["nested, stage 1 not implemented", NESTED, withIdr(0, 2), "IDR0.S1P is 0"],
    ["stage 2 not implemented", S2, withIdr(0, 1), "IDR0.S2P is 0"],
    ["split ATS nested", { ...NESTED, EATS: 2 }, FULL, 7],
    ["split ATS on stage 1", { ...S1, EATS: 2 }, FULL, "split-stage ATS"],
    ["split ATS on stage 2", { ...S2, EATS: 2 }, FULL, "split-stage ATS"],
    ["split ATS with stalls", { ...NESTED, EATS: 2, S2S: 1 }, FULL, "S2S is set"],
    ["split ATS with NS1ATS", { ...NESTED, EATS: 2 }, withIdr(0, 0, 0x800), "split-stage ATS"],
    ["full ATS", { ...NESTED, EATS: 1 }, FULL, 7],
    ["full ATS, S2S ignored on stage 1", { ...S1, EATS: 1, S2S: 1 }, FULL, 5],
    ["EATS without ATS", { ...S1, EATS: 2 }, withIdr(0, 0x400), 5],
    ["EATS 3 without DPT", { ...S1, EATS: 3 }, FULL, 5],
    ["STRW", { ...S1, STRW: 2 }, FULL, 5],
    ["S1STALLD without stalls", { ...S1, S1STALLD: 1 }, FULL, "S1STALLD"],
    ["S1CDMax at SSIDSIZE", { ...S1, S1CDMAX: 20 }, FULL, 5],
    ["S1CDMax beyond SSIDSIZE", { ...S1, S1CDMAX: 21 }, FULL, "STE.S1CDMax is 21, IDR1.SSIDSIZE 20"],
    ["S1CDMax ignored without substreams", { ...S1, S1CDMAX: 21, S1FMT: 2 }, withIdr(1, 0x7c0), 5],
    ["two-level CDs, 4K", { ...S1, S1CDMAX: 8, S1FMT: 1 }, FULL, 5],
    ["two-level CDs not supported", { ...S1, S1CDMAX: 8, S1FMT: 1 }, withIdr(0, 0x80000), "IDR0.CD2L is 0"],
    ["two-level CDs not supported, 64K", { ...S1, S1CDMAX: 8, S1FMT: 2 }, withIdr(0, 0x80000), "IDR0.CD2L is 0"],
    ["S1Fmt 3 behaves as linear", { ...S1, S1CDMAX: 8, S1FMT: 3 }, withIdr(0, 0x80000), 5],
    ["S1Fmt ignored with one CD", { ...S1, S1FMT: 2 }, withIdr(0, 0x80000), 5],
    ["S1ContextPtr at the top", { ...S1, S1CONTEXTPTR: 0xffff_ffff_ffc0n }, FULL, 5],
    ["S1ContextPtr beyond the OAS", { ...S1, S1CONTEXTPTR: 0x1_0000_0000_0000n }, FULL, "S1ContextPtr is beyond 48 bits"],
    ["S1ContextPtr beyond a smaller OAS", { ...S1, S1CONTEXTPTR: 0x1000_0000_0000n }, withIdr(5, 7, 4), "S1ContextPtr is beyond 44 bits"],
    ["S2S without stalls", { ...S2, S2S: 1 }, FULL, "S2S is set"],
    ["VMSAv8-32", { ...S2, S2AA64: 0 }, FULL, "VMSAv8-32"],
    ["no VMSAv8-64", S2, withIdr(0, 0xc, 1 << 2), "no VMSAv8-64"],
    ["S2HA without HTTU", { ...S2, S2HA: 1 }, FULL, "IDR0.HTTU is 0"],
    ["S2HD without HTTU", { ...S2, S2HD: 1 }, FULL, "IDR0.HTTU is 0"],
    ["S2HD with access flag only", { ...S2, S2HA: 1, S2HD: 1 }, withIdr(0, 0, 0x40), "access flag only"],
    ["S2HA with HTTU", { ...S2, S2HA: 1 }, withIdr(0, 0, 0x40), 6],
    ["S2TG reserved", { ...S2, S2TG: 3 }, FULL, "S2TG"],
    ["S2TG 64K not supported", { ...S2, S2TG: 1 }, withIdr(5, 0x40), "S2TG"],
    ["S2TG 16K not supported", { ...S2, S2TG: 2 }, withIdr(5, 0x20), "S2TG"],
    ["S2TG 4K not supported", S2, withIdr(5, 0x10), "S2TG"],
    ["S2TG 16K", { ...S2, S2TG: 2, S2SL0: 2 }, FULL, 6],
    ["S2TG 64K", { ...S2, S2TG: 1, S2SL0: 2 }, FULL, 6],
    ["S2TTB beyond S2PS", { ...S2, S2PS: 0, S2TTB: 0x1_0000_0000n }, FULL, "S2TTB is beyond 32 bits"],
    ["S2TTB beyond the OAS", { ...S2, S2TTB: 0x1000_0000_0000n, S2T0SZ: 20 }, withIdr(5, 7, 4), "S2TTB is beyond 44 bits"],
    ["S2T0SZ too small", { ...S2, S2T0SZ: 15 }, FULL, "S2T0SZ is 15"],
    ["S2T0SZ beyond the IAS", { ...S2, S2T0SZ: 19 }, withIdr(5, 7, 4), "S2T0SZ is 19"],
    ["S2T0SZ 39", { ...S2, S2T0SZ: 39, S2SL0: 0 }, FULL, 6],
    ["S2T0SZ too large", { ...S2, S2T0SZ: 40, S2SL0: 0 }, FULL, "S2T0SZ is 40"],
    ["S2SL0 reserved", { ...S2, S2SL0: 3 }, FULL, "S2SL0 does not fit"],
    ["S2SL0 too low", { ...S2, S2SL0: 0 }, FULL, "S2SL0 does not fit"],
    ["S2SL0 too high", { ...S2, S2T0SZ: 30, S2SL0: 2 }, FULL, "S2SL0 does not fit"],
    ["16 concatenated tables", { ...S2, S2T0SZ: 21, S2SL0: 1 }, FULL, 6],
    ["32 concatenated tables", { ...S2, S2T0SZ: 20, S2SL0: 1 }, FULL, "S2SL0 does not fit"],
    ["level 0 needs 44 bits", { ...S2, S2T0SZ: 24, S2SL0: 2 }, withIdr(5, 7, 2), "S2SL0 does not fit"],
    ["big-endian", { ...S2, S2ENDI: 1 }, FULL, "S2ENDI"],
    ["VMID of 16 bits", { ...S2, S2VMID: 0x100 }, FULL, 6],
    ["VMID beyond 8 bits", { ...S2, S2VMID: 0x100 }, withIdr(0, 0x40000), "STE.S2VMID is 256"],
    ["VMID beyond 8 bits on stage 1", { ...S1, S2VMID: 0x100 }, withIdr(0, 0x40000), "STE.S2VMID is 256"],
    ["VMID ignored without stage 2", { ...S1, S2VMID: 0x100 }, withIdr(0, 0x40001), 5],
  ];
  it.each(cases)("%s", (_name, fields, features, expected) => {
    const kind = decode(fields, features);
    if (typeof expected === "number") {
      expect([kind, view.reason]).toEqual([expected, ""]);
    } else {
      expect(kind).toBe(STE_ILLEGAL);
      expect(view.reason).toContain(expected);
      expect(view.stage2).toBeUndefined();
    }
  });

  it("decodes what a legal entry says", () => {
    decode({ ...NESTED, S1CDMAX: 12, S1FMT: 2, S1DSS: 2, EATS: 2, S2VMID: 0xbeef, PRIVCFG: 3, INSTCFG: 2, S2PTW: 1 });
    expect(view).toMatchObject({
      cdBits: 12,
      cdSplit: 10,
      contextPointer: 0x1000,
      defaultSubstream: 2,
      eats: 2,
      vmid: 0xbeef,
      privileged: 3,
      instruction: 2,
      stage2Records: true,
    });
    expect(view.stage2).toMatchObject({
      granuleBits: 12,
      inputBits: 48,
      startLevel: 0,
      baseLow: 0x8000,
      baseHigh: 0,
      outputBits: 48,
      accessFlagFaultsDisabled: false,
      protectedTableWalk: true,
      executeNeverPerPrivilege: false,
    });
  });

  it("caps the output size by the OAS and knows concatenated tables and XNX", () => {
    decode({ ...S2, S2T0SZ: 24, S2SL0: 1, S2PS: 6, S2AFFD: 1, S2TTB: 0x8_0000_8000n }, withIdr(3, 0, 0x10));
    expect(view.stage2).toMatchObject({ inputBits: 40, startLevel: 1, outputBits: 48, baseHigh: 8, baseLow: 0x8000, accessFlagFaultsDisabled: true, executeNeverPerPrivilege: true });
    decode(S2, withIdr(5, 7, 4));
    expect(view.kind).toBe(STE_ILLEGAL);
    decode({ ...S2, S2T0SZ: 20 }, withIdr(5, 7, 4));
    expect(view.stage2).toMatchObject({ outputBits: 44 });
  });

  it("has no overrides without IDR1.ATTR_PERMS_OVR, and takes the reserved 1 as incoming", () => {
    decode({ ...S1, PRIVCFG: 3, INSTCFG: 3 }, withIdr(1, 1 << 26));
    expect([view.privileged, view.instruction]).toEqual([0, 0]);
    decode({ ...S1, PRIVCFG: 1, INSTCFG: 1 });
    expect([view.privileged, view.instruction]).toEqual([0, 0]);
  });

  it("leaves nothing of an earlier entry behind", () => {
    decode({ ...NESTED, S1CDMAX: 12, S1FMT: 2, S1DSS: 2, EATS: 2, S2VMID: 5, PRIVCFG: 3, INSTCFG: 2, S2S: 0 });
    decode({ V: 1, CONFIG: 4 });
    expect(view).toEqual(Object.assign(new SteView(), { kind: 4 }));
  });
});
