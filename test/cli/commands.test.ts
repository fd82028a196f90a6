import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { reportSchema } from "../../src/run/index.js";
import { viommu } from "./streams.js";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));

describe("viommu run", () => {
  it.each(readdirSync(examples).filter((name) => name.endsWith(".args")))("runs examples/%s, and nothing is left", async (name) => {
    const path = join(examples, name);
    // The first line names the host where it is another than the default.
    const host = /--host (\S+)/.exec(readFileSync(path, "utf8"))?.[1];
    const { code, out, err } = await viommu("run", ...(host === undefined ? [] : ["--host", host]), "--json", path);
    const report = reportSchema.parse(JSON.parse(out));
    expect(report.failure).toBeNull();
    expect(report).toMatchObject({ ok: true, hostObjects: { alive: 0 } });
    expect(report.hostObjects.created).toBe(report.hostObjects.freed);
    expect(report.machine.iommus.length).toBeGreaterThan(0);
    expect(code).toBe(0);
    expect(err).toBe("");
  });

  it("tells people within 80 columns", async () => {
    const { code, out } = await viommu("run", join(examples, "grace-two-smmus.args"));
    expect(code).toBe(0);
    expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(out).toMatch(/pcie\.1 \(bus 10\) behind smmu1 accel, on host smmu3\.0x0000000011600000/);
    expect(out).toMatch(/host objects {2}(\d+) made, \1 freed, 0 left/);
    expect(out.trimEnd().endsWith("ok")).toBe(true);
  });

  it("takes options behind the file, a pasted command line, and FILE.args without a guest", async () => {
    const args = ["-machine", "virt", "-nodefaults", "-device", "edu"];
    expect((await viommu("run", "--guest", "none", "qemu-system-aarch64", ...args)).code).toBe(0);
    expect((await viommu("run", "--guest", "none", ...args)).code).toBe(0);
    const { code, out } = await viommu("run", join(examples, "grace-two-smmus.args"), "--json", "--guest", "none");
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ guest: null, dma: { transactions: 0 } });
  });

  it("shows traces, and warns of patterns that no event has", async () => {
    const { code, out, err } = await viommu("run", "--trace", "smmuv3_write_mmio", "--trace", "nope_*", "--json", "--", "-M", "virt", "-nodefaults", "-device", "arm-smmuv3,primary-bus=pcie.0");
    expect(code).toBe(0);
    expect(err).toMatch(/^smmuv3_write_mmio /m);
    expect((JSON.parse(out) as { warnings: string[] }).warnings).toContain("trace event 'nope_*' does not exist");
  });

  it("ends with 1 where the guest failed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "viommu-cli-"));
    try {
      const script = join(folder, "fails.mjs");
      const { writeFileSync } = await import("node:fs");
      writeFileSync(script, "export default async () => ({ ok: false });\n");
      const { code, out, err } = await viommu("run", "--guest", script, "--", "-M", "virt", "-nodefaults");
      expect(code).toBe(1);
      expect(out).toContain("failed:");
      expect(err).toBe("");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("viommu tables", () => {
  it("writes QEMU's IORT, but for the OEM's names and the checksum", async () => {
    const folder = mkdtempSync(join(tmpdir(), "viommu-cli-"));
    try {
      const { code, out } = await viommu("tables", "--out", join(folder, "deep/er"), "--", "-machine", "virt,gic-version=3", "-m", "512", "-nodefaults");
      expect(code).toBe(0);
      expect(readdirSync(join(folder, "deep/er")).sort()).toEqual(["IORT.aml", "MCFG.aml", "RSDP.aml", "XSDT.aml", "virt.dtb"]);
      expect(out).toContain("IORT.aml: 128 bytes");
      const vector = readFileSync(new URL("../machine/firmware/vectors/none.IORT.aml", import.meta.url));
      const written = readFileSync(join(folder, "deep/er/IORT.aml"));
      // Bytes 9 to 35: checksum, and names and revisions of the OEM.
      expect(Buffer.concat([written.subarray(0, 9), written.subarray(36)])).toEqual(Buffer.concat([vector.subarray(0, 9), vector.subarray(36)]));
      expect(readFileSync(join(folder, "deep/er/virt.dtb")).readUInt32BE(0)).toBe(0xd00dfeed);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("listings", () => {
  it("list devices, a device's properties, hosts and what is on one", async () => {
    const devices = await viommu("devices");
    expect(devices.code).toBe(0);
    expect(devices.out.split("\n").map((line) => line.split(" ")[0])).toEqual(expect.arrayContaining(["arm-smmuv3", "pxb-pcie", "vfio-pci", "iommu-testdev"]));
    const smmu = await viommu("device", "arm-smmuv3");
    expect(smmu.out).toMatch(/ssidsize=<0\.\.20\|auto>[\s\S]{0,150}\(default auto\)/);
    expect((await viommu("device", "virtio-net-pci")).out).toContain("without effect");
    expect((await viommu("hosts")).out).toMatch(/^grace: 7 SMMUs/m);
    expect((await viommu("hosts", "grace")).out).toContain("0009:01:00.0  GPU 1");
    for (const words of [["--help"], ["run", "--help"], ["--version"]]) {
      const { code, out } = await viommu(...words);
      expect(code).toBe(0);
      expect(out.length).toBeGreaterThan(4);
    }
  });
});
