import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadRecord, type ConformanceRecord } from "../../src/conformance/index.js";
import { viommu } from "./streams.js";

const DEVICE = ["--device", "0000:01:00.0"];
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "viommu-conformance-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("viommu conformance", () => {
  it("prints a record by --json, which it then is equal to", async () => {
    const first = await viommu("conformance", ...DEVICE, "--device", "0000:02:00.0", "--json");
    expect(first.err).toBe("");
    const path = join(folder, "first.json");
    writeFileSync(path, first.out);
    const record = loadRecord(path);
    expect(record.kernel).toEqual({ release: "7.3", simulated: true, machine: "", parameters: {} });
    expect(record.facts).toMatchObject({ iommu: "smmuv3", nesting: true });
    expect(record.device).toEqual({ vendor: 0x1b36, device: 0x10, class: 0x01_0802 });
    expect(record.groups.find(({ name }) => name === "other SMMU")).toEqual({ name: "other SMMU", notRun: "no --device names a function behind another IOMMU" });
    const { code, out } = await viommu("conformance", ...DEVICE, "--device", "0000:02:00.0", "--compare", path);
    expect(code).toBe(0);
    expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(out).toContain("Kernel: simulated: board, as Linux 7.3\nFunction: 0000:01:00.0 (1b36:0010)\n");
    expect(out).toContain("the kernel answers as recorded");
    expect(out).not.toContain("differ,");
  });

  it("ends with 1 where an answer differs for no reason, and tells of it first", async () => {
    const path = join(folder, "other.json");
    const changed = JSON.parse((await viommu("conformance", ...DEVICE, "--json")).out) as { groups: Array<{ name: string; answers?: Record<string, string> }> };
    changed.groups.find(({ name }) => name === "ioas")!.answers!["map length 0"] = "ok iova=0x60000000";
    writeFileSync(path, JSON.stringify(changed));
    const { code, out } = await viommu("conformance", ...DEVICE, "--compare", path);
    expect(code).toBe(1);
    expect(out).toContain(
      "1 answer differs, and no reason is known:\n  ioas: map length 0\n    recorded  ok iova=0x60000000\n    answered  EINVAL\n",
    );
  });

  it("tells of a difference that is known as such", async () => {
    const { out } = await viommu("conformance", ...DEVICE, "--compare", "linux-7.2-smmuv3");
    expect(out).toMatch(/from 7\.3 on the kernel judges commands[^]*TLBI_NH_VA with SSEC/);
  });

  it("takes the record of the host's kind of IOMMU, and knows that another IOMMU has other address ranges", async () => {
    const { code, out } = await viommu("conformance", "--host", "desktop", "--device", "0000:01:00.0");
    expect(out).toContain("Compared with linux-7.3-vtd:");
    expect(out).toMatch(/ioas: ranges after attach/);
    expect(code).toBe(0);
    expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });

  it.each([
    [["--device", "0000:77:00.0"], /not bound to vfio-pci\n {2}found: there is no such function on simulated: board\n {2}would work: 0000:01:00\.0/],
    [[], /no function to test\n {2}would work: --device and the address of one that is bound to vfio-pci:\n {4}0000:01:00\.0/],
    [[...DEVICE, ...DEVICE], /--device 0000:01:00\.0: given twice/],
    [[...DEVICE, "--compare", "nowhere"], /Could not open 'nowhere'[^]*would work: a file that --json has made, or one of linux-7\.2-smmuv3/],
    [[...DEVICE, "--compare", "package.json"], /package\.json is no conformance record/],
    [[...DEVICE, "--compare", "README.md"], /README\.md is no conformance record/],
    [["--host", "moon", ...DEVICE], /Could not open 'moon'/],
  ])("refuses %j with 2", async (words, message) => {
    const { code, err } = await viommu("conformance", ...words);
    expect([code, err]).toEqual([2, expect.stringMatching(message) as unknown]);
  });
});

it("the package's records are as --json prints them", () => {
  for (const name of ["linux-7.2-smmuv3", "linux-7.3-smmuv3", "linux-7.3-vtd"]) {
    const record: ConformanceRecord = loadRecord(name);
    expect(readFileSync(`conformance/${name}.json`, "utf8")).toBe(`${JSON.stringify(record, null, 2)}\n`);
  }
});
