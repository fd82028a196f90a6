import type { HostDescription } from "../host/simulated/file/index.js";
import { createSimulatedHost } from "../host/simulated/host/index.js";
import type { MachineArguments } from "../machine/arguments/index.js";
import { Machine } from "../machine/index.js";
import { Log } from "../support/index.js";

/**
 * The firmware's tables of a machine by file name, as they stand before the guest numbers buses. The machine
 * is built on the host, since ATS and the like follow the functions' host, and shut down again.
 * @throws Refusal
 */
export function firmwareTables(args: MachineArguments, description: HostDescription): Map<string, Uint8Array> {
  const host = createSimulatedHost(description);
  try {
    const machine = new Machine(args, host, new Log());
    try {
      machine.start();
      const { deviceTree, acpi } = machine.board.buildTables();
      const files = new Map(deviceTree === null ? [] : [["virt.dtb", deviceTree.bytes]]);
      for (const [signature, bytes] of acpi?.tables ?? []) {
        files.set(`${signature}.aml`, bytes);
      }
      return files;
    } finally {
      machine.shutdown();
    }
  } finally {
    host.close();
  }
}
