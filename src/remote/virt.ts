/** QEMU's virt board behind a qtest socket, as a guest's machine. */
import { parseDeviceTree } from "../guest/index.js";
import type { FirmwareTables } from "../port/index.js";
import { type QtestClient, QtestPort } from "../qtest/index.js";
import { Refusal } from "../support/index.js";
import { loadAcpiTables } from "./acpi-loader.js";
import { FW_CFG_VIRT, FwCfg } from "./fw-cfg.js";
import { renameMadtEntries } from "./madt.js";

/** Without a kernel the device tree is at the start of RAM (QEMU docs/system/arm/virt.rst). */
const RAM_BASE = 0x4000_0000;
/** ACPI tables go behind the device tree, into the part of RAM that a kernel image would take. */
const ACPI_AT = RAM_BASE + 0x20_0000;
const MAGIC = 0xd00d_feed;
/** edu's transfers begin 100 ms after their command. */
const STEP_NS = 200_000_000n;
/** MADT's structure of an ITS. */
const MADT_ITS = 0x0f;

export interface VirtOptions {
  /** QOM path of the interrupt controller; null: by the number of CPUs in the device tree. */
  readonly interruptController: string | null;
  /** Loads the ACPI tables too. */
  readonly acpi: boolean;
  /** Has the listener called after each reset of the machine. */
  onReset(listener: () => void): void;
}

/**
 * Opens the machine. Its ITS is hidden from the guest, which would wait for its messages in vain: no CPU is
 * there to set its tables up.
 * @throws Refusal where no virt board is there
 */
export async function openVirt(client: QtestClient, options: VirtOptions): Promise<QtestPort> {
  const tree = await readTree(client);
  // QEMU makes its tables when they are first read after a reset, with the bus numbers of that moment: they are
  // left alone until the guest, which plays the firmware, has numbered the buses and asks again.
  let early = true;
  options.onReset(() => (early = true));
  return await QtestPort.open(client, {
    interruptController: options.interruptController ?? `/machine/unattached/device[${cpus(tree)}]`,
    step: STEP_NS,
    firmware: async (port): Promise<FirmwareTables> => {
      const now = await readTree(client);
      hideIts(now);
      await port.writeMemory(RAM_BASE, now);
      const acpiRoot = options.acpi && !early ? await loadAcpiTables(port, new FwCfg(port, FW_CFG_VIRT, ACPI_AT), ACPI_AT, (tables) => renameMadtEntries(tables, [MADT_ITS])) : null;
      early = false;
      return { deviceTree: RAM_BASE, acpiRoot };
    },
  });
}

async function readTree(client: QtestClient): Promise<Buffer> {
  const header = Buffer.from(await client.readMemory(RAM_BASE, 8));
  if (header.readUInt32BE(0) !== MAGIC) {
    throw new Refusal("no device tree at 0x40000000", { found: `the word 0x${header.readUInt32BE(0).toString(16)}`, wouldWork: "QEMU's -machine virt without -kernel and -bios, with 64 MiB of RAM or more" });
  }
  return Buffer.from(await client.readMemory(RAM_BASE, header.readUInt32BE(4)));
}

/** CPUs are the first devices that the board makes, the interrupt controller the next. */
function cpus(tree: Buffer): number {
  return [...parseDeviceTree(tree).walk()].filter((node) => /^cpu@/.test(node.name)).length;
}

/** The ITS gets a name of the same length that no driver has. */
function hideIts(tree: Buffer): void {
  for (let at = tree.indexOf("arm,gic-v3-its\0"); at >= 0; at = tree.indexOf("arm,gic-v3-its\0")) {
    tree.write("out-of-reach-x", at, "latin1");
  }
}
