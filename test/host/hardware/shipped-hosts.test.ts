import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { extract, IDR0, IDR1, IDR3, IDR5 } from "../../../src/smmuv3/spec/index.js";
import { loadHostDescription, SimulatedHardware } from "../../../src/host/simulated/index.js";

const shipped = readdirSync("hosts").filter((name) => name.endsWith(".json"));

function load(name: string): SimulatedHardware {
  return SimulatedHardware.fromDescription(loadHostDescription(readFileSync(`hosts/${name}`, "utf8"), name));
}

describe("the shipped hosts", () => {
  it("are the five", () => {
    expect(shipped.sort()).toEqual(["arm-small.json", "board.json", "desktop.json", "grace.json", "two-socket-spr.json"]);
  });

  it.each(["arm-small.json", "board.json", "grace.json"])("%s: every SMMU nests, has all granules and shows what its file says", (name) => {
    const hardware = load(name);
    for (const smmu of hardware.smmus.values()) {
      const { description, idr } = smmu;
      expect([...idr].map((word) => word >>> 0)).toEqual([
        description.idr0,
        description.idr1,
        description.idr2,
        description.idr3,
        description.idr4,
        description.idr5,
      ]);
      expect(extract(idr[0], IDR0.S1P) + extract(idr[0], IDR0.S2P)).toBe(2);
      expect(idr[5] & 0x70).toBe(0x70);
      expect(smmu.coherent).toBe(true);
      expect(smmu.name).toBe(`smmu3.0x${description.base.toString(16).padStart(16, "0")}`);
    }
    const before = hardware.memory.livePages;
    expect(before).toBeGreaterThan(0);
    hardware.close();
    expect(hardware.memory.livePages).toBe(0);
  });

  it("grace has RIL, ATS, PASIDs, 48 bits and at least four SMMUs; arm-small has none of that and 44 bits", () => {
    const grace = load("grace.json");
    expect(grace.smmus.size).toBeGreaterThanOrEqual(4);
    for (const smmu of grace.smmus.values()) {
      expect(extract(smmu.idr[3], IDR3.RIL)).toBe(1);
      expect(extract(smmu.idr[0], IDR0.ATS)).toBe(1);
      expect(extract(smmu.idr[0], IDR0.CD2L)).toBe(1);
      expect(extract(smmu.idr[0], IDR0.ST_LEVEL)).toBe(1);
      expect(extract(smmu.idr[1], IDR1.SSIDSIZE)).toBe(20);
      expect(extract(smmu.idr[5], IDR5.OAS)).toBe(5);
    }
    const small = load("arm-small.json");
    for (const smmu of small.smmus.values()) {
      expect(extract(smmu.idr[3], IDR3.RIL)).toBe(0);
      expect(extract(smmu.idr[1], IDR1.SSIDSIZE)).toBe(0);
      expect(extract(smmu.idr[5], IDR5.OAS)).toBe(4);
    }
    expect(load("board.json").smmus.size).toBe(1);
  });

  it("two-socket-spr nests everywhere, has the erratum on the first socket, and one unit without snoop control; desktop does not nest", () => {
    const server = [...load("two-socket-spr.json").vtds.values()];
    const flags = (unit: (typeof server)[number]): string =>
      [unit.features.nested ? "nests" : "", unit.hasErratum("772415") ? "erratum" : "", unit.features.snoopControl ? "snoops" : ""].join(" ").trim();
    expect(server.map((unit) => [unit.name, unit.description.numaNode, flags(unit)])).toEqual([
      ["dmar0", 0, "nests erratum snoops"],
      ["dmar1", 0, "nests erratum snoops"],
      ["dmar2", 1, "nests  snoops"],
      ["dmar3", 1, "nests"],
    ]);
    for (const unit of load("desktop.json").vtds.values()) {
      expect([unit.features.scalableMode, unit.features.nested, unit.features.guestAddressBits]).toEqual([false, false, 39]);
    }
  });
});
