import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { parseArguments } from "../machine/arguments/index.js";
import { DEFAULT_HOSTS_TEXT, defaultHost, firmwareTables, loadHost, shippedHosts } from "../run/index.js";
import { Refusal, systemWords } from "../support/index.js";
import { machineWords } from "./machine-words.js";
import type { Streams } from "./streams.js";

/** `viommu tables`: the firmware's tables as they stand before the guest numbers buses. */
export function tablesCommand(program: Command, streams: Streams, finish: (code: number) => void): Command {
  return program
    .command("tables")
    .description("write a machine's device tree and ACPI tables to files")
    .argument("[arguments...]", "FILE.args, or -- and QEMU's arguments")
    .requiredOption("--out <folder>", "where the files go; made where it is not there")
    .option("--host <file>", `the host: a file, or ${shippedHosts().join(", ")} (default: ${DEFAULT_HOSTS_TEXT})`)
    .action((words: string[], options: { out: string; host?: string }) => {
      const machine = parseArguments(machineWords(words));
      const files = firmwareTables(machine, loadHost(options.host ?? defaultHost(machine)));
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
