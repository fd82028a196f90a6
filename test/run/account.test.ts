import { describe, expect, it } from "vitest";
import { formatAccount, machineTree, type RunReport } from "../../src/run/index.js";
import { byteText, wrap } from "../../src/support/index.js";

const machine: RunReport["machine"] = {
  type: "virt-11.1",
  name: null,
  cpu: null,
  cpus: 1,
  memory: 2 ** 30,
  gicVersion: 3,
  msiController: "its",
  iommus: [
    { id: "smmu1", bus: "pcie.1", accel: true, hostIommu: "smmu3.0x0000000016600000", legacy: false, base: "0xc000000", interrupts: [144, 145, 146, 147], bindings: [],
      features: { stage: "1", ril: true, ats: false, oas: 48, ssidsize: 0, msi: true } },
  ],
  functions: [
    { id: "pcie.1", model: "pxb-pcie", bus: "pcie.0", secondaryBuses: ["pcie.1"], bdf: "00:01.0", streamId: null, host: null, iommu: null, addressSpace: "memory", modelled: true },
    { id: "rp1", model: "pcie-root-port", bus: "pcie.1", secondaryBuses: ["rp1"], bdf: "10:00.0", streamId: 0x1000, host: null, iommu: "smmu1", addressSpace: "smmuv3-iommu-memory-region-0-pcie.1", modelled: true },
    { id: "gpu0", model: "vfio-pci", bus: "rp1", secondaryBuses: [], bdf: "11:00.0", streamId: 0x1100, host: "0009:01:00.0", iommu: "smmu1", addressSpace: "smmuv3-accel-as-sysmem", modelled: true },
    { id: "", model: "e1000e", bus: "pcie.0", secondaryBuses: [], bdf: "00:02.0", streamId: null, host: null, iommu: null, addressSpace: "memory", modelled: true },
  ],
  buses: [
    { id: "pcie.0", number: 0, iommu: null, bypassIommu: false, numaNode: null, bridge: null },
    { id: "pcie.1", number: 16, iommu: "smmu1", bypassIommu: false, numaNode: 1, bridge: "00:01.0" },
    { id: "rp1", number: 17, iommu: null, bypassIommu: false, numaNode: null, bridge: "10:00.0" },
  ],
  otherDevices: [],
};

const report: RunReport = {
  recording: null,
  ok: true,
  failure: null,
  host: "simulated: grace",
  machine,
  kernel: null,
  guest: { name: "linux", ok: true, dmaChecked: 4096, said: ["CAP 0x1\nECAP 0x2 ".repeat(9)], steps: [{ name: "boot", ok: true, skipped: null, detail: "a detail of many words ".repeat(12) }, { name: "ATS", ok: true, skipped: "none", detail: "" }, { name: "bad", ok: false, skipped: null, detail: "no\nreally" }] },
  dma: { ofHost: true, transactions: 3, bytes: 4096, faults: 1, functions: [] },
  events: [{ iommu: "smmu1", name: "F_TRANSLATION", number: 16, streamId: 1, substreamId: null, inputAddress: "0x0", ipa: "0x0", read: true, stage2: false }],
  msi: { delivered: 2, routes: [{ function: "gpu0", vector: 0, iova: "0xfffdf040", doorbell: "0x8090040", data: 1, direct: true, delivered: 2 }] },
  invalidation: { guestCommands: 9, forwarded: 8, hostCalls: 2, iommus: [] },
  hostCalls: { HWPT_ALLOC: 3 },
  hostObjects: { created: 5, freed: 5, alive: 0 },
  warnings: Array.from({ length: 20 }, (_unused, i) => `warning ${i}`),
  notes: ["-bios x: it has no effect here"],
};

describe("the tree", () => {
  it("shows which SMMU covers which bus and who serves it", () => {
    expect(machineTree(machine, 100)).toEqual([
      "pcie.0 (bus 00)",
      "|- 00:01.0 pxb-pcie pcie.1",
      "|  pcie.1 (bus 10, NUMA node 1) behind smmu1 accel, on host smmu3.0x0000000016600000",
      "|  `- 10:00.0 pcie-root-port rp1 StreamID 0x1000",
      "|     rp1 (bus 11)",
      "|     `- 11:00.0 vfio-pci gpu0 = host 0009:01:00.0 StreamID 0x1100 -> smmuv3-accel-as-sysmem",
      "`- 00:02.0 e1000e -> memory",
    ]);
  });

  it("keeps to the width", () => {
    for (const width of [50, 60, 78]) {
      expect(machineTree(machine, width).filter((line) => line.length > width)).toEqual([]);
    }
  });
});

describe("the account for people", () => {
  it("keeps to 80 columns and has no colours where none are wanted", () => {
    const text = formatAccount(report, { color: false });
    expect(text.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(text).not.toContain("\x1b");
    expect(text).toContain("invalidation  9 guest commands in, 8 done by hosts in 2 calls");
    expect(text).toContain("events        F_TRANSLATION (smmu1)");
    expect(text).toMatch(/0xfffdf040 to 0x8090040\s+\(told by the SMMU\)/);
    expect(text).toContain("and 8 more (--json has all)");
    expect(text).toContain("skip ATS: none");
    expect(text).toContain("  said CAP 0x1 ECAP 0x2 CAP 0x1");
    expect(text).toContain("FAIL bad: no really");
    expect(formatAccount(report, { color: true })).toContain("\x1b[");
  });

  it("says which functions are blocked at the end, and why, of whatever architecture", () => {
    const binding = { pasid: null, hwpt: null, domain: null, hostIommu: null };
    const iommus: RunReport["machine"]["iommus"] = [
      { ...machine.iommus[0], bindings: [
        { ...binding, function: "gpu0", table: "abort", reason: "StreamID 0x900 is beyond the stream table: C_BAD_STREAMID (IHI 0070, 6.3.25 and 7.3.3)" },
        { ...binding, function: "gpu1", table: "nested", reason: null, hwpt: 7 },
      ] },
      { ...machine.iommus[0], id: "iommu0", bindings: [
        { ...binding, function: "nic1", table: "blocked", reason: "SM_PASID_NOT_PRESENT (fault reason 0x59)" },
        { ...binding, function: "nic2", pasid: 9, table: "blocked", reason: "SM_PASID_NOT_PRESENT (fault reason 0x59)" },
      ] },
    ];
    const text = formatAccount({ ...report, machine: { ...machine, iommus } }, { color: false });
    expect(text.split("\n").filter((line, index, lines) => /^ {2}blocked/.test(line) || /^ {2}blocked/.test(lines[index - 1]) || line.includes("SM_PASID"))).toEqual([
      "  blocked       gpu0 at the end: StreamID 0x900 is beyond the stream table:",
      "                  C_BAD_STREAMID (IHI 0070, 6.3.25 and 7.3.3)",
      "                nic1, nic2 PASID 9 at the end: SM_PASID_NOT_PRESENT (fault",
    ]);
    expect(formatAccount(report, { color: false })).not.toContain("blocked");
  });

  it("tells what a kernel's vCPUs did, and what its invalidations cost", () => {
    const kernel: RunReport["kernel"] = {
      end: "power-off", reason: null, panics: [], vcpus: 2, exits: { IO: 100, MMIO: 20 }, exitsByDevice: { serial: 100, smmu1: 18, "pcie-ecam": 2 },
      perThousandInvalidations: { exits: 2000, hostCalls: 222 }, keptWrites: 0, registerPages: 2, runs: 121, bootMs: 1234, runMs: 5000, vcpuMs: 3000, resets: 1, consoleBytes: 90,
    };
    const text = formatAccount({ ...report, guest: null, kernel }, { color: false });
    expect(text.slice(text.indexOf("Guest kernel"), text.indexOf("What happened")).trimEnd().split("\n")).toEqual([
      "Guest kernel",
      "  end           power-off, after 5.0 s, 1 reset",
      "  boot          1.2 s to its first program",
      "  vCPUs         2 vCPUs, 3.0 s of processor time, KVM_RUN 121",
      "  exits         IO 100, MMIO 20; registers of 2 IOMMUs read as memory",
      "  devices       serial 100, smmu1 18, pcie-ecam 2",
      "  invalidating  2000 exits and 222 host calls for each 1000 of the guest's",
      "                  commands",
    ]);
  });

  it("ends with why it failed", () => {
    expect(formatAccount({ ...report, ok: false, failure: "it did" }, { color: false }).trimEnd().endsWith("failed: it did")).toBe(true);
  });
});

describe("text", () => {
  it("is broken at spaces, a continued line two columns shorter", () => {
    expect(wrap("aa bb cc dd", 5)).toEqual(["aa bb", "cc", "dd"]);
    expect(wrap("aaaaaaaaaa b", 5)).toEqual(["aaaaaaaaaa", "b"]);
    expect(wrap("", 5)).toEqual([""]);
  });

  it("has sizes in the largest unit", () => {
    expect([0, 1023, 1024, 1536, 2 ** 40].map(byteText)).toEqual(["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "1 TiB"]);
  });
});
