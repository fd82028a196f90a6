/** The plan of each kind of captured host runs on what the capture describes. */
import { describe, expect, it } from "vitest";
import { describeSnapshot } from "../../src/host/described/index.js";
import { leavesDmaToVfio } from "../../src/iommufd/index.js";
import { splitWords } from "../../src/machine/arguments/index.js";
import { functionsOf, HostFacts, planMachine, writePlan } from "../../src/plan/index.js";
import { findGuest, runMachine } from "../../src/run/index.js";
import { CAPTURES, captures } from "../host/captures/index.js";

describe.each(CAPTURES)("a capture of %s", (name) => {
  it("gives a plan for each function that can be passed through, or the reason", async () => {
    const { description } = describeSnapshot(captures[name]());
    const facts = new HostFacts(description);
    // Companions are set aside: of a group one function is behind a virtual IOMMU.
    const taken = new Set<number>();
    const devices = description.functions.filter((fn) => {
      const { obstacles, group, iommu } = facts.factsOf(fn);
      // What has no registers of memory cannot be made to do DMA.
      if (obstacles.length > 0 || fn.model === "inert" || iommu === null || (group !== null && taken.has(group))) {
        return false;
      }
      taken.add(group ?? -1);
      return true;
    });
    expect(devices.length).toBeGreaterThan(0);
    const plan = planMachine({ facts, devices: devices.map(({ address }) => address), memory: 2 ** 30, cpus: 2, withGroup: true, withoutIommu: true });
    expect(functionsOf(plan).length).toBe(devices.length);
    if (description.amds.length > 0) {
      expect(plan.vtd?.fsts).toBe(false);
      return;
    }
    // Nothing can be run on SMMUs whose ID registers nobody has read.
    const unread = new Set(description.smmus.filter(({ idr0 }) => idr0 === null).map((smmu) => smmu.name));
    const kept = devices.filter(({ smmu }) => !unread.has(smmu ?? ""));
    if (kept.length === 0) {
      expect(plan.expanders.every(({ smmu }) => smmu === null)).toBe(true);
      return;
    }
    // As the preparations have it: the machine's functions have vfio-pci, others of their groups nobody's driver.
    const groups = new Set(devices.map(({ group }) => group));
    const prepared = {
      ...description,
      kernelConfig: null,
      smmus: description.smmus.filter((smmu) => !unread.has(smmu.name)),
      functions: description.functions.filter(({ smmu }) => !unread.has(smmu ?? "")).map((fn) => (devices.includes(fn) ? { ...fn, driver: "vfio-pci" } : groups.has(fn.group) && !leavesDmaToVfio(fn.driver) ? { ...fn, driver: "" } : fn)),
    };
    const ofKept = planMachine({ facts, devices: kept.map(({ address }) => address), memory: 2 ** 30, cpus: 2, withGroup: true, withoutIommu: true });
    const words = splitWords(writePlan(ofKept, "viommu", { hostName: name, qemu: "11.1", libvirt: "12.9" }), "the plan");
    const report = await runMachine({ arguments: words, host: prepared, guest: await findGuest("linux") });
    expect(report.failure).toBeNull();
    expect(report.machine.functions.filter((fn) => fn.host !== null).length).toBe(kept.length);
  }, 120_000);
});
