import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { reportSchema } from "../../src/run/report/index.js";
import { viommu } from "./streams.js";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));

describe("viommu run", () => {
  it.each(readdirSync(examples).filter((name) => name.endsWith(".args")))("runs examples/%s, and nothing is left", async (name) => {
    const path = join(examples, name);
    // The first line names the host where it is another than the default.
    const host = /--host (\S+)/.exec(readFileSync(path, "utf8"))?.[1];
    // A kernel needs vCPUs: the guest program stands in for it.
    const program = / -kernel /.test(readFileSync(path, "utf8")) ? ["--guest", "linux"] : [];
    const { code, out, err } = await viommu("run", ...(host === undefined ? [] : ["--host", host]), ...program, "--json", path);
    const report = reportSchema.parse(JSON.parse(out));
    expect(report.failure).toBeNull();
    expect(report).toMatchObject({ ok: true, hostObjects: { alive: 0 } });
    expect(report.hostObjects.created).toBe(report.hostObjects.freed);
    expect(report.machine.iommus.length).toBeGreaterThan(0);
    expect(code).toBe(0);
    expect(err).toBe("");
  });

  it("runs a plan as data as it runs the plan's line, and says in what another file is none", async () => {
    const folder = mkdtempSync(join(tmpdir(), "plan-"));
    try {
      const plan = (format: string) => viommu("plan", "--host", "board", "--device", "0000:02:00.0", "--format", format);
      const report = async (file: string): Promise<unknown> => (JSON.parse((await viommu("run", "--host", "board", "--guest", "none", "--json", join(folder, file))).out) as { machine: unknown }).machine;
      for (const format of ["json", "viommu"]) {
        writeFileSync(join(folder, format), (await plan(format)).out);
      }
      expect(await report("json")).toEqual(await report("viommu"));
      writeFileSync(join(folder, "other"), '{"expanders": 1}');
      const { code, err } = await viommu("run", "--host", "board", join(folder, "other"));
      expect(code).toBe(2);
      expect(err.replace(/\s+/g, " ")).toMatch(/other is no plan found: .*board: .*expanders: .* would work: the output of viommu plan --format json/);
    } finally {
      rmSync(folder, { recursive: true });
    }
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

  it.each([
    ["-m", "2G", "-M", "virt", "-nodefaults"],
    ["-cpu", "host", "-nodefaults", "-m", "2G", "--machine", "virt"],
    ["-device", "edu", "-m", "2G", "qemu-system-aarch64", "-M", "virt", "-nodefaults"],
    ["-m", "2G", "--", "-M", "virt"],
  ])("takes QEMU's options in any order: %s %s %s %s", async (...args) => {
    const { code, out } = await viommu("run", "--guest", "none", ...args);
    expect(code).toBe(0);
    expect(out).toContain("memory        2 GiB, 1 CPU");
  });

  it("keeps the order of devices that stand before and behind the machine", async () => {
    const { out } = await viommu("run", "--guest", "none", "--json", "-device", "edu,id=a", "-M", "virt", "-device", "edu,id=b");
    expect((JSON.parse(out) as { machine: { functions: Array<{ id: string; bdf: string }> } }).machine.functions.map(({ id, bdf }) => [id, bdf])).toEqual([["a", "00:01.0"], ["b", "00:02.0"]]);
  });

  it("tells which of its own options have no effect on the machine", async () => {
    const notes = async (...words: string[]): Promise<string[]> => {
      const { code, out } = await viommu("run", "--guest", "none", "--json", ...words);
      expect(code).toBe(0);
      return (JSON.parse(out) as { notes: string[] }).notes;
    };
    const q35 = ["--", "-M", "q35", "-nodefaults"];
    const virt = ["--", "-M", "virt", "-nodefaults"];
    expect(await notes(...q35)).toEqual([]);
    expect(await notes("--firmware", "acpi", "--granule", "4K", "--kexec", "sm_off", ...q35)).toEqual([]);
    expect(await notes("--firmware", "dt", "--granule", "16K", ...q35)).toEqual([
      "--firmware dt: it has no effect here, a q35 has no device tree, its guest takes ACPI's tables",
      "--granule 16K: it has no effect here, page tables of a q35's guest have pages of 4 KiB",
    ]);
    expect(await notes("--intel-iommu", "sm_off", "--kexec", "sm_off", ...virt, "-no-reboot")).toEqual([
      "-no-reboot: only a monitor's system_reset heeds it, and there is no monitor",
      "--intel-iommu: it has no effect here, a virt has no VT-d",
      "--kexec: it has no effect here, a virt has no VT-d",
    ]);
  });

  it("takes older spellings of the IOMMUs' properties, and tells today's", async () => {
    const words = ["-M", "q35,kernel-irqchip=split", "-m", "1G", "-nodefaults", "-device", "intel-iommu,caching-mode=on,dma-drain=on,pt=on,x-scalable-mode=modern,x-cap-fs1gp=on,x-buggy-eim=off,device-iotlb=on,aw-bits=48"];
    const { code, out } = await viommu("run", "--guest", "none", "--json", "--", ...words);
    expect(code).toBe(0);
    const report = JSON.parse(out) as { notes: string[]; machine: { iommus: Array<{ features: unknown }> } };
    expect(report.notes).toEqual([
      "intel-iommu: dma-drain=on is of an older version; it has no effect, draining is always offered",
      "intel-iommu: pt=on is of an older version; it has no effect, pass-through is always offered",
      "intel-iommu: x-scalable-mode=modern is of an older version; taken as scalable-mode=on,fsts=on",
      "intel-iommu: x-cap-fs1gp=on is of an older version; taken as fs1gp=on",
      "intel-iommu: x-buggy-eim=off is of an older version; it has no effect, eim=on says what it was for",
    ]);
    expect(report.machine.iommus[0].features).toMatchObject({ scalableMode: true, fsts: true, fs1gp: true });
    const legacy = await viommu("run", "--guest", "none", "--json", "--", "-M", "q35", "-nodefaults", "-device", "intel-iommu,x-scalable-mode=legacy");
    expect(JSON.parse(legacy.out)).toMatchObject({ machine: { iommus: [{ features: { scalableMode: true, fsts: false } }] } });
    const smmu = await viommu("run", "--guest", "none", "--json", "--", "-machine", "hmat=on", "-M", "virt", "-nodefaults", "-device", "arm-smmuv3,primary-bus=pcie.0,pasid=off");
    expect(JSON.parse(smmu.out)).toMatchObject({ notes: ["arm-smmuv3: pasid=off is of an older version; taken as ssidsize=0"] });
  });

  it("tells an IOMMU's buses without those that bypass it", async () => {
    const machine = ["-M", "q35,default_bus_bypass_iommu=on,kernel-irqchip=split", "-nodefaults", "-device", "intel-iommu"];
    const { out } = await viommu("run", "--guest", "none", "--", ...machine);
    expect(out).toMatch(/covers\s+no\s+bus;/);
    expect((await viommu("run", "--guest", "none", "--", ...machine, "-device", "pxb-pcie,id=p,bus_nr=16")).out).toMatch(/covers\s+p;/);
  });

  it("shows traces, and warns of patterns that no event has", async () => {
    const { code, out, err } = await viommu("run", "--trace", "smmuv3_write_mmio", "--trace", "nope_*", "--json", "--", "-M", "virt", "-nodefaults", "-device", "arm-smmuv3,primary-bus=pcie.0");
    expect(code).toBe(0);
    expect(err).toMatch(/^viommu: warning: trace event 'nope_\*' does not exist\nsmmuv3_write_mmio /);
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
      const quiet = await viommu("run", "--quiet", "--guest", script, "--", "-M", "virt", "-nodefaults");
      expect(quiet).toMatchObject({ code: 1, out: "" });
      expect(quiet.err).toMatch(/^viommu: failed: .+\n$/);
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
      expect(readdirSync(join(folder, "deep/er")).sort()).toEqual(["APIC.aml", "DSDT.aml", "FACP.aml", "GTDT.aml", "IORT.aml", "MCFG.aml", "RSDP.aml", "SPCR.aml", "XSDT.aml", "virt.dtb"]);
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
    expect((await viommu("hosts")).out).toMatch(/^[a-z-]+: 1 (?:SMMU|VT-d unit), /m);
    const schema = JSON.parse((await viommu("hosts", "--schema")).out) as { properties: Record<string, unknown>; required: string[] };
    expect([Object.keys(schema.properties).slice(0, 3), schema.required]).toEqual([["$schema", "name", "memory"], ["name", "memory", "functions"]]);
    for (const words of [["--help"], ["run", "--help"], ["guest", "--help"], ["tables", "--help"], ["device", "--help"], ["completion", "--help"], ["--version"], ["-V"], ["devices"], ["device", "arm-smmuv3"], ["device", "virtio-net-pci"], ["hosts"], ["hosts", "grace"]]) {
      const { code, out } = await viommu(...words);
      expect(code).toBe(0);
      expect(out.length).toBeGreaterThan(4);
      expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
    }
  });
});
