import { describeHost, type HostDescriptionInput } from "../src/host/simulated/file/index.js";
import { HostFacts, PLAN_FORMATS, planMachine, writePlan } from "../src/plan/index.js";
import { median } from "./measure.js";
import type { Bench } from "./registry.js";

const SMMUS = 16;
const EACH = 4;
const NODES = 8;
const hex = (number: number, digits: number): string => number.toString(16).padStart(digits, "0");

/** 64 functions behind 16 SMMUs on 8 nodes. */
function largeHost(): HostDescriptionInput {
  return {
    name: "large",
    memory: Array.from({ length: NODES }, (_, n) => ({ numaNode: n, base: 0x80_0000_0000 * (n + 1), size: "64G" })),
    smmus: Array.from({ length: SMMUS }, (_, n) => ({ name: `smmu3.0x${hex(n, 16)}`, base: 0x900_0000 + n * 0x2_0000, numaNode: n % NODES, idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74 })),
    functions: Array.from({ length: SMMUS * EACH }, (_, n) => {
      const of = Math.floor(n / EACH);
      return { address: `${hex(of, 4)}:${hex((n % EACH) + 1, 2)}:00.0`, name: "NIC", vendor: 0x15b3, device: 0x1021, class: 0x020000, smmu: `smmu3.0x${hex(of, 16)}`, numaNode: of % NODES, bars: [{ index: 0, size: "64K" }] };
    }),
  } as HostDescriptionInput;
}

/** From a host file's contents to the plan in every format. */
export const planBench: Bench = {
  name: "plan",
  title: "a plan for 64 functions over 16 SMMUs and 8 nodes, in every format",
  run(context) {
    const times: number[] = [];
    for (let round = -1; round < context.rounds; round++) {
      const start = performance.now();
      const host = describeHost(largeHost());
      const plan = planMachine({ facts: new HostFacts(host), devices: host.functions.map(({ address }) => address), memory: 64 * 2 ** 30, cpus: 64, spare: 1 });
      PLAN_FORMATS.forEach((format) => writePlan(plan, format, { hostName: "large", qemu: "11.1", libvirt: "12.9" }));
      if (round >= 0) {
        times.push(performance.now() - start);
      }
    }
    return Promise.resolve([{ name: "plan.large", unit: "ms", value: median(times), target: 1000 }]);
  },
};
