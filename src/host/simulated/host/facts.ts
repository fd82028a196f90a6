/** What a host file says of a host beside what its kernel's calls answer. */
import type { HostFacts, HostIommuFacts } from "../../../iommufd/index.js";
import type { SimulatedHardware } from "../hardware/index.js";
import type { SimulatedKernel } from "../kernel/index.js";

export function describedFacts(hardware: SimulatedHardware, kernel: SimulatedKernel): HostFacts {
  const { description } = hardware;
  return {
    kernel: description.kernel,
    iommus: (): HostIommuFacts[] => [
      ...description.smmus.map(({ name, numaNode, errata }) => {
        const idr = hardware.smmus.get(name)?.idr;
        return {
          id: name,
          architecture: "smmuv3" as const,
          registers: idr === undefined ? null : new Map(Array.from(idr, (value, index) => [`IDR${index}`, BigInt(value >>> 0)])),
          numaNode: nodeOf(numaNode),
          errata,
        };
      }),
      ...description.vtds.map(({ name, numaNode, errata }) => {
        const { cap, ecap } = hardware.vtds.get(name)!;
        return { id: name, architecture: "vtd" as const, registers: new Map([["CAP", cap], ["ECAP", ecap]]), numaNode: nodeOf(numaNode), errata };
      }),
      ...description.amds.map(({ name, numaNode }) => ({ id: name, architecture: "amd" as const, registers: null, numaNode: nodeOf(numaNode), errata: [] })),
    ],
    functionFacts: (address) => {
      const found = description.functions.find((fn) => fn.address === address);
      if (found === undefined) {
        return null;
      }
      const window = kernel.messageWindow(address);
      const messages = window === null ? [] : [{ base: window.start, size: window.last - window.start + 1n, kind: "msi" }];
      const { name, group, upstream, rootPort, reserved } = found;
      return {
        label: name,
        group,
        upstream: upstream ?? (rootPort === null ? [] : [rootPort]),
        reserved: reserved === null ? messages : reserved.map(({ base, size, type }) => ({ base: BigInt(base), size: BigInt(size), kind: type })),
      };
    },
  };
}

function nodeOf(numaNode: number): number | null {
  return numaNode < 0 ? null : numaNode;
}
