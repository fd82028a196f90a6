/**
 * ACPI tables out of QEMU's fw_cfg device, placed in RAM as firmware places them (QEMU docs/specs/fw_cfg.rst,
 * include/hw/acpi/bios-linker-loader.h): allocate files, patch pointers to each other, patch checksums.
 */
import type { MachinePort } from "../port/index.js";
import { Refusal } from "../support/index.js";
import { FW_CFG_NAME_BYTES as NAME_BYTES, fwCfgText, type FwCfg } from "./fw-cfg.js";

const LOADER_ENTRY_BYTES = 128;
/** Room for the loader's own buffers before the tables. */
const SCRATCH_BYTES = 2 ** 20;

const COMMAND = { allocate: 1, addPointer: 2, addChecksum: 3 } as const;

interface Placed {
  readonly address: number;
  readonly bytes: Buffer;
}

/**
 * Places the tables.
 * @param at where in RAM, guest-physical, with room for some MiB
 * @param patch may change a file before it is written
 * @returns the address of the RSDP; null: the machine has no ACPI
 */
export async function loadAcpiTables(port: MachinePort, cfg: FwCfg, at: number, patch: (tables: Buffer) => void): Promise<number | null> {
  const files = await cfg.files();
  const loader = files.get("etc/table-loader");
  if (loader === undefined) {
    return null;
  }
  const script = await cfg.read(loader);
  const placed = new Map<string, Placed>();
  let next = at + SCRATCH_BYTES;
  for (let entry = 0; entry + LOADER_ENTRY_BYTES <= script.length; entry += LOADER_ENTRY_BYTES) {
    const command = script.readUInt32LE(entry);
    const name = fwCfgText(script, entry + 4);
    if (command === COMMAND.allocate) {
      const file = files.get(name);
      if (file === undefined) {
        throw new Refusal(`fw_cfg has no file ${name} that its table loader allocates`);
      }
      const align = Math.max(script.readUInt32LE(entry + 4 + NAME_BYTES), 1);
      const address = Math.ceil(next / align) * align;
      const bytes = await cfg.read(file);
      next = address + bytes.length;
      placed.set(name, { address, bytes });
    } else if (command === COMMAND.addPointer) {
      addPointer(placedFile(placed, name), placedFile(placed, fwCfgText(script, entry + 4 + NAME_BYTES)), script.readUInt32LE(entry + 4 + 2 * NAME_BYTES), script[entry + 8 + 2 * NAME_BYTES]);
    } else if (command === COMMAND.addChecksum) {
      const [offset, start, length] = [0, 4, 8].map((skip) => script.readUInt32LE(entry + 4 + NAME_BYTES + skip));
      const { bytes } = placedFile(placed, name);
      bytes[offset] = 0;
      bytes[offset] = -sum(bytes.subarray(start, start + length)) & 0xff;
    }
  }
  for (const { address, bytes } of placed.values()) {
    patch(bytes);
    await port.writeMemory(address, bytes);
  }
  return placed.get("etc/acpi/rsdp")?.address ?? null;
}

function placedFile(placed: ReadonlyMap<string, Placed>, name: string): Placed {
  const file = placed.get(name);
  if (file === undefined) {
    throw new Refusal(`fw_cfg's table loader names ${name}, which it has not allocated`);
  }
  return file;
}

/** The pointer holds an offset into the other file until then. */
function addPointer(file: Placed, target: Placed, offset: number, size: number): void {
  const value = file.bytes.readUIntLE(offset, Math.min(size, 6)) + target.address;
  file.bytes.writeUIntLE(value, offset, Math.min(size, 6));
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}
