/** The linux guest on machines of every shape: it has to end well, and leave out only what the machine has not. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { linux, type GuestOptions, type GuestReport } from "../../src/guest/index.js";
import { createSimulatedHost, describeHost, type HostDescriptionInput } from "../../src/host/simulated/index.js";
import { parseArguments, splitWords } from "../../src/machine/arguments/index.js";
import { Machine } from "../../src/machine/index.js";
import { Log } from "../../src/support/index.js";
import { contextFor, runLinux } from "./end-to-end.js";

const START = "-M virt,gic-version=3 -m 1G -nodefaults -object iommufd,id=iommufd0";
const vfio = (host: string, bus: string, id: string): string => `vfio-pci,host=${host},bus=${bus},iommufd=iommufd0,id=${id}`;
const EXPANDER = `${START} -device pxb-pcie,id=p1,bus_nr=0x10,bus=pcie.0 -device arm-smmuv3,primary-bus=p1,id=s1,accel=on`;

const outcome = (report: GuestReport): unknown => ({
  ok: report.ok,
  failed: report.steps.filter((step) => !step.ok),
  skipped: report.steps.filter((step) => step.skipped !== undefined).map((step) => step.name),
});
const well = (skipped: string[] = []): unknown => ({ ok: true, failed: [], skipped });

const NO_SUBSTREAMS = ["PASIDs", "ATS"];
const SWITCH = `${EXPANDER} -device pcie-root-port,id=rp,bus=p1,chassis=1 -device x3130-upstream,id=up,bus=rp -device xio3130-downstream,id=d1,bus=up,chassis=2,slot=1`;

describe("the linux guest", () => {
  it.each<[string, string, string, Partial<GuestOptions>, string[]]>([
    [
      "functions below a switch, one unplugged there",
      "grace",
      `${SWITCH} -device xio3130-downstream,id=d2,bus=up,chassis=3,slot=2,addr=1 -device ${vfio("0008:01:00.0", "d1", "g")} -device ${vfio("0008:02:00.0", "d2", "n")}`,
      { hotplug: [{ id: "n", argument: vfio("0008:02:00.0", "d2", "n") }] },
      [],
    ],
    [
      "a switch below a switch",
      "arm-small",
      `${SWITCH} -device x3130-upstream,id=up2,bus=d1 -device xio3130-downstream,id=d3,bus=up2,chassis=4,slot=3 -device ${vfio("0000:01:00.0", "d3", "n")}`,
      { firmware: "acpi", hotplug: [{ id: "n", argument: vfio("0000:01:00.0", "d3", "n") }] },
      NO_SUBSTREAMS,
    ],
    [
      "a function below a conventional bridge, which has the bridge's StreamID",
      "arm-small",
      `${START} -device arm-smmuv3,primary-bus=pcie.0,id=s,accel=on -device pcie-pci-bridge,id=br,bus=pcie.0 -device ${vfio("0000:01:00.0", "br", "n")},addr=1`,
      {},
      // On a conventional bus below an express root its PCI Express capability is hidden, and with it the reset.
      [...NO_SUBSTREAMS, "function level reset", "unplug and plug"],
    ],
    [
      "emulated functions below bridges below ports",
      "board",
      "-M virt,gic-version=3 -m 512 -nodefaults -device arm-smmuv3,primary-bus=pcie.0 -device pcie-root-port,id=rp,chassis=1 -device pcie-pci-bridge,id=br,bus=rp " +
        "-device edu,bus=br,addr=1 -device iommu-testdev,bus=br,addr=2 -device pcie-pci-bridge,id=br2,bus=br,addr=3 -device edu,bus=br2,addr=1",
      { granule: 16384 },
      [...NO_SUBSTREAMS, "function level reset", "unplug and plug"],
    ],
    [
      "an integrated endpoint and a multi-function device",
      "arm-small",
      `${START} -device arm-smmuv3,primary-bus=pcie.0,id=s,accel=on -device ${vfio("0000:02:00.0", "pcie.0", "d")} -device pcie-root-port,id=rp,chassis=1 ` +
        `-device ${vfio("0000:01:00.0", "rp", "n0")},addr=0.0,multifunction=on -device ${vfio("0000:01:00.1", "rp", "n1")},addr=0.1`,
      { firmware: "acpi" },
      [...NO_SUBSTREAMS, "unplug and plug"],
    ],
    [
      "two vSMMUs of one physical SMMU",
      "grace",
      `${EXPANDER} -device pxb-pcie,id=p2,bus_nr=0x20,bus=pcie.0 -device arm-smmuv3,primary-bus=p2,id=s2,accel=on -device pcie-root-port,id=r1,bus=p1,chassis=1 ` +
        `-device pcie-root-port,id=r2,bus=p2,chassis=2 -device ${vfio("0008:01:00.0", "r1", "g")} -device ${vfio("0008:02:00.0", "r2", "n")}`,
      { granule: 65536, hotplug: [{ id: "n", argument: vfio("0008:02:00.0", "r2", "n") }] },
      [],
    ],
    [
      "accelerated and software SMMUs side by side",
      "grace",
      `${EXPANDER} -device pcie-root-port,id=r1,bus=p1,chassis=1 -device ${vfio("0008:01:00.0", "r1", "g")} -device arm-smmuv3,primary-bus=pcie.0,stage=nested -device edu -device nvme,serial=1`,
      { firmware: "acpi" },
      ["unplug and plug"],
    ],
    [
      "features given up: no substreams, ATS or range invalidation",
      "grace",
      `${EXPANDER},ssidsize=0,ats=off,ril=off,oas=44 -device pcie-root-port,id=r1,bus=p1,chassis=1 -device ${vfio("0008:01:00.0", "r1", "g")}`,
      { hotplug: [{ id: "g", argument: vfio("0008:01:00.0", "r1", "g") }] },
      NO_SUBSTREAMS,
    ],
    [
      "every bus behind the legacy SMMU but one that bypasses it",
      "board",
      "-M virt-9.1,iommu=smmuv3,gic-version=3 -m 512 -nodefaults -device pxb-pcie,id=p1,bus_nr=0x40,bus=pcie.0 -device pcie-root-port,id=rp,bus=p1,chassis=1 -device edu -device nvme,serial=1,bus=rp " +
        "-device pxb-pcie,id=p2,bus_nr=0x60,bus=pcie.0,bypass_iommu=on -device pcie-root-port,id=rp2,bus=p2,chassis=2 -device nvme,serial=1,bus=rp2",
      {},
      [...NO_SUBSTREAMS, "unplug and plug"],
    ],
  ])("goes well with %s", async (_what, host, line, options, skipped) => {
    const ran = await runLinux(host, line, options);
    expect(outcome(ran.report)).toEqual(well(skipped));
    expect(ran.left).toBe(0);
    expect(ran.report.dmaChecked).toBeGreaterThan(20_000);
  });

  it("goes well with a port and nothing in it, behind an SMMU whose features are explicit", async () => {
    const { report, left } = await runLinux("grace", `${EXPANDER},ats=on,ril=on,oas=48,ssidsize=16 -device pcie-root-port,id=rp1,bus=p1,chassis=1`);
    expect(report.ok).toBe(true);
    expect(report.steps.find((step) => step.name === "enable IOMMUs")?.detail).toContain("ril, ats, ssid 16");
    expect(report.steps.find((step) => step.name === "own tables")?.skipped).toBe("no DMA function is behind an IOMMU");
    expect(left).toBe(0);
  });

  it("goes well with 16 SMMUs and functions behind each, described by ACPI", async () => {
    const each = process.env.VIOMMU_FUZZ === "nightly" ? 8 : 2;
    const input = JSON.parse(readFileSync(new URL("../../hosts/board.json", import.meta.url), "utf8")) as HostDescriptionInput;
    const [smmu, fn] = [input.smmus[0], input.functions[0]];
    const smmus = Array.from({ length: 16 }, (_, i) => ({ ...smmu, base: 0x900_0000 + i * 0x4_0000, name: `smmu3.0x${(0x900_0000 + i * 0x4_0000).toString(16).padStart(16, "0")}` }));
    const address = (i: number, j: number): string => `${i.toString(16).padStart(4, "0")}:${(j + 1).toString(16).padStart(2, "0")}:00.0`;
    const functions = smmus.flatMap(({ name }, i) => Array.from({ length: each }, (_, j) => ({ ...fn, address: address(i, j), name: `${i}.${j}`, smmu: name })));
    let line = START;
    smmus.forEach((_, i) => {
      line += ` -device pxb-pcie,id=p${i},bus=pcie.0,bus_nr=${(i + 1) * 15} -device arm-smmuv3,primary-bus=p${i},id=s${i},accel=on`;
      for (let j = 0; j < each; j++) {
        line += ` -device pcie-root-port,id=r${i}.${j},bus=p${i},chassis=${i * 8 + j + 1} -device ${vfio(address(i, j), `r${i}.${j}`, `f${i}.${j}`)}`;
      }
    });
    const host = createSimulatedHost(describeHost({ ...input, smmus, functions }));
    const machine = new Machine(parseArguments(splitWords(line, "test")), host, new Log());
    machine.start();
    const report = await linux(contextFor(machine, { firmware: "acpi" }));
    machine.shutdown();
    expect(outcome(report)).toEqual(well([...NO_SUBSTREAMS, "unplug and plug"]));
    expect(report.steps.find((step) => step.name === "own tables")?.detail).toMatch(new RegExp(`^${16 * each} functions`));
    expect(host.liveObjects()).toEqual([]);
    host.close();
  }, 180_000);

  it("goes well in two machines at once whose functions share a physical SMMU, with the same ASIDs and addresses", async () => {
    const input = JSON.parse(readFileSync(new URL("../../hosts/grace.json", import.meta.url), "utf8")) as HostDescriptionInput;
    const host = createSimulatedHost(describeHost(input));
    const machines = ["0008:01:00.0", "0008:02:00.0"].map((address) => {
      const device = vfio(address, "r1", "f");
      const machine = new Machine(parseArguments(splitWords(`${EXPANDER} -device pcie-root-port,id=r1,bus=p1,chassis=1 -device ${device}`, "test")), host, new Log());
      machine.start();
      return { machine, options: { hotplug: [{ id: "f", argument: device }] } };
    });
    const reports = await Promise.all(machines.map(({ machine, options }) => linux(contextFor(machine, options))));
    expect(reports.map(outcome)).toEqual([well(), well()]);
    const tables = reports.map((report) => report.steps.find((step) => step.name === "own tables")?.detail.replace(/\d+ bytes/, ""));
    expect(tables[0]).toBe(tables[1]);
    machines[0].machine.shutdown();
    expect(host.liveObjects().length).toBeGreaterThan(0);
    machines[1].machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
    host.close();
  });
});
