/** `viommu host` on captures, and on the machine that the tests run on, whatever that is. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { describeSnapshot, readCapture } from "../../src/host/described/index.js";
import { loadHostDescription } from "../../src/host/simulated/index.js";
import { CAPTURES, captures } from "../host/captures/index.js";
import { viommu } from "./streams.js";

const of = (name: string): string => `examples/captures/${name}.tar.zst`;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "host-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

it.each(CAPTURES)("examples/captures has the %s of the tests (VIOMMU_WRITE_CAPTURES=1 writes it)", async (name) => {
  if (process.env.VIOMMU_WRITE_CAPTURES === "1") {
    const { pack } = await import("../../src/host/sysfs/index.js");
    writeFileSync(of(name), await pack(captures[name]()));
  }
  expect(describeSnapshot(await readCapture(of(name)))).toEqual(describeSnapshot(captures[name]()));
});

describe("viommu host", () => {
  it("tells of this machine without a fault, and writes a file that --host takes", async () => {
    const text = await viommu("host");
    expect([text.code, text.err]).toEqual([0, ""]);
    expect(text.out).toContain(", Linux ");
    const file = join(folder, "here.json");
    expect((await viommu("host", "-o", file)).code).toBe(0);
    expect(loadHostDescription(readFileSync(file, "utf8"), file).name).toBe(text.out.split("\n")[0]);
    const doctor = await viommu("host", "--doctor", "--json");
    const { findings } = JSON.parse(doctor.out) as { findings: Array<{ level: string }> };
    expect(doctor.code).toBe(findings.some(({ level }) => level === "error") ? 1 : 0);
  });

  it("makes a capture that is read again", async () => {
    const file = join(folder, "here.tar.zst");
    expect((await viommu("host", "--capture", file)).out).toMatch(/here\.tar\.zst: \d+ files, folders and links in \d+ bytes/);
    const [here, again] = [await viommu("host", "--json"), await viommu("host", "--json", "--sysfs", file)];
    expect(again.out).toBe(here.out);
    const copy = join(folder, "copy.tar.zst");
    await viommu("host", "--capture", copy, "--sysfs", of("xeon"));
    expect(describeSnapshot(await readCapture(copy))).toEqual(describeSnapshot(captures.xeon()));
  });

  it("writes host files on which machines run, and is a host file itself for --host", async () => {
    const file = join(folder, "xeon.json");
    expect((await viommu("host", "--sysfs", of("xeon"), "-o", file)).code).toBe(0);
    const words = ["--quiet", "--guest", "none", "--", "-M", "q35", "-object", "iommufd,id=i", "-device", "vfio-pci,host=0000:38:00.1,iommufd=i"];
    for (const host of [file, of("xeon")]) {
      const { code, err } = await viommu("run", "--host", host, ...words);
      expect([code, err]).toEqual([0, ""]);
    }
    const group = await viommu("run", "--host", of("xeon"), ...words.slice(0, -1), "vfio-pci,host=0000:18:00.0,iommufd=i");
    expect([group.code, group.err]).toEqual([2, expect.stringContaining("group 0 is not viable: 0000:19:00.0 (nvidia) in it")]);
  });

  it("examines with exit codes for scripts", async () => {
    const grace = await viommu("host", "--sysfs", of("grace"), "--doctor", "--device", "9:1:0.0", "--memory", "64G");
    expect([grace.code, grace.out]).toEqual([0, "aarch64, Linux 7.3.4-64k: nothing is in the way of passing functions through with a virtual IOMMU\n"]);
    const desktop = await viommu("host", "--sysfs", of("desktop"), "--doctor", "--json", "--device", "01:00.0");
    const { host, findings } = JSON.parse(desktop.out) as { host: string; findings: Array<Record<string, unknown>> };
    expect([desktop.code, host]).toEqual([1, "x86_64, Linux 6.12.48+deb13-amd64"]);
    expect(Object.keys(findings[0]).sort()).toEqual(["found", "level", "place", "rule", "words", "wouldWork"]);
    const missing = await viommu("host", "--sysfs", join(folder, "nowhere.tar.zst"), "--doctor");
    expect([missing.code, missing.err]).toEqual([2, expect.stringContaining("No such file or directory")]);
  });

  it("writes ResourceSlices", async () => {
    const file = join(folder, "slices.yaml");
    const { code } = await viommu("host", "--sysfs", of("epyc"), "--format", "dra", "--node", "worker-1", "-o", file);
    expect(code).toBe(0);
    expect(parseAllDocuments(readFileSync(file, "utf8"))[0].toJS()).toMatchObject({ kind: "ResourceSlice", spec: { driver: "viommu.dev", nodeName: "worker-1", pool: { name: "worker-1" } } });
  });

  it.each([
    [["--doctor", "--capture", "x"], "--capture and --doctor do not go together"],
    [["--doctor", "--format", "dra"], "--doctor and --format do not go together"],
    [["--device", "01:00.0"], "--device is for --doctor"],
    [["--memory", "4G"], "--memory is for --doctor"],
    [["--doctor", "--device", "eth0"], "--device eth0: no PCI address"],
    [["--doctor", "--memory", "much"], "Parameter 'memory' expects"],
    [["--format", "xml"], "option '--format <dra>' argument 'xml' is invalid"],
    [["-o", "/nowhere/x.json"], "Could not open '/nowhere/x.json': No such file or directory"],
  ])("refuses %j", async (words, message) => {
    const { code, err } = await viommu("host", ...words);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });

  it("and viommu hosts name one another", async () => {
    expect((await viommu("host", "--help")).out).toContain("viommu hosts lists the simulated hosts");
    expect((await viommu("hosts", "--help")).out).toContain("viommu host describes the machine that it runs on");
  });
});
