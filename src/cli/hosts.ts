import type { Command } from "commander";
import { loadHost, shippedHosts } from "../run/index.js";
import type { Streams } from "./streams.js";

/** `viommu hosts`: the hosts that come with the package, with their SMMUs and functions. */
export function hostsCommand(program: Command, streams: Streams, finish: (code: number) => void): Command {
  return program
    .command("hosts")
    .description("list the simulated hosts, or what is on one")
    .argument("[host]", "a host's name, or a file")
    .action((name: string | undefined) => {
      for (const host of name === undefined ? shippedHosts() : [name]) {
        const { smmus, functions } = loadHost(host);
        streams.out(`${host}: ${smmus.length} SMMUs, ${functions.length} PCI functions\n`);
        if (name !== undefined) {
          for (const smmu of [...smmus.map((one) => one.name), null]) {
            const behind = functions.filter((fn) => fn.smmu === smmu);
            if (smmu !== null || behind.length > 0) {
              streams.out(`  ${smmu ?? "no SMMU"}\n`);
            }
            behind.forEach((fn) => streams.out(`    ${fn.address}  ${fn.name}${fn.driver === "vfio-pci" ? "" : ` (bound to ${fn.driver})`}\n`));
          }
        }
      }
      finish(0);
    });
}
