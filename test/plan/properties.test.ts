/** What holds of plans for any host (VIOMMU_FUZZ=nightly: thousands). A failure prints its seed. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { createSimulatedHost } from "../../src/host/simulated/index.js";
import { check } from "../../src/check/index.js";
import { recognise } from "../../src/machine/input/index.js";
import { hostFunctionAddress, Machine } from "../../src/machine/index.js";
import { type MachineArguments, parseArguments, readArguments, splitWords } from "../../src/machine/arguments/index.js";
import { functionsOf, HostFacts, PLAN_FORMATS, planMachine, type PlanRequest, portsOf, writePlan } from "../../src/plan/index.js";
import { Log, Refusal } from "../../src/support/index.js";
import { randomCases } from "./random-hosts.js";

const NIGHTLY = process.env.VIOMMU_FUZZ === "nightly";
/** Of the runs of every day, so that they are the same each time; the nightly ones look further. */
const SEED = -842191423;
const RUNS = NIGHTLY ? 3000 : 6;
const OPTIONS = { hostName: "random", qemu: "11.1", libvirt: "12.9" } as const;

/** Refusals of machines that would be too large, which are right to be told. */
const TOO_LARGE = /^(?:Platform Bus: Can not fit IRQ line|PCI: no slot\/function available)/;

/** What a machine of a plan asks for, read off its own line: its functions, and what stands beside them. */
function requestOf({ devices, memory, smp }: MachineArguments): Pick<PlanRequest, "devices" | "memory" | "cpus" | "spare"> {
  const passed = devices.filter(({ model }) => model.category === "passthrough");
  const ports = devices.filter(({ model }) => model.name === "pcie-root-port");
  const empty = ports.filter(({ id }) => !devices.some(({ bus }) => bus === id));
  const expanders = devices.filter(({ model }) => model.name === "pxb-pcie");
  return { devices: passed.map((fn) => hostFunctionAddress(fn)!), memory: memory.size!, cpus: smp.cpus, spare: empty.length / expanders.length };
}

it("each function is behind its own IOMMU, nothing collides, the same input gives the same bytes, the machine starts, and its check is clean", () => {
  fc.assert(
    fc.property(randomCases, ({ host, devices, more }) => {
      const request = { facts: new HostFacts(host), devices, ...more };
      let plan;
      try {
        plan = planMachine(request);
      } catch (error) {
        if (error instanceof Refusal && TOO_LARGE.test(error.words)) {
          return;
        }
        throw error;
      }
      const described = new Map(host.functions.map((fn) => [fn.address, fn]));
      expect(functionsOf(plan).map((fn) => fn.host).sort()).toEqual([...devices].sort());
      for (const { hostIommu, hostNode, busNumber, lastBus, ports, smmu, bypass } of plan.expanders) {
        for (const { host: address } of ports.flatMap(({ functions }) => functions)) {
          const fn = described.get(address)!;
          expect(fn.smmu ?? fn.vtd).toBe(hostIommu);
          expect(hostNode === null || fn.numaNode < 0 || fn.numaNode === hostNode).toBe(true);
        }
        const shares = ports.some(({ functions }) => functions.length > 1);
        expect(smmu === null).toBe(plan.board === "q35" || shares);
        expect(bypass).toBe(plan.board === "q35" && shares && plan.vtd !== null);
        expect(lastBus - busNumber).toBeGreaterThanOrEqual(ports.length);
        expect(new Set(ports.map(({ slot, number }) => 8 * slot + number)).size).toBe(ports.length);
      }
      const ranges = plan.expanders.map(({ busNumber, lastBus }) => [busNumber, lastBus]).sort(([a], [b]) => a - b);
      ranges.forEach(([first, last], n) => expect(first > (n === 0 ? 0 : ranges[n - 1][1]) && last < 256).toBe(true));
      expect(new Set(portsOf(plan).map(({ chassis }) => chassis)).size).toBe(portsOf(plan).length);
      expect(plan.cells.reduce((sum, { memory }) => sum + memory, 0)).toBe(plan.cells.length === 0 ? 0 : plan.memory);
      expect(plan.cells.flatMap(({ cpus }) => (cpus === null ? [] : Array.from({ length: cpus[1] - cpus[0] + 1 }, (_, n) => cpus[0] + n)))).toEqual(plan.cells.length === 0 ? [] : Array.from({ length: plan.cpus }, (_, n) => n));

      const again = planMachine({ ...request, facts: new HostFacts(host), devices: [...devices].reverse() });
      for (const format of PLAN_FORMATS) {
        expect(writePlan(again, format, OPTIONS)).toBe(writePlan(plan, format, OPTIONS));
      }

      const text = writePlan(plan, "viommu", OPTIONS);
      const log = new Log();
      const simulated = createSimulatedHost(host);
      const machine = new Machine(parseArguments(splitWords(text, "the plan")), simulated, log);
      try {
        machine.start();
      } finally {
        machine.shutdown();
        simulated.close();
      }
      expect(log.lines.map((line) => line.text)).toEqual([]);
      expect(check({ text, source: "the plan", host }).findings.filter(({ level }) => level !== "note")).toEqual([]);
    }),
    { numRuns: RUNS, endOnFailure: !NIGHTLY, ...(NIGHTLY ? {} : { seed: SEED }) },
  );
}, 3_600_000);

it("a plan of the functions of a plan's own machine, checked and fixed, changes nothing: in a line and in domain XML", () => {
  fc.assert(
    fc.property(randomCases, ({ host, devices, more }) => {
      let plan;
      try {
        plan = planMachine({ facts: new HostFacts(host), devices, ...more });
      } catch (error) {
        if (error instanceof Refusal && TOO_LARGE.test(error.words)) {
          return;
        }
        throw error;
      }
      for (const format of ["viommu", "libvirt"] as const) {
        const text = writePlan(plan, format, OPTIONS);
        const { fixed } = check({ text, source: "the plan", host });
        expect(fixed).toBe(text);
        const own = requestOf(readArguments(recognise(fixed, "the plan").words).arguments!);
        expect(own).toEqual({ devices: expect.arrayContaining(devices) as string[], memory: more.memory, cpus: more.cpus, spare: more.spare });
        const again = planMachine({ facts: new HostFacts(host), withGroup: more.withGroup, withoutIommu: more.withoutIommu, ...own });
        expect(writePlan(again, format, OPTIONS)).toBe(text);
      }
    }),
    { numRuns: NIGHTLY ? 3000 : 10, endOnFailure: !NIGHTLY, ...(NIGHTLY ? {} : { seed: SEED }) },
  );
}, 3_600_000);
