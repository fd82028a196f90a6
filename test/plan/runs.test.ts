/** The plan of every shipped host, for all of its functions that vfio-pci has, runs with its guest on that host. */
import { describe, expect, it } from "vitest";
import { loadHost, shippedHosts } from "../../src/host/shipped/index.js";
import { splitWords } from "../../src/machine/arguments/index.js";
import { HostFacts, planMachine, writePlan } from "../../src/plan/index.js";
import { findGuest, runMachine } from "../../src/run/index.js";

describe.each(shippedHosts())("all of %s", (name) => {
  it("runs by its plan: each function behind its own IOMMU, and the guest is content", async () => {
    const host = await loadHost(name);
    const devices = host.functions.filter(({ driver }) => driver === "vfio-pci").map(({ address }) => address);
    const plan = planMachine({ facts: new HostFacts(host), devices, memory: 4 * 2 ** 30, cpus: 4, spare: 1 });
    const words = splitWords(writePlan(plan, "viommu", { hostName: name, qemu: "11.1", libvirt: "12.9" }), "the plan");
    const report = await runMachine({ arguments: words, host, guest: await findGuest("linux") });
    expect(report.failure).toBeNull();
    expect(report.ok).toBe(true);
    const { buses, functions, iommus } = report.machine;
    for (const fn of functions.filter((one) => one.host !== null)) {
      const described = host.functions.find(({ address }) => address === fn.host)!;
      const expander = plan.expanders.find(({ ports }) => ports.some((port) => port.functions.some((one) => one.host === fn.host)))!;
      expect(expander.hostIommu).toBe(described.smmu ?? described.vtd);
      expect(expander.hostNode).toBe(described.numaNode < 0 ? null : described.numaNode);
      const root = buses.find(({ id }) => id === expander.id)!;
      const port = buses.find(({ id }) => id === fn.bus)!;
      expect(port.number).toBeGreaterThan(root.number);
      expect(port.number).toBeLessThanOrEqual(expander.lastBus);
      if (host.smmus.length > 0) {
        expect(iommus.find(({ id }) => id === fn.iommu)).toMatchObject({ bus: root.id, hostIommu: described.smmu });
      }
    }
    expect(functions.filter((one) => one.host !== null).length).toBe(devices.length);
  }, 120_000);
});
