/** The map of a machine on a Linux, whose hardware nobody can see into: sysfs, and what calls of its functions have told. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { LinuxHost } from "../../../src/host/linux/index.js";
import { createSimulatedHost, loadHostDescription } from "../../../src/host/simulated/index.js";
import { inspectMachine } from "../../../src/inspect/machine/index.js";
import { cachesReport, registersReport } from "../../../src/inspect/state/index.js";
import { parseArguments, splitWords } from "../../../src/machine/arguments/index.js";
import { Machine } from "../../../src/machine/index.js";
import { Log, packageFolder } from "../../../src/support/index.js";
import { memoryOf, SimulatedPort, sysfsOf } from "../../host/linux/simulated-port.js";
import { SMMU_LINE } from "./rigs.js";

const SMMU = "smmu3.0x0000000011600000";

describe.skipIf(process.platform !== "linux")("a machine on a Linux", () => {
  it("has its map: tables of its own making, groups, windows, what its function's IOMMU offers; the rest is unknown", () => {
    const simulated = createSimulatedHost(loadHostDescription(readFileSync(`${packageFolder()}/hosts/grace.json`, "utf8"), "grace"));
    const { places, characterDevices, remove } = sysfsOf(simulated);
    writeFileSync(join(places.sys, "kernel/iommu_groups/0/reserved_regions"), "0x0000000008000000 0x00000000080fffff msi\n");
    mkdirSync(join(places.sys, "class/iommu", SMMU, "device"), { recursive: true });
    writeFileSync(join(places.sys, "class/iommu", SMMU, "device/numa_node"), "0\n");
    mkdirSync(join(places.sys, "class/iommu/dmar7/intel-iommu"), { recursive: true });
    writeFileSync(join(places.sys, "class/iommu/dmar7/intel-iommu/cap"), "d1d2078c22780c06\n");
    writeFileSync(join(places.sys, "class/iommu/dmar7/intel-iommu/ecap"), "1e99a84f050df\n");
    const host = new LinuxHost({ port: new SimulatedPort(simulated, characterDevices), places, makeMemory: memoryOf(simulated) });
    const machine = new Machine(parseArguments(splitWords(SMMU_LINE, "test")), host, new Log());
    machine.start();
    const source = inspectMachine(machine);
    const map = source.map();
    expect(map.tables.map(({ id, kind, on, what }) => [id, kind, on, what])).toEqual([
      [2, "ioas", null, "address space smmuv3-accel-as-sysmem"],
      [3, "hwpt-paging", 2, "parent"],
      [4, "viommu", 3, SMMU],
      [5, "hwpt-nested", 4, "abort"],
      [6, "hwpt-nested", 4, "bypass"],
    ]);
    expect(map.host.functions.find(({ address }) => address === "0008:01:00.0")).toMatchObject({ iommu: SMMU, group: 0, numaNode: 0, reserved: [{ base: "0x8000000", size: "0x100000", kind: "msi" }] });
    expect(map.host.kernel).toBe(host.description.replace("Linux ", ""));
    // By GET_HW_INFO of the function, and by sysfs.
    expect(map.host.iommus.find(({ id }) => id === SMMU)).toMatchObject({ architecture: "smmuv3", numaNode: 0, features: { stages: "1, 2", oas: "48", ats: "on" } });
    expect(map.host.iommus.find(({ id }) => id === "dmar7")).toMatchObject({ architecture: "vtd", numaNode: null, features: { nesting: "on", pasidBits: "20" } });
    expect(map.host.unknown[0]).toBe(`registers, tables and caches of the host's IOMMUs: ${host.description} does not show them`);
    expect(source.units().map(({ id }) => id)).toEqual(["smmu1", "smmu0"]);
    expect(registersReport(source, SMMU)).toEqual({ iommu: SMMU, side: "host", architecture: "smmuv3", registers: [], unknown: `registers of ${SMMU}: ${host.description} does not show them` });
    expect(cachesReport(source, { iommu: SMMU })).toEqual({ entries: [], more: 0, unknown: [`caches of the host's IOMMUs, and of its functions: ${host.description} does not show them`] });
    machine.shutdown();
    expect(simulated.liveObjects()).toEqual([]);
    host.close();
    simulated.close();
    remove();
  });
});
