import type { Command } from "commander";
import { hostFileSchema, loadHost, shippedHosts } from "../host/shipped/index.js";
import { iommuOf } from "../host/simulated/names/index.js";
import { plural } from "../support/index.js";
import type { Streams } from "./streams.js";

/** `viommu hosts`: the hosts that come with the package, with their IOMMUs and functions; what a host file may say. */
export function addTo(hosts: Command, streams: Streams, finish: (code: number) => void): void {
  hosts
    .argument("[host]", "a host's name, or a file")
    .option("--schema", "print the JSON Schema of host files")
    .addHelpText("after", "\nviommu host describes the machine that it runs on.")
    .action(async (name: string | undefined, { schema }: { schema?: boolean }) => {
      if (schema === true) {
        streams.out(`${JSON.stringify(await hostFileSchema(), null, 2)}\n`);
        finish(0);
        return;
      }
      for (const host of name === undefined ? shippedHosts() : [name]) {
        const { smmus, vtds, functions } = await loadHost(host);
        const iommus = vtds.length > 0 ? plural(vtds.length, "VT-d unit") : plural(smmus.length, "SMMU");
        streams.out(`${host}: ${iommus}, ${plural(functions.length, "PCI function")}\n`);
        if (name !== undefined) {
          for (const iommu of [...smmus, ...vtds].map((one) => one.name).concat("")) {
            const behind = functions.filter((fn) => (iommuOf(fn) ?? "") === iommu);
            if (iommu !== "" || behind.length > 0) {
              streams.out(`  ${iommu === "" ? "no IOMMU" : iommu}\n`);
            }
            behind.forEach((fn) => streams.out(`    ${fn.address}  ${fn.name}${fn.driver === "vfio-pci" ? "" : ` (bound to ${fn.driver})`}\n`));
          }
        }
      }
      finish(0);
    });
}
