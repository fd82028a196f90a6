/** What is known of a host before a machine is made for it: by the ID registers of its IOMMUs. */
import { describe, expect, it } from "vitest";
import { loadHost, shippedHosts } from "../../src/host/shipped/index.js";
import { describeHost, type HostDescriptionInput } from "../../src/host/simulated/file/index.js";
import { HostFacts, type IommuFacts } from "../../src/plan/index.js";

const facts = async (name: string): Promise<HostFacts> => new HostFacts(await loadHost(name));
const offered = (iommu: IommuFacts | null | undefined): Record<string, unknown> => Object.fromEntries(Object.entries(iommu?.offer ?? {}).map(([name, { value }]) => [name, value]));

const SMMU = { name: "smmu3.0x0000000009050000", base: 0x905_0000, idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74 };
const FUNCTION = { address: "0000:01:00.0", name: "NIC", vendor: 0x8086, device: 0x10d3, class: 0x020000, smmu: SMMU.name, bars: [{ index: 0, size: "64K" }] };
const hostWith = (smmu: object, fn: object = {}): HostFacts =>
  new HostFacts(describeHost({ name: "one", memory: [{ numaNode: 0, base: 0x4000_0000, size: "1G" }], smmus: [{ ...SMMU, ...smmu }], functions: [{ ...FUNCTION, ...fn }] } as HostDescriptionInput));

describe("an SMMU's offer", () => {
  it("is the host's ID registers, capped to what an accelerated SMMU has", async () => {
    const grace = (await facts("grace")).function("0009:01:00.0");
    expect(grace.iommu?.name).toBe("smmu3.0x0000000016600000");
    expect(grace.numaNode).toBe(0);
    expect(offered(grace.iommu)).toEqual({ ril: true, ats: true, oas: 48, ssidsize: 20 });
    expect(offered((await facts("arm-small")).function("01:00.0").iommu)).toEqual({ ril: false, ats: false, oas: 44, ssidsize: 0 });
    expect(offered(hostWith({ idr5: 0x76 }).iommus.get(SMMU.name))).toMatchObject({ oas: 48 });
  });

  it.each([
    ["one stage", { idr0: 0x0d44_101a }, "does not nest: IDR0 has no S2P"],
    ["an erratum", { errata: ["arm-2268618"] }, "does not nest: an erratum forbids it"],
    ["neither CANWBS nor S2FWB", { coherent: false }, "has neither CANWBS nor S2FWB"],
    ["no granule of 16 KiB", { idr5: 0x54 }, "cannot serve an accelerated SMMU: Host SMMUv3 doesn't support 16K translation granule"],
  ])("is none with %s", (_what, smmu, words) => {
    expect(hostWith(smmu).iommus.get(SMMU.name)?.obstacle).toBe(words);
  });
});

describe("a VT-d unit's offer", () => {
  it("is first stages where the unit nests, else narrower addresses", async () => {
    const spr = await facts("two-socket-spr");
    expect(offered(spr.iommus.get("dmar2"))).toEqual({ fsts: true, fs1gp: true, pasidBits: 20, awBits: 48, deviceIotlb: true });
    expect(offered(spr.iommus.get("dmar3"))).toMatchObject({ fsts: true, pasidBits: 0, deviceIotlb: false });
    const desktop = (await facts("desktop")).iommus.get("dmar1");
    expect(offered(desktop)).toEqual({ fsts: false, fs1gp: false, pasidBits: 0, awBits: 39, deviceIotlb: false });
    expect(desktop?.obstacle).toBe("does not nest: it lacks ECAP.SMTS (scalable mode), ECAP.FSTS (first stage), ECAP.NEST (nested translation)");
  });
});

it("nothing keeps the functions of the shipped hosts from being passed through but another driver", async () => {
  for (const name of shippedHosts()) {
    const host = await facts(name);
    for (const fn of host.host.functions) {
      const { obstacles, preparations, iommu } = host.factsOf(fn);
      expect(obstacles).toEqual([]);
      expect(preparations.length, fn.address).toBe(fn.driver === "vfio-pci" ? 0 : 1);
      expect(iommu).not.toBeNull();
    }
  }
});

it("a function without an IOMMU, one of the denylist and a bridge are told why", () => {
  const words = (fn: object): string[] => hostWith({}, fn).function("1:0.0").obstacles.map((one) => one.words);
  expect(words({ smmu: null })).toEqual(["vfio 0000:01:00.0: no iommu_group found: No such file or directory"]);
  expect(words({ device: 0x0b25 })).toEqual(["vfio 0000:01:00.0: 8086:0b25 exists in vfio-pci device denylist, driver probing disallowed"]);
  expect(words({ class: 0x060400 })).toEqual(["vfio 0000:01:00.0: a bridge is not passed through"]);
  expect(() => hostWith({}).function("0009:01:00.0")).toThrow("vfio 0009:01:00.0: no such host device\n  found: 0009:01:00.0, which one does not have\n  would work: one of 0000:01:00.0");
});
