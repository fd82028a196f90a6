import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as viommu from "../src/index.js";

describe("the package", () => {
  it("gives each room by its name", () => {
    const file = { name: "test", memory: [{ numaNode: 0, base: "0x40000000", size: "1G" }], smmus: [], functions: [] };
    const host = viommu.simulatedHost.createSimulatedHost(viommu.simulatedHost.describeHost({ ...file, msiDoorbell: "0x08090040" }, "test"));
    const args = viommu.machineArguments.parseArguments(["-machine", "virt", "-m", "64", "-nodefaults"]);
    const machine = new viommu.machine.Machine(args, host, new viommu.support.Log());
    machine.start();
    expect(machine.describe().functions).toEqual([]);
    machine.shutdown();
    expect(host.liveObjects()).toEqual([]);
  });

  it("is found where package.json says", () => {
    const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { exports: Record<string, string>; bin: Record<string, string> };
    expect(manifest.exports["."]).toBe("./dist/src/index.js");
    expect(manifest.bin.viommu).toBe("dist/src/cli/main.js");
    expect(readFileSync(new URL("../src/cli/main.ts", import.meta.url), "utf8").startsWith("#!/usr/bin/env node\n")).toBe(true);
  });
});
