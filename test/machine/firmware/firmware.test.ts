import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  buildAcpi,
  buildDeviceTree,
  buildIort,
  buildMcfg,
  type FirmwareDescription,
  type RootBusDescription,
  type SmmuDescription,
} from "../../../src/machine/firmware/index.js";

const vectors = new URL("./vectors/", import.meta.url);
const QEMU_OEM = { id: "BOCHS ", tableId: "BXPC    ", creator: "BXPC" };
const available = (program: string): boolean => spawnSync(program, ["-v"]).error === undefined;

function machine(rootBuses: RootBusDescription[], smmus: SmmuDescription[], its = true): FirmwareDescription {
  return {
    ram: [{ base: 0x4000_0000, size: 0x2000_0000, numaNode: null }],
    cpus: 1,
    numa: null,
    interrupts: {
      gicVersion: 3,
      distributor: { base: 0x800_0000, size: 0x1_0000 },
      second: { base: 0x80a_0000, size: 0xf6_0000 },
      its: its ? { base: 0x808_0000, size: 0x2_0000 } : null,
      v2m: null,
    },
    pci: {
      ecamBase: 0x40_1000_0000,
      ecamSize: 0x1000_0000,
      mmio32: { base: 0x1000_0000, size: 0x2eff_0000 },
      mmio64: { base: 0x80_0000_0000, size: 0x80_0000_0000 },
      pio: { base: 0x3eff_0000, size: 0x1_0000 },
      intxSpi: 3,
    },
    smmus,
    rootBuses,
    platform: {
      uarts: [{ base: 0x900_0000, size: 0x1000, spi: 1 }],
      rtc: { base: 0x901_0000, size: 0x1000, spi: 2 },
      gpio: { base: 0x903_0000, size: 0x1000, spi: 7, powerKey: 3 },
      events: { base: 0x908_0000, size: 4, spi: 9 },
    },
    boot: null,
    reservedWindow: { base: 0x800_0000, size: 0x10_0000 },
  };
}

const user = (index: number, more: Partial<SmmuDescription> = {}): SmmuDescription => ({
  base: 0xc00_0000 + index * 0x2_0000,
  size: 0x2_0000,
  spi: 112 + 4 * index,
  accelerated: false,
  ats: false,
  legacy: false,
  ...more,
});
const legacy: SmmuDescription = { base: 0x905_0000, size: 0x2_0000, spi: 74, accelerated: false, ats: false, legacy: true };
const bus = (number: number, smmu: number | null, highest = number): RootBusDescription => ({ number, lowest: number, highest, smmu, last: 0xff, windows: [{ base: 0x1000_0000 + (number << 20), size: 0x10_0000 }], numaNode: null, functions: [] });

/** The machines of the vectors, whose command lines are beside them. */
const machines: Record<string, FirmwareDescription> = {
  none: machine([bus(0, null)], []),
  "none-its-off": machine([bus(0, null)], [], false),
  legacy: machine([bus(0, 0)], [legacy]),
  "legacy-its-off": machine([bus(0, 0)], [legacy], false),
  "legacy-pxb-bypass": machine([bus(0, 0), bus(0x10, 0), bus(0x20, null)], [legacy]),
  two: machine([bus(0, 0), bus(0x10, 1), bus(0x20, null)], [user(0), user(1)]),
  "its-off": machine([bus(0, 0)], [user(0)], false),
  gicv2m: machine([bus(0, 0)], [user(0)], false),
  "one-pxb": machine([bus(0, null), bus(0x40, 0)], [user(0)]),
  three: machine([bus(0, null), bus(0x80, 0), bus(0x20, 1), bus(0xf0, 2)], [user(0), user(1), user(2)]),
};

/** QEMU leaves the checksum to its loader: zero in the vectors. */
function withoutChecksum(table: Uint8Array): Buffer {
  const copy = Buffer.from(table);
  copy[9] = 0;
  return copy;
}

describe("IORT", () => {
  it("has a machine for every vector", () => {
    const files = readdirSync(vectors).filter((name) => name.endsWith(".IORT.aml"));
    expect(files.map((name) => name.replace(".IORT.aml", "")).sort()).toEqual(Object.keys(machines).sort());
  });

  it.each(Object.keys(machines))("equals QEMU's for %s", (name) => {
    const theirs = readFileSync(new URL(`${name}.IORT.aml`, vectors));
    expect(withoutChecksum(buildIort(machines[name], QEMU_OEM)).toString("hex")).toBe(theirs.toString("hex"));
  });

  it("grows its ranges with the bus numbers that bridges have been given", () => {
    const table = Buffer.from(buildIort(machine([bus(0, null, 2), bus(0x10, 0, 0x13)], [user(0)])));
    const root = 48 + 24 + 88;
    expect(table.readUInt32LE(root + 36)).toBe(0x1000);
    expect(table.readUInt32LE(root + 40)).toBe(0x3ff);
  });

  it("has one reserved memory range for each accelerated SMMU, after the root complex", () => {
    const table = Buffer.from(
      buildIort(machine([bus(0, null), bus(0x10, 0), bus(0x20, 1), bus(0x30, 2)], [user(0, { accelerated: true, ats: true }), user(1), user(2, { accelerated: true })])),
    );
    const nodes: Buffer[] = [];
    for (let at = 48; at < table.length; at += table.readUInt16LE(at + 1)) {
      nodes.push(table.subarray(at, at + table.readUInt16LE(at + 1)));
    }
    expect(nodes.map((node) => node[0])).toEqual([0, 4, 4, 4, 2, 6, 6]);
    expect(table.readUInt32LE(36)).toBe(7);
    // Root complex: ATS attribute (DEN 0049E table 13, offset 24).
    expect(nodes[4].readUInt32LE(24)).toBe(1);
    const [first, second] = nodes.slice(5);
    for (const [node, range, smmuOffset, identifier] of [
      [first, 0x1000, 48 + 24, 5],
      [second, 0x3000, 48 + 24 + 2 * 88, 6],
    ] as const) {
      expect(node.length).toBe(68);
      expect(node[3]).toBe(3);
      expect(node.readUInt32LE(4)).toBe(identifier);
      expect([node.readUInt32LE(8), node.readUInt32LE(12)]).toEqual([1, 28]);
      expect([node.readUInt32LE(16), node.readUInt32LE(20), node.readUInt32LE(24)]).toEqual([0, 1, 48]);
      expect([28, 32, 36, 40, 44].map((at) => node.readUInt32LE(at))).toEqual([range, 0xff, range, smmuOffset, 1]);
      expect([node.readBigUInt64LE(48), node.readBigUInt64LE(56)]).toEqual([0x800_0000n, 0x10_0000n]);
    }
  });
});

describe("MCFG and the root", () => {
  it("MCFG equals QEMU's but for the OEM's names", () => {
    const theirs = readFileSync(new URL("legacy.MCFG.aml", vectors));
    const ours = Buffer.from(buildMcfg(machines.none.pci));
    expect(ours.subarray(36).toString("hex")).toBe(theirs.subarray(36).toString("hex"));
    expect([ours.toString("latin1", 0, 4), ours[8]]).toEqual(["MCFG", theirs[8]]);
  });

  it("leads from the RSDP through the XSDT to every table, all checksums zero", () => {
    const base = 0x4800_0000;
    const image = Buffer.from(buildAcpi(machines.two, base).bytes);
    const sum = (start: number, length: number): number => image.subarray(start, start + length).reduce((a, b) => (a + b) & 0xff, 0);
    expect(image.toString("latin1", 0, 8)).toBe("RSD PTR ");
    expect([sum(0, 20), sum(0, 36)]).toEqual([0, 0]);
    const xsdt = Number(image.readBigUInt64LE(24)) - base;
    expect(image.toString("latin1", xsdt, xsdt + 4)).toBe("XSDT");
    const length = image.readUInt32LE(xsdt + 4);
    expect(sum(xsdt, length)).toBe(0);
    const found: string[] = [];
    for (let at = xsdt + 36; at < xsdt + length; at += 8) {
      const table = Number(image.readBigUInt64LE(at)) - base;
      found.push(image.toString("latin1", table, table + 4));
      expect(sum(table, image.readUInt32LE(table + 4))).toBe(0);
    }
    expect(found.sort()).toEqual(["APIC", "FACP", "GTDT", "IORT", "MCFG", "SPCR"]);
  });

  it.runIf(available("iasl")).each([
    ["two SMMUs", machines.two],
    ["an accelerated SMMU", machine([bus(0, null), bus(0x10, 0)], [user(0, { accelerated: true, ats: true })])],
  ])("of %s is read by iasl without a complaint", (_name, description) => {
    const folder = mkdtempSync(join(tmpdir(), "viommu-acpi-"));
    for (const [name, bytes] of buildAcpi(description, 0x4800_0000).tables) {
      if (name === "RSDP") {
        continue;
      }
      const file = join(folder, `${name}.aml`);
      writeFileSync(file, bytes);
      const result = spawnSync("iasl", ["-d", file], { encoding: "utf8" });
      const said = `${result.stdout}${result.stderr}${readFileSync(join(folder, `${name}.dsl`), "utf8")}`;
      if (/Unknown IORT node type 0x6/.test(said)) {
        continue; // An iasl from before reserved memory range nodes (ACPICA 20210604).
      }
      expect(result.status, said).toBe(0);
      expect(said).not.toMatch(/warning|error|incorrect|invalid|unknown/i);
    }
  });
});

describe.runIf(available("dtc"))("device tree", () => {
  /** The tree as dtc prints it, with what it complains of. */
  function decompile(description: FirmwareDescription): { text: string; complaints: string } {
    const file = join(mkdtempSync(join(tmpdir(), "viommu-dtb-")), "virt.dtb");
    writeFileSync(file, buildDeviceTree(description));
    const result = spawnSync("dtc", ["-I", "dtb", "-O", "dts", file], { encoding: "utf8" });
    expect(result.status, result.stderr).toBe(0);
    return { text: result.stdout, complaints: result.stderr };
  }

  it("describes every SMMU and the requester ids of every root bus", () => {
    const { text, complaints } = decompile(
      machine([bus(0, null), bus(0x10, 0), bus(0x20, 1)], [user(0, { accelerated: true }), user(1, { accelerated: true })]),
    );
    expect(complaints).toBe("");
    expect(text).toContain("smmuv3@c000000");
    expect(text).toContain("interrupts = <0x00 0x74 0x01 0x00 0x75 0x01 0x00 0x76 0x01 0x00 0x77 0x01>");
    expect(text).toMatch(/iommu-map = <0x1000 0x8010 0x1000 0x1000 0x2000 0x8011 0x2000 0xe000>/);
    expect(text).toMatch(/iommu-addresses = <0x8002 0x00 0x8000000 0x00 0x100000>/);
    expect(text).toMatch(/memory-region = <0x8003>/);
    expect(text).not.toContain("ats-supported");
    expect(decompile(machine([bus(0, 0)], [user(0, { accelerated: true, ats: true })])).text).toContain("ats-supported;");
    expect(text).toMatch(/msi-map = <0x00 0x8001 0x00 0x10000>/);
  });

  it("gives a legacy SMMU all requester ids, as QEMU does, and none to a bus that bypasses it", () => {
    expect(decompile(machines.legacy).text).toMatch(/iommu-map = <0x00 0x8010 0x00 0x10000>/);
    expect(decompile(machines["legacy-pxb-bypass"]).text).toMatch(/iommu-map = <0x00 0x8010 0x00 0x2000>/);
  });

  it("has QEMU's PCI windows and no reserved memory without acceleration", () => {
    const { text, complaints } = decompile(machines.none);
    expect(complaints).toBe("");
    expect(text).not.toContain("reserved-memory");
    expect(text).not.toContain("iommu-map");
    expect(text).toContain(
      "ranges = <0x1000000 0x00 0x00 0x00 0x3eff0000 0x00 0x10000 0x2000000 0x00 0x10000000 0x00 0x10000000 0x00 0x2eff0000 0x3000000 0x80 0x00 0x80 0x00 0x80 0x00>",
    );
    expect(text).toContain("reg = <0x40 0x10000000 0x00 0x10000000>");
    expect(text).toMatch(/interrupt-map = <0x00 0x00 0x00 0x01 0x8000 0x00 0x00 0x00 0x03 0x04 0x00 0x00 0x00 0x02 0x8000 0x00 0x00 0x00 0x04 0x04/);
  });

  it("leads messages to the frame of a GICv2m as QEMU does", () => {
    const { interrupts } = machines.none;
    const v2m = { ...machines.none, interrupts: { ...interrupts, gicVersion: 2 as const, its: null, v2m: { base: 0x802_0000, size: 0x1000, spi: 48, spis: 64 } } };
    const { text, complaints } = decompile(v2m);
    expect(complaints).toBe("");
    expect(text).toMatch(/v2m@8020000 \{[^}]*phandle = <0x8001>/);
    expect(text).toMatch(/msi-map = <0x00 0x8001 0x00 0x10000>/);
  });

  it("names CPUs by affinity", () => {
    const text = execFileSync("dtc", ["-I", "dtb", "-O", "dts", "-"], {
      input: buildDeviceTree({ ...machines.none, cpus: 18 }),
      encoding: "utf8",
    });
    expect(text.match(/cpu@/g)).toHaveLength(18);
    expect(text).toContain("cpu@101 {");
  });
});
