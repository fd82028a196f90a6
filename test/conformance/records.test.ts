/** The simulated kernel beside the records: what it answers otherwise than Linux is a row with a reason, or a fault. */
import { describe, expect, test } from "vitest";
import { compare, groups, loadRecord, makeRecord, packagedRecords, recordFor, runSuite, type ConformanceRecord, type Difference } from "../../src/conformance/index.js";
import { createSimulatedHost, describeHost, type SimulatedHost } from "../../src/host/simulated/index.js";
import { A, B, makeHost, OTHER } from "../host/kernel/rig.js";

const kernels = ["7.2", "7.3"] as const;

/** The lab's x86 machine: QEMU's VT-d in legacy mode. */
function makeVtdHost(): SimulatedHost {
  const vtd = { name: "dmar0", base: 0xfed9_0000, sagaw: [39, 48] as Array<39 | 48>, mgaw: 48, secondStagePages: ["2M" as const, "1G" as const], coherentWalks: false, snoopControl: false, scalableMode: false };
  const shared = { vendor: 0x1b36, device: 0x10, class: 0x01_0802, vtd: "dmar0", bars: [{ index: 0, size: "64K" }], msixVectors: 65 };
  const functions = [A, B].map((address, n) => ({ address, name: `NVMe ${n}`, ...shared }));
  return createSimulatedHost(describeHost({ name: "lab-x86", kernel: "7.3", memory: [{ numaNode: 0, base: 0x1_0000_0000, size: "4G" }], smmus: [], vtds: [vtd], functions }));
}

/** The suite on the simulated host that is the machine of the records. */
function record(kernel: (typeof kernels)[number], host = makeHost({}, {}, kernel), devices: readonly string[] = [A, B, OTHER]): ConformanceRecord {
  const run = runSuite(host, { devices, reset: true, illegal: true });
  expect(host.liveObjects(), "what the suite leaves").toEqual([]);
  host.close();
  return makeRecord(run, { kernel: { release: kernel, simulated: true, machine: "", parameters: {} }, host: host.description, device: { vendor: 0x1b36, device: 0x10, class: 0x01_0802 } });
}

const text = ({ group, call, recorded, answered }: Difference): string => `${group}: ${call} | ${recorded} | ${answered}`;

describe.each(kernels)("the simulated kernel as Linux %s", (kernel) => {
  test("answers as Linux did, or otherwise for a reason", () => {
    const run = record(kernel);
    const { differences, groups: compared } = compare(loadRecord(recordFor(kernel, "smmuv3")!), run);
    expect(differences.filter(({ reason }) => reason === null).map(text)).toEqual([]);
    expect(differences.length, "known differences are few").toBeLessThan(20);
    expect(compared.reduce((sum, group) => sum + group.equal, 0)).toBeGreaterThan(1000);
  });
});

test("the simulated kernel with a VT-d unit that does not nest answers as Linux 7.3 did, or otherwise for a reason", () => {
  const run = record("7.3", makeVtdHost(), [A, B]);
  const { differences, groups: compared } = compare(loadRecord(recordFor("7.3.4", "vtd")!), run);
  expect(differences.filter(({ reason }) => reason === null).map(text)).toEqual([]);
  expect(compared.reduce((sum, group) => sum + group.equal, 0)).toBeGreaterThan(750);
});

test("the suite has several hundred calls, of names that no two groups share", () => {
  const run = record("7.3");
  const made = run.groups.flatMap((group) => ("answers" in group ? Object.keys(group.answers) : []));
  expect(made.length).toBeGreaterThan(1100);
  expect(new Set(groups.map(({ name }) => name)).size).toBe(groups.length);
  expect(run.groups.flatMap((group) => ("answers" in group ? Object.entries(group.answers) : [])).filter(([, answer]) => /^(threw|refused)/.test(answer))).toEqual([]);
});

test("a record of the running version, else of the one before, else the oldest", () => {
  expect(packagedRecords()).toContain("linux-7.3-smmuv3");
  expect(recordFor("7.3.4", "smmuv3")).toBe("linux-7.3-smmuv3");
  expect(recordFor("7.2.1-cloud-arm64", "smmuv3")).toBe("linux-7.2-smmuv3");
  expect(recordFor("9.0.0", "smmuv3")).toBe("linux-7.3-smmuv3");
  expect(recordFor("6.12.0", "smmuv3")).toBe("linux-7.2-smmuv3");
  expect(recordFor("7.3.4", "other")).toBeNull();
});
