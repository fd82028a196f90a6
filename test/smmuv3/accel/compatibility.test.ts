import { describe, expect, test } from "vitest";
import { HwInfoType } from "../../../src/iommufd/index.js";
import { checkHostServes, DEFAULT_PROPERTIES, featuresOfHost, hostIdRegisters, idRegisters } from "../../../src/smmuv3/index.js";
import { Refusal } from "../../../src/support/index.js";
import { A, AUTO, Board, EXPLICIT, HOST_IDS, SMMU0, type SmmuInput } from "./rig.js";

const NAMES = { smmu: "arm-smmuv3 'smmu0'", device: "vfio-pci 'gpu0' (host 0009:01:00.0)", hostIommu: "smmu3.0x16600000" };

function words(act: () => unknown): { words: string; found: string; wouldWork: string } {
  try {
    act();
  } catch (error) {
    if (error instanceof Refusal) {
      return { words: error.words, found: error.found ?? "", wouldWork: error.wouldWork ?? "" };
    }
    throw error;
  }
  return { words: "fits", found: "", wouldWork: "" };
}

const { idr0, idr1, idr3, idr5 } = HOST_IDS;
const SSID20 = { ...EXPLICIT, ssidsize: 20 };

/** ID registers of a host (Arm IHI 0070, 6.3.1 to 6.3.6) and the words of its refusal (upstream's). */
const misfits: Array<{ host: Partial<SmmuInput>; properties?: typeof EXPLICIT; fn?: object; words: string }> = [
  { host: { idr0: idr0 & ~(3 << 27) }, words: "Host SMMUv3 Stream Table format mismatch (host STLEVEL=0, QEMU STLEVEL=1)" },
  { host: { idr0: idr0 | (3 << 21) }, words: "Host SMMUv3 doesn't support Little-endian translation table" },
  { host: { idr1: (idr1 & ~0x3f) | 15 }, words: "Host SMMUv3 SIDSIZE not compatible (host=15, QEMU=16)" },
  { host: { idr1: (idr1 & ~0x7c0) | (8 << 6) }, properties: SSID20, fn: { pasidBits: 8 }, words: "Host SMMUv3 SSIDSIZE not compatible (host=8, QEMU=20)" },
  { host: { idr3: idr3 & ~(1 << 10) }, words: "Host SMMUv3 doesn't support Range Invalidation" },
  { host: { idr0: idr0 & ~(1 << 10) }, fn: { ats: false }, words: "Host SMMUv3 doesn't support Address Translation Services" },
  { host: { idr5: (idr5 & ~7) | 4 }, words: "Host SMMUv3 supports only 44-bit IPA, but the vSMMU OAS implies 48-bit IPA" },
  { host: { idr5: (idr5 & ~7) | 3 }, properties: { ...EXPLICIT, oas: 44 }, words: "Host SMMUv3 supports only 42-bit IPA, but the vSMMU OAS implies 44-bit IPA" },
  { host: { idr5: idr5 & ~(1 << 5) }, words: "Host SMMUv3 doesn't support 16K translation granule" },
  { host: { idr5: idr5 & ~(1 << 6) }, words: "Host SMMUv3 doesn't support 64K translation granule" },
  { host: { idr0: idr0 & ~(1 << 12) }, words: "Host SMMUv3 supports only 8-bit ASIDs" },
];

describe("a host that does not fit", () => {
  test.each(misfits)("$words", ({ host, properties, fn, words: expected }) => {
    const board = new Board({ smmu: host, fn, properties: [properties ?? EXPLICIT] });
    const { words: said, found, wouldWork } = words(() => board.plug(A));
    expect(said).toBe(`vfio ${A}: Failed to set vIOMMU: ${expected}`);
    for (const name of [SMMU0, "vfio-pci 'dev0'", "arm-smmuv3 'smmu0'"]) {
      expect(found).toContain(name);
    }
    expect(wouldWork).not.toBe("");
    expect(board.live()).toEqual({});
    expect(board.probe(A)).toBe("abort");
    expect(board.log.lines).toEqual([]);
  });

  test("TTF without AArch64 tables", () => {
    const guest = idRegisters(DEFAULT_PROPERTIES);
    expect(words(() => checkHostServes(Int32Array.of((idr0 & ~0xc) | 4, idr1, 0, idr3, 0, idr5), guest, NAMES)).words).toBe(
      "Host SMMUv3 doesn't support AArch64 translation table format",
    );
    // Both formats are one more than needed.
    expect(words(() => checkHostServes(Int32Array.of(idr0 | 0xc, idr1, 0, idr3, 0, idr5), guest, NAMES)).words).toBe("fits");
  });

  test("no 4K granule", () => {
    // The simulated kernel, which has 4K pages, does not come so far with such an SMMU.
    const guest = idRegisters(DEFAULT_PROPERTIES);
    expect(words(() => checkHostServes(Int32Array.of(idr0, idr1, 0, idr3, 0, idr5 & ~(1 << 4)), guest, NAMES)).words).toBe(
      "Host SMMUv3 doesn't support 4K translation granule",
    );
  });

  test("two-level context tables that the guest was told of", () => {
    const guest = idRegisters({ ...DEFAULT_PROPERTIES, ssidsize: 4, cd2l: true });
    const { words: said, found } = words(() => checkHostServes(Int32Array.of(idr0 & ~(1 << 19), idr1, 0, idr3, 0, idr5), guest, NAMES));
    expect(said).toBe("Host SMMUv3 doesn't support 2-level Context Descriptor tables");
    expect(found).toBe("IDR0.CD2L: smmu3.0x16600000 of vfio-pci 'gpu0' (host 0009:01:00.0) has 0, arm-smmuv3 'smmu0' shows its guest 1");
  });

  test("what is no SMMUv3, or too short to tell", () => {
    for (const [type, length] of [
      [HwInfoType.INTEL_VTD, 40],
      [HwInfoType.NONE, 0],
      [HwInfoType.ARM_SMMUV3, 16],
    ]) {
      const info = { type, data: new Uint8Array(length), dataLength: length, maxPasidLog2: 0, capabilities: 0 };
      expect(words(() => hostIdRegisters(info)).words).toBe(`Wrong data type (${type}) for Host SMMUv3 device info`);
    }
  });

  test("a physical SMMU that does not nest is refused by the host, with what that means", () => {
    const board = new Board({ smmu: { coherent: false } });
    const { words: said, found } = words(() => board.plug(A));
    expect(said).toContain(`vfio ${A}: VIOMMU_ALLOC: EOPNOTSUPP`);
    expect(said).toContain("Failed to set vIOMMU: ");
    expect(said).toContain("Unable to alloc vIOMMU: hiodi devid 0x1: ");
    expect(found).toContain("nested translation");
    const stage1 = new Board({ smmu: { idr0: idr0 & ~1 } });
    expect(words(() => stage1.plug(A)).words).toContain(`vfio ${A}: HWPT_ALLOC: EOPNOTSUPP`);
    expect([board.live(), stage1.live()]).toEqual([{}, {}]);
  });
});

describe("a host that fits", () => {
  test.each([
    { name: "has more of everything", host: { idr1: (idr1 & ~0x3f) | 20, idr5: (idr5 & ~7) | 5 }, properties: { ril: false, ats: false, oas: 44, ssidsize: 4 } as const },
    { name: "walks tables of both byte orders", host: { idr0: idr0 & ~(3 << 21) }, properties: EXPLICIT },
  ])("$name", ({ host, properties }) => {
    const board = new Board({ smmu: host, properties: [properties] });
    board.plug(A);
    expect(board.probe(A)).toBe("bypass");
  });

  test("without hierarchical attributes that can be disabled is a warning", () => {
    const board = new Board({ smmu: { idr3: idr3 & ~(1 << 2) }, properties: [AUTO] });
    board.plug(A);
    expect(board.log.warnings()).toEqual([
      `arm-smmuv3 'smmu0' shows its guest IDR3.HAD=1, ${SMMU0} of vfio-pci 'dev0' (host ${A}) has 0: a guest that relies on CD.HAD0 or HAD1 gets hierarchical attributes nevertheless`,
    ]);
  });

  test.each([
    ["can stall is kept from it by S1STALLD", 0, 1n],
    ["cannot is given no S1STALLD, whatever the guest's entry says", 1, 0n],
  ])("that %s", (_what, model, s1stalld) => {
    const board = new Board();
    const physical = board.host.hardware.smmus.get(SMMU0)!;
    physical.idr[0] = (physical.idr[0] & ~(3 << 24)) | (model << 24);
    board.plug(A);
    board.number(0, 9);
    board.smmu.enable();
    board.nested.length = 0;
    board.smmu.ste(0x900, board.stage1(board.table()));
    board.smmu.configure(0x900);
    expect(board.nested.map(([, second]) => (second >> 27n) & 1n)).toEqual([s1stalld]);
  });

  test("that stalls on every fault is refused: the guest was told that nothing does", () => {
    const board = new Board();
    const physical = board.host.hardware.smmus.get(SMMU0)!;
    physical.idr[0] = (physical.idr[0] & ~(3 << 24)) | (2 << 24);
    expect(() => board.plug(A)).toThrow(/Host SMMUv3 stalls on every fault[^]*IDR0\.STALL_MODEL: smmu3[^]* has 2, [^]* shows its guest 1/);
    expect(board.live()).toEqual({});
  });

  test("a lower level of break-before-make is a warning with both values", () => {
    const board = new Board({ smmu: { idr3: idr3 & ~(3 << 11) }, properties: [AUTO] });
    board.plug(A);
    expect(board.log.warnings()).toEqual([
      expect.stringContaining("IDR3.BBML=2") as string,
    ]);
    expect(board.log.warnings()[0]).toContain(`${SMMU0} of vfio-pci 'dev0' (host ${A}) has 0`);
  });

  test("auto with a 52-bit host is 48 bits, and 20 bits of SubstreamID at most", () => {
    expect(featuresOfHost(Int32Array.of(idr0, idr1 | (0x1f << 6), 0, idr3, 0, (idr5 & ~7) | 6))).toEqual({
      ril: true,
      ats: true,
      oasBits: 48,
      ssidBits: 20,
      cd2l: true,
    });
    // Without substreams there are no context tables of two levels.
    expect(featuresOfHost(Int32Array.of(idr0, idr1 & ~0x7c0, 0, 0, 0, 0x70))).toEqual({
      ril: false,
      ats: true,
      oasBits: 44,
      ssidBits: 0,
      cd2l: false,
    });
  });
});
