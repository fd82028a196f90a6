import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { DEFAULT_HOSTS_TEXT, shippedHosts } from "../host/shipped/index.js";
import { Refusal, systemWords } from "../support/index.js";
import { parseDescriptor } from "./guest-options.js";
import { machineArguments } from "./machine-words.js";
import type { Streams } from "./streams.js";

/** `viommu tables`: the firmware's tables as they stand before the guest numbers buses, or as a kernel gets them. */
export function addTo(tables: Command, streams: Streams, finish: (code: number) => void): void {
  tables
    .argument("[arguments...]", "FILE.args, or -- and QEMU's arguments")
    .requiredOption("--out <folder>", "where the files go; made where it is not there")
    .option("--host <file>", `the host: a file, ${shippedHosts().join(", ")}, or linux: this machine (default: ${DEFAULT_HOSTS_TEXT})`)
    .option("--fd <n=address>", "the function of a simulated host that a vfio-pci with fd=N is; once for each", parseDescriptor)
    .action(async (words: string[], options: { out: string; host?: string; fd?: ReadonlyMap<string, string> }) => {
      const machine = await machineArguments(words, options.host, options.fd);
      const { defaultHost, firmwareTables, hostToRun } = await import("../run/index.js");
      const files = await firmwareTables(machine, await hostToRun(options.host ?? defaultHost(machine)), options.fd);
      try {
        mkdirSync(options.out, { recursive: true });
        for (const [name, bytes] of files) {
          const path = join(options.out, name);
          writeFileSync(path, bytes);
          streams.out(`${path}: ${bytes.length} bytes\n`);
        }
      } catch (error) {
        throw new Refusal(`Could not write to '${options.out}': ${systemWords(error)}`, { wouldWork: "--out with a folder that can be written" });
      }
      finish(0);
    });
}
