import type { MachineArguments } from "../machine/arguments/index.js";
import { Machine } from "../machine/index.js";
import { Log } from "../support/index.js";
import { argumentsFor, type HostToRun, openHost } from "./open-host.js";

/**
 * The firmware's tables of a machine by file name, as they stand before the guest numbers buses; with a kernel, those
 * that it would get. The machine is built on the host, since ATS and the like follow the functions' host, and shut down
 * again.
 * @param descriptors function of a simulated host by the descriptor (`fd=`) that the arguments have for it
 * @throws Refusal
 */
export async function firmwareTables(parsed: MachineArguments, which: HostToRun, descriptors?: ReadonlyMap<string, string>): Promise<Map<string, Uint8Array>> {
  const args = argumentsFor(which, parsed, descriptors);
  const opened = await openHost(which, args);
  try {
    const machine = new Machine(args, opened.host, new Log());
    try {
      machine.start();
      const { kernel } = args.boot;
      if (kernel !== null) {
        const { readKernelFiles, tablesFor } = await import("../kernel-guest/index.js");
        tablesFor(machine, readKernelFiles({ ...args.boot, kernel }));
      }
      const { deviceTree, acpi, efi } = machine.board.buildTables();
      const files = new Map(deviceTree === null ? [] : [["virt.dtb", deviceTree.bytes]]);
      for (const [signature, bytes] of acpi?.tables ?? []) {
        files.set(`${signature}.aml`, bytes);
      }
      if (efi !== undefined) {
        files.set("efi.bin", efi.bytes);
      }
      return files;
    } finally {
      machine.shutdown();
    }
  } finally {
    opened.close();
  }
}
