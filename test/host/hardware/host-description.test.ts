import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Refusal } from "../../../src/support/index.js";
import { hostFileJsonSchema, loadHostDescription, SimulatedHardware } from "../../../src/host/simulated/index.js";
import { hostInput } from "./rig.js";

type Json = Record<string, unknown>;

/** What makes a function an NVMe controller. */
const NVME = { model: "nvme", class: "0x010802", backing: { memory: "64M" }, bars: [{ index: 0, size: "128K" }], msixVectors: 4 };

/** The message about a host file that has been changed by `change`. */
function complaint(change: (host: { memory: Json[]; smmus: Json[]; functions: Json[] } & Json) => void): string {
  const host = JSON.parse(JSON.stringify(hostInput())) as { memory: Json[]; smmus: Json[]; functions: Json[] } & Json;
  change(host);
  try {
    loadHostDescription(JSON.stringify(host), "my.json");
  } catch (error) {
    expect(error).toBeInstanceOf(Refusal);
    return (error as Refusal).message;
  }
  return "";
}

describe("host files", () => {
  it("may name their schema, which is no part of the host", () => {
    expect(complaint((host) => (host.$schema = "./node_modules/viommu/dist/schemas/host.json"))).toBe("");
    const host = loadHostDescription(JSON.stringify({ $schema: "x", ...hostInput() }), "my.json");
    expect(host).toEqual(loadHostDescription(JSON.stringify(hostInput()), "my.json"));
    expect(complaint((host) => (host.$schema = 1))).toContain("$schema: ");
    expect(complaint((host) => (host.memory[0].$schema = "x"))).toContain('Unrecognized key: "$schema"');
  });

  it("take numbers and strings, and fill in defaults", () => {
    const host = loadHostDescription(JSON.stringify(hostInput()), "my.json");
    expect(host.smmus[0]).toMatchObject({ base: 0x0905_0000, idr0: 0x0d4c_741b, idr2: 0, coherent: true, errata: [], numaNode: -1 });
    expect(host.functions[0]).toMatchObject({ vendor: 0x1234, class: 0x02_0000, pri: false, revision: 0, driver: "vfio-pci" });
    expect(host.functions[0].bars[0]).toEqual({ index: 0, size: 65536, is64: true, prefetchable: false });
    expect(host.memory[0]).toEqual({ numaNode: 0, base: 0x8000_0000, size: 2 ** 28 });
  });

  it("take an NVMe's disk from their own folder", () => {
    const input = JSON.parse(JSON.stringify(hostInput())) as { functions: Json[] };
    Object.assign(input.functions[0], { ...NVME, backing: { file: "disks/a.raw" } });
    expect(loadHostDescription(JSON.stringify(input), "/somewhere/my.json").functions[0].backing).toEqual({ file: "/somewhere/disks/a.raw", readonly: false });
    Object.assign(input.functions[0], { backing: { file: "/b.raw", readonly: true } });
    expect(loadHostDescription(JSON.stringify(input), "/somewhere/my.json").functions[0].backing).toEqual({ file: "/b.raw", readonly: true });
    expect(() => SimulatedHardware.fromDescription(loadHostDescription(JSON.stringify(input), "my.json"))).toThrow("Could not open '/b.raw': No such file or directory");
  });

  it.each<[string, Parameters<typeof complaint>[0], string]>([
    ["unknown SMMU", (h) => (h.functions[1].smmu = "smmu9"), "my.json: functions[1].smmu: unknown SMMU 'smmu9'\n  would work: one of smmu3.0x0000000009050000, or null"],
    ["same address", (h) => (h.functions[1].address = "0000:01:00.0"), "my.json: functions[1].address: the same as functions[0].address"],
    ["same StreamID", (h) => (h.functions[1].streamId = "0x100"), "my.json: functions[1].streamId: StreamID 0x100 of smmu3.0x0000000009050000 is functions[0]'s"],
    ["StreamID too wide", (h) => (h.functions[1].streamId = 0x10000), "my.json: functions[1].streamId: StreamID 0x10000 needs more"],
    ["address form", (h) => (h.functions[0].address = "1:2.3"), 'my.json: functions[0].address: expected a PCI address in lower case, such as "0009:01:00.0"'],
    ["BAR size", (h) => (h.functions[0].bars = [{ index: 0, size: 96 * 1024 }]), "my.json: functions[0].bars[0].size: 98304 bytes are not a power of two of at least 4096"],
    ["BAR 0 too small", (h) => (h.functions[0].bars = [{ index: 0, size: "16K" }]), "my.json: functions[0].bars[0].size: BAR 0 has the DMA engine"],
    ["an NVMe of another class", (h) => Object.assign(h.functions[0], { ...NVME, class: "0x020000" }), "my.json: functions[0].class: the function is an NVMe controller"],
    ["an NVMe without a disk", (h) => Object.assign(h.functions[0], { ...NVME, backing: undefined }), "my.json: functions[0].backing: missing"],
    ["an NVMe without messages", (h) => Object.assign(h.functions[0], { ...NVME, msixVectors: 0 }), "my.json: functions[0].msixVectors: an NVMe controller here has no interrupt pin"],
    ["an NVMe with a small BAR 0", (h) => Object.assign(h.functions[0], { ...NVME, bars: [{ index: 0, size: "64K" }] }), "my.json: functions[0].bars[0].size: BAR 0 has the controller's registers"],
    ["an NVMe of neither file nor memory", (h) => Object.assign(h.functions[0], { ...NVME, backing: {} }), "my.json: functions[0].backing: expected {\"file\": \"disk.raw\"}"],
    ["a disk of a function that is none", (h) => Object.assign(h.functions[0], { ...NVME, model: "engine" }), "my.json: functions[0].backing: the function is no NVMe controller"],
    ["no BAR 0", (h) => (h.functions[0].bars = [{ index: 2, size: "64K" }]), "my.json: functions[0].bars: no BAR 0"],
    ["BARs collide", (h) => (h.functions[0].bars = [{ index: 0, size: "64K" }, { index: 1, size: "64K" }]), "my.json: functions[0].bars[1].index: register 1 is functions[0].bars[0]'s"],
    ["64-bit BAR 5", (h) => (h.functions[0].bars = [{ index: 0, size: "64K" }, { index: 5, size: "64K" }]), "my.json: functions[0].bars[1].index: BAR 5 has no next register"],
    ["large 32-bit BAR", (h) => (h.functions[0].bars = [{ index: 0, size: "4G", is64: false }]), "my.json: functions[0].bars[0].size: a 32-bit BAR"],
    ["PASIDs the SMMU has not", (h) => (h.functions[0].pasidBits = 9), "my.json: functions[0].pasidBits: 9 bits, and smmu3.0x0000000009050000 has SSIDSIZE 8"],
    ["ATS the SMMU has not", (h) => (h.smmus[0].idr0 = "0x0d4c701b"), "my.json: functions[0].ats: smmu3.0x0000000009050000 has no ATS (IDR0 bit 10)"],
    ["PRI the SMMU has not", (h) => (h.functions[0].pri = true), "my.json: functions[0].pri: smmu3.0x0000000009050000 has no PRI (IDR0 bit 16)"],
    ["unknown key", (h) => (h.functions[0].colour = "red"), "my.json: functions[0]: Unrecognized key"],
    ["missing key", (h) => delete h.smmus[0].idr5, "my.json: smmus[0].idr5: "],
    ["not a number", (h) => (h.smmus[0].idr1 = "many"), 'my.json: smmus[0].idr1: expected a number, or a string such as "0x74"'],
    ["too large", (h) => (h.smmus[0].idr1 = "0x100000000"), "my.json: smmus[0].idr1: expected a 32-bit value, 0 to 0xffffffff"],
    ["unknown erratum", (h) => (h.smmus[0].errata = ["arm-1"]), "my.json: smmus[0].errata[0]: "],
    ["same SMMU twice", (h) => h.smmus.push({ ...h.smmus[0] }), "my.json: smmus[1].name: the same as smmus[0].name"],
    ["no granule", (h) => (h.smmus[0].idr5 = "0x4"), "my.json: smmus[0].idr5: no granule"],
    ["no AArch64", (h) => (h.smmus[0].idr0 = "0x0d4c7417"), "my.json: smmus[0].idr0: TTF"],
    ["OAS too small", (h) => (h.memory[0].base = "0x100000000000"), "my.json: smmus[0].idr5: OAS (bits 2:0) is 44 bits"],
    ["memory overlaps", (h) => h.memory.push({ ...h.memory[0] }), "my.json: memory[1]: overlaps memory[0]"],
    ["memory not aligned", (h) => (h.memory[0].base = "0x80001000"), "my.json: memory[0].base: not a multiple of 16 MiB"],
    ["memory too small", (h) => (h.memory[0].size = "16M"), "my.json: memory[0].size: not a multiple of 16 MiB of at least 64 MiB"],
    ["no memory", (h) => (h.memory = []), "my.json: memory: expected at least one run of memory"],
    ["doorbell in RAM", (h) => (h.msiDoorbell = "0x80000040"), "my.json: msiDoorbell: lies in the RAM of memory[0]"],
  ])("%s is refused with its path", (_name, change, message) => {
    expect(complaint(change)).toContain(message);
  });

  it("that are no JSON, or no object, are refused", () => {
    expect(() => loadHostDescription("{", "my.json")).toThrow(/^my.json: not JSON: /);
    expect(() => loadHostDescription("[]", "my.json")).toThrow(/^my.json: /);
  });

  it("have a JSON Schema", () => {
    expect(hostFileJsonSchema()).toMatchObject({ type: "object", required: ["name", "memory", "functions"], additionalProperties: false });
  });
});

describe("an SMMU", () => {
  it("does not show what the simulation does not do", () => {
    const input = hostInput();
    const all = { ...input.smmus[0], idr0: 0x4fff_ff7f, idr1: 0xffff_f210, idr2: 0x3ff, idr3: 0xffff_ffff, idr5: 0xffff_0c76 };
    const hardware = SimulatedHardware.fromDescription(loadHostDescription(JSON.stringify({ ...input, smmus: [all] }), "my.json"));
    const [smmu] = hardware.smmus.values();
    // HTTU of the access flag alone, BTM, DORMHINT, HYP, ATOS, PRI, VMW, VATOS, ATSRECERR, stalls, AArch32, RME; ECMDQ, REL, presets; 52 bits.
    expect([...smmu.idr].map((word) => (word >>> 0).toString(16))).toEqual(["d6c7c1b", "ffff210", "0", "3f14", "0", "75"]);
  });

  it("keeps its errata: one without prefetch commands calls them illegal", () => {
    const input = hostInput();
    const smmus = [{ ...input.smmus[0], errata: ["hisilicon-161010101" as const] }];
    const hardware = SimulatedHardware.fromDescription(loadHostDescription(JSON.stringify({ ...input, smmus }), "my.json"));
    const [smmu] = hardware.smmus.values();
    expect(smmu.command(1, 0, 0, 0)).toBe(1);
    expect(smmu.hasErratum("hisilicon-161010101")).toBe(true);
    expect(smmu.hasErratum("arm-1209401")).toBe(false);
  });

  it("has its stream table in host memory: linear or two-level, aborting, and gives it back", () => {
    for (const idr0 of [0x0d4c_741b, 0x054c_741b]) {
      const input = hostInput();
      const hardware = SimulatedHardware.fromDescription(loadHostDescription(JSON.stringify({ ...input, smmus: [{ ...input.smmus[0], idr0 }] }), "x"));
      const [smmu] = hardware.smmus.values();
      expect(smmu.readSte(0x100)[0]).toBe(1);
      smmu.writeSte(0x101, Int32Array.from({ length: 16 }, (_unused, i) => i + 1));
      expect([...smmu.readSte(0x101)]).toEqual([...Array(16).keys()].map((i) => i + 1));
      expect(() => smmu.writeSte(0x1_0000, new Int32Array(16))).toThrow(RangeError);
      hardware.close();
      expect(hardware.memory.livePageBytes).toBe(0);
    }
  });
});

describe("docs/host-file.md", () => {
  const text = readFileSync("docs/host-file.md", "utf8");

  it("has an example that loads", () => {
    const example = /```json\n([^]*?)```/.exec(text)![1];
    const hardware = SimulatedHardware.fromDescription(loadHostDescription(example, "docs/host-file.md"));
    expect([...hardware.functions.keys()]).toEqual(["0000:01:00.0"]);
  });

  it("names every field of the schema and every erratum", () => {
    const names = (schema: unknown): string[] => {
      const node = schema as { properties?: Record<string, unknown>; items?: unknown; enum?: string[] };
      return [
        ...Object.entries(node.properties ?? {}).flatMap(([name, child]) => [name, ...names(child)]),
        ...(node.items === undefined ? [] : names(node.items)),
        ...(node.enum ?? []),
      ];
    };
    const found = names(hostFileJsonSchema());
    expect(found.length).toBeGreaterThan(40);
    expect(found.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});
