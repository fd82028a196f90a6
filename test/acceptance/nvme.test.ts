import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { reportSchema } from "../../src/run/report/index.js";
import { viommu } from "../cli/streams.js";

const examples = fileURLToPath(new URL("../../examples/", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "viommu-nvme-"));
afterAll(() => rmSync(folder, { recursive: true }));

const GUEST = ["--guest", join(examples, "guests/nvme-write.mjs")];
const text = (path: string): string => readFileSync(path).toString("latin1").replace(/\0+$/, "");

it("a guest's write through an accelerated SMMU is found in the file of the host's NVMe", async () => {
  cpSync(join(examples, "nvme-host.json"), join(folder, "host.json"));
  const input = readFileSync(join(folder, "host.json"), "utf8");
  writeFileSync(join(folder, "host.json"), input.replace('{ "memory": "64M" }', '{ "file": "disk.raw" }'));
  const disk = join(folder, "disk.raw");
  writeFileSync(disk, new Uint8Array(1 << 20));
  const { code, out } = await viommu("run", "--json", "--host", join(folder, "host.json"), ...GUEST, join(examples, "nvme-behind-smmu.args"));
  const report = reportSchema.parse(JSON.parse(out));
  expect(report).toMatchObject({ ok: true, failure: null, hostObjects: { alive: 0 } });
  expect(code).toBe(0);
  expect(text(disk)).toMatch(/^written through smmuv3@\w+ by 11:00\.0$/);
  expect(readFileSync(disk)).toHaveLength(1 << 20);
});

it.each([
  ["an SMMU", ["-M", "virt,gic-version=3,iommu=smmuv3"], /^written through smmuv3@\w+ by 00:01\.0$/],
  ["VT-d", ["-M", "q35", "-device", "intel-iommu"], /^written through vtd@\w+ by 00:01\.0$/],
  ["nothing", ["-M", "q35"], /^written through no IOMMU by 00:01\.0$/],
])("a guest's write through %s is found in the file of -drive", async (_name, machine, expected) => {
  const disk = join(folder, "drive.raw");
  writeFileSync(disk, new Uint8Array(1 << 20));
  const drive = ["-nodefaults", "-m", "256", "-drive", `file=${disk},format=raw,if=none,id=d`, "-device", "nvme,drive=d,serial=1"];
  const { code, out, err } = await viommu("run", ...GUEST, "--", ...machine, ...drive);
  expect(err).toBe("");
  expect(out).toContain("ok   1b36:0010 at 00:01.0: a block of 512 bytes");
  expect(code).toBe(0);
  expect(text(disk)).toMatch(expected);
});

it("a file that is not there ends the command with exit code 2", async () => {
  const { code, err } = await viommu("run", "-M", "virt", "-nodefaults", "-drive", `file=${folder}/none.raw,format=raw,if=none,id=d`, "-device", "nvme,drive=d,serial=1");
  expect(code).toBe(2);
  expect(err).toContain(`Could not open '${folder}/none.raw': No such file or directory`);
});
