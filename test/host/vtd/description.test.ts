import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { createSimulatedHost, describeHost, loadHostDescription, SimulatedHardware } from "../../../src/host/simulated/index.js";
import { bind, hostInput, LEGACY, readText } from "./rig.js";

type Json = Record<string, unknown>;

function complaint(change: (host: { memory: Json[]; smmus: Json[]; vtds: Json[]; functions: Json[] } & Json) => void): string {
  const host = JSON.parse(JSON.stringify(hostInput())) as { memory: Json[]; smmus: Json[]; vtds: Json[]; functions: Json[] } & Json;
  change(host);
  try {
    loadHostDescription(JSON.stringify(host), "my.json");
  } catch (error) {
    return (error as Error).message;
  }
  return "accepted";
}

describe("host files with VT-d units", () => {
  it.each<[string, Parameters<typeof complaint>[0], string]>([
    ["nothing", () => {}, "accepted"],
    ["no smmus key", (h) => delete (h as Json).smmus, "accepted"],
    ["SMMUs too", (h) => h.smmus.push({ name: "smmu3", base: 1, idr0: 0x0d44101b, idr1: 0x02730010, idr5: 0x74 }), "my.json: vtds: the host has SMMUs too"],
    ["a doorbell", (h) => (h.msiDoorbell = "0x08090040"), "my.json: msiDoorbell: a host with VT-d units takes interrupts at 0xfee00000 to 0xfeefffff"],
    ["RAM in the interrupt range", (h) => (h.memory[0] = { numaNode: 0, base: "0xf8000000", size: "128M" }), "my.json: memory[0]: overlaps the interrupt range 0xfee00000 to 0xfeefffff"],
    ["RAM up to it", (h) => (h.memory[0] = { numaNode: 0, base: "0xf0000000", size: "224M" }), "accepted"],
    ["the same name", (h) => (h.vtds[1].name = "dmar0"), "my.json: vtds[1].name: the same as vtds[0].name"],
    ["the same registers", (h) => (h.vtds[2].base = h.vtds[0].base), "my.json: vtds[2].base: the same as vtds[0].base"],
    ["a first stage in legacy mode", (h) => Object.assign(h.vtds[0], LEGACY, { firstStage: true }), "my.json: vtds[0].firstStage: needs scalableMode"],
    ["PASIDs in legacy mode", (h) => Object.assign(h.vtds[0], LEGACY, { pasidBits: 8 }), "my.json: vtds[0].pasidBits: needs scalableMode"],
    ["nesting without a second stage", (h) => (h.vtds[0].secondStage = false), "my.json: vtds[0].nesting: needs secondStage"],
    ["1-GiB pages without a first stage", (h) => Object.assign(h.vtds[0], { firstStage: false, nesting: false, supervisor: false }), "my.json: vtds[0].firstStage1g: needs firstStage"],
    ["neither stage", (h) => Object.assign(h.vtds[0], LEGACY, { scalableMode: true }), "my.json: vtds[0].scalableMode: has neither stage"],
    ["mgaw beyond the tables", (h) => (h.vtds[0].mgaw = 57), "my.json: vtds[0].mgaw: more than the tables of sagaw translate, 48 bits"],
    ["no width of both stages", (h) => (h.vtds[0].sagaw = [39, 57]), "my.json: vtds[0].sagaw: no width that the first stage has too"],
    ["a width of both stages", (h) => Object.assign(h.vtds[0], { sagaw: [39, 57], firstStage5Level: true }), "accepted"],
    ["an odd width", (h) => (h.vtds[0].sagaw = [40]), "my.json: vtds[0].sagaw[0]: expected 39, 48 or 57"],
    ["no width", (h) => (h.vtds[0].sagaw = []), "my.json: vtds[0].sagaw: expected at least one width"],
    ["an unknown erratum", (h) => (h.vtds[0].errata = ["1"]), "my.json: vtds[0].errata[0]: "],
    ["an unknown unit", (h) => (h.functions[0].vtd = "dmar9"), "my.json: functions[0].vtd: unknown VT-d unit 'dmar9'"],
    ["both kinds of IOMMU", (h) => (h.functions[0].smmu = null), "my.json: functions[0].vtd: it has an smmu too"],
    ["no IOMMU named", (h) => delete h.functions[0].vtd, "my.json: functions[0].smmu: missing"],
    ["no IOMMU", (h) => (h.functions[0].vtd = null), "accepted"],
    ["a StreamID", (h) => (h.functions[0].streamId = 5), "my.json: functions[0].streamId: a VT-d unit tells functions apart by their requester ids"],
    ["another segment", (h) => (h.functions[0].address = "0001:17:00.0"), "my.json: functions[0].vtd: dmar0 serves segment 0000"],
    ["wider PASIDs", (h) => (h.vtds[0].pasidBits = 8), "my.json: functions[0].pasidBits: 16 bits, and dmar0 has 8"],
    ["ATS without device TLBs", (h) => (h.vtds[0].deviceTlb = false), "my.json: functions[0].ats: dmar0 has no deviceTlb"],
    ["page requests", (h) => (h.functions[0].pri = true), "my.json: functions[0].pri: simulated VT-d units take no page requests"],
  ])("%s", (_what, change, message) => {
    const answer = complaint(change);
    expect(answer.startsWith(message), answer).toBe(true);
  });

  it("say what would work", () => {
    expect(complaint((h) => (h.functions[0].vtd = "dmar9"))).toContain("one of dmar0, dmar1, dmar2, dmar3, or null");
  });
});

/** Bits of CAP and ECAP by Linux's names for them (drivers/iommu/intel/iommu.h). */
const BIT = {
  "cap fl5lp": 60n,
  "cap fl1gp": 56n,
  "cap pgsel_inv": 39n,
  "cap zlr": 22n,
  "cap caching_mode": 7n,
  "cap rwbf": 4n,
  "ecap smpwc": 48n,
  "ecap flts": 47n,
  "ecap slts": 46n,
  "ecap slads": 45n,
  "ecap smts": 43n,
  "ecap pasid": 40n,
  "ecap eafs": 34n,
  "ecap nwfs": 33n,
  "ecap srs": 31n,
  "ecap prs": 29n,
  "ecap nest": 26n,
  "ecap sc_support": 7n,
  "ecap pass_through": 6n,
  "ecap eim": 4n,
  "ecap ir": 3n,
  "ecap dev_iotlb": 2n,
  "ecap qis": 1n,
  "ecap coherent": 0n,
} as const;

function registers(unit: Parameters<typeof hostInput>[0]): { set: string[]; cap: bigint; ecap: bigint } {
  const { cap, ecap } = SimulatedHardware.fromDescription(describeHost(hostInput(unit))).vtds.get("dmar0")!;
  const set = Object.entries(BIT).filter(([name, bit]) => (((name.startsWith("cap") ? cap : ecap) >> bit) & 1n) === 1n);
  return { set: set.map(([name]) => name), cap, ecap };
}

describe("CAP and ECAP", () => {
  const always = ["cap pgsel_inv", "cap zlr", "ecap pass_through", "ecap eim", "ecap ir", "ecap qis"];
  const bits = (value: bigint, shift: number, width: number): number => Number((value >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));

  it("have the bits that the description names, where Linux reads them", () => {
    const server = registers({ sagaw: [48, 57], firstStage5Level: true, extendedAccess: true, pasidBits: 18, secondStagePages: ["2M"] });
    const never = ["cap caching_mode", "cap rwbf", "ecap prs"];
    expect(server.set.sort()).toEqual(Object.keys(BIT).filter((name) => !never.includes(name)).sort());
    expect([bits(server.cap, 8, 5), bits(server.cap, 16, 6), bits(server.cap, 34, 4), bits(server.ecap, 35, 5)]).toEqual([0xc, 56, 1, 17]);
    // Domain ids of 16 bits; fault records at 0x220, IOTLB registers at 0x500; masks of up to 18 bits.
    expect([bits(server.cap, 0, 3), bits(server.cap, 24, 10) * 16, bits(server.ecap, 8, 10) * 16, bits(server.cap, 48, 6)]).toEqual([6, 0x220, 0x500, 18]);
  });

  it("of a desktop have those of legacy mode alone", () => {
    const desktop = registers({ ...LEGACY, deviceTlb: false, coherentWalks: false, snoopControl: false, sagaw: [39, 48], mgaw: 39, secondStagePages: [] });
    expect(desktop.set.sort()).toEqual([...always].sort());
    expect([bits(desktop.cap, 8, 5), bits(desktop.cap, 16, 6), bits(desktop.cap, 34, 4)]).toEqual([6, 38, 0]);
  });

  it("change by one key at a time", () => {
    const base: NonNullable<Parameters<typeof hostInput>[0]> = { deviceTlb: false, nesting: false, dirtyTracking: false, supervisor: false, firstStage1g: false, pasidBits: 0, coherentWalks: false, snoopControl: false, scalableCoherentWalks: false };
    const without = registers(base).set;
    const added = (unit: typeof base): string[] => registers({ ...base, ...unit }).set.filter((name) => !without.includes(name));
    expect(without.sort()).toEqual([...always, "ecap flts", "ecap slts", "ecap smts"].sort());
    expect([
      added({ deviceTlb: true }),
      added({ nesting: true }),
      added({ dirtyTracking: true }),
      added({ supervisor: true }),
      added({ firstStage1g: true }),
      added({ firstStage5Level: true }),
      added({ extendedAccess: true }),
      added({ pasidBits: 8 }),
      added({ coherentWalks: true }),
      added({ snoopControl: true }),
      added({ scalableCoherentWalks: true }),
    ]).toEqual([["ecap nwfs", "ecap dev_iotlb"], ["ecap nest"], ["ecap slads"], ["ecap srs"], ["cap fl1gp"], ["cap fl5lp"], ["ecap eafs"], ["ecap pasid"], ["ecap coherent"], ["ecap sc_support"], ["ecap smpwc"]]);
  });
});

describe("the shipped hosts", () => {
  it.each(["two-socket-spr", "desktop"])("%s: every function reads what its IOAS maps, one is not for guests", (name) => {
    const host = createSimulatedHost(loadHostDescription(readFileSync(`hosts/${name}.json`, "utf8"), name));
    const iommufd = host.openIommufd();
    const ram = host.allocateMemory("guest", 0x10_0000);
    ram.write(0, new TextEncoder().encode("here"));
    const ioasId = iommufd.ioasAlloc();
    iommufd.ioasMap({ ioasId, source: { address: ram.hostAddress }, length: 0x10_0000n, iova: 0x4000_0000n, readable: true, writable: true });
    const refused = host.functions().filter((fn) => {
      if (fn.driver !== "vfio-pci") {
        expect(() => host.openDevice(fn.address)).toThrow("ENODEV");
        return true;
      }
      const bound = bind(host, iommufd, fn.address);
      bound.device.attach(ioasId);
      expect([fn.iommu?.slice(0, 4), readText(bound, 0x4000_0000, 4)]).toEqual(["dmar", "here"]);
      return false;
    });
    expect(refused.length).toBe(1);
    host.close();
    expect([host.hardware.memory.livePages, host.hardware.memory.liveBlocks]).toEqual([0, 0]);
  });
});
