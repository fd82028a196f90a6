import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import { openRecording } from "../../src/inspect/recording/index.js";
import type { RunReport } from "../../src/run/index.js";
import { viommu } from "./streams.js";

const folder = mkdtempSync(path.join(tmpdir(), "viommu-record-"));
afterAll(() => rmSync(folder, { recursive: true }));

const MACHINE = ["-M", "virt,gic-version=3", "-m", "1G", "-nodefaults", "-device", "arm-smmuv3,primary-bus=pcie.0,id=smmu0", "-device", "edu,id=edu0"];

it("viommu run --record writes a recording, and the account tells of it", async () => {
  const file = path.join(folder, "one.viommu");
  const args = path.join(folder, "machine.args");
  writeFileSync(args, `${MACHINE.join(" ")} -name guest=some\n`);
  const { code, out, err } = await viommu("run", "--record", file, "--json", args);
  expect(err).toBe("");
  expect(code).toBe(0);
  const { recording: told } = JSON.parse(out) as RunReport;
  const recording = await openRecording(readFileSync(file));
  expect(told).toEqual({ rows: recording.last, bytes: statSync(file).size, complete: true, reason: "the machine has ended" });
  expect(recording.header).toMatchObject({ machine: [...MACHINE, "-name", "guest=some"], host: expect.stringContaining("simulated") as string });
  const { rows } = await recording.rows(0);
  expect([rows[0], rows.at(-1)]).toMatchObject([{ name: "RECORDING", words: "begins" }, recording.last > 1000 ? {} : { name: "RECORDING", words: "ends" }]);
  expect(new Set((await recording.rows(null)).rows.map(({ kind }) => kind))).toContain("dma");
  expect((await recording.at(recording.last)).map().functions.map(({ function: name }) => name)).toContain("edu0");
  expect((await recording.numbersOverTime()).at(-1)!.rows[0].dma).toBeGreaterThan(0);
});

it("ends a recording at its limit, and says so; the run goes on", async () => {
  const file = path.join(folder, "small.viommu");
  const { code, out, err } = await viommu("run", "--record", file, "--record-limit", "16K", "--json", "--", ...MACHINE.slice(0, -2), "-device", "iommu-testdev,id=t0", "-device", "edu,id=edu0");
  const report = JSON.parse(out) as RunReport;
  expect(code).toBe(report.ok ? 0 : 1);
  expect(statSync(file).size).toBeLessThanOrEqual(16384);
  expect(report.recording).toMatchObject({ complete: false, reason: "the limit of 16384 bytes is reached" });
  expect(report.warnings.filter((text) => text.includes("has reached its limit"))).toHaveLength(1);
  expect(err).toMatch(/^viommu: warning: the recording has reached its limit of 16384 bytes: it ends with row \d+, and the machine goes on$/m);
  const recording = await openRecording(readFileSync(file));
  expect(recording.end).toEqual({ reason: "the limit of 16384 bytes is reached", limited: true });
  expect(recording.last).toBe(report.recording!.rows);
});

it("refuses a file that cannot be written before anything is made, and leaves none where the machine is refused", async () => {
  const { code, err } = await viommu("run", "--record", path.join(folder, "nowhere", "x"), "--", ...MACHINE);
  expect(code).toBe(2);
  expect(err).toMatch(/could not open the recording '.*nowhere\/x': No such file or directory/);
  const before = readdirSync(folder);
  const refused = await viommu("run", "--record", path.join(folder, "left"), "--", ...MACHINE.map((word) => word.replace("arm-smmuv3,", "arm-smmuv3,accel=on,")));
  expect(refused.code).toBe(2);
  expect(readdirSync(folder)).toEqual(before);
  expect((await viommu("run", "--record-limit", "1M", "--", ...MACHINE)).err).toMatch(/--record-limit is of a recording/);
  expect((await viommu("run", "--record", "x", "--record-limit", "few", "--", ...MACHINE)).code).toBe(2);
});
