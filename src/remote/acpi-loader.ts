/**
 * ACPI tables out of QEMU's fw_cfg device, placed in RAM as firmware places them (QEMU docs/specs/fw_cfg.rst,
 * include/hw/acpi/bios-linker-loader.h): allocate files, patch pointers to each other, patch checksums.
 */
import type { MachinePort } from "../port/index.js";
import { Refusal } from "../support/index.js";

/** Registers on virt: selector and DMA address are big-endian. */
const FW_CFG = 0x0902_0000;
const DMA_ADDRESS = FW_CFG + 0x10;
const KEY_FILE_DIR = 0x19;
const DMA_READ = 0x02;
const DMA_SELECT = 0x08;
const DIRECTORY_ENTRY_BYTES = 64;
const LOADER_ENTRY_BYTES = 128;
const NAME_BYTES = 56;
/** Files larger than this are not tables. */
const FILE_LIMIT = 16 * 2 ** 20;

const COMMAND = { allocate: 1, addPointer: 2, addChecksum: 3 } as const;

interface Placed {
  readonly address: number;
  readonly bytes: Buffer;
}

/**
 * Places the tables.
 * @param at where in RAM, guest-physical, with room for a few hundred KiB
 * @returns the address of the RSDP; null: the machine has no ACPI
 */
export async function loadAcpiTables(port: MachinePort, at: number, patch: (tables: Buffer) => void): Promise<number | null> {
  const cfg = new FwCfg(port, at);
  const files = await cfg.files();
  const loader = files.get("etc/table-loader");
  if (loader === undefined) {
    return null;
  }
  const script = await cfg.read(loader);
  const placed = new Map<string, Placed>();
  let next = at + FILE_LIMIT / 16;
  for (let entry = 0; entry + LOADER_ENTRY_BYTES <= script.length; entry += LOADER_ENTRY_BYTES) {
    const command = script.readUInt32LE(entry);
    const name = text(script, entry + 4);
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
      addPointer(placedFile(placed, name), placedFile(placed, text(script, entry + 4 + NAME_BYTES)), script.readUInt32LE(entry + 4 + 2 * NAME_BYTES), script[entry + 8 + 2 * NAME_BYTES]);
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

function text(bytes: Buffer, at: number): string {
  return bytes.toString("latin1", at, at + NAME_BYTES).replace(/\0.*$/s, "");
}

interface FwCfgFile {
  readonly key: number;
  /** Bytes. */
  readonly size: number;
}

/** The device's DMA interface, with a descriptor and a buffer in RAM. */
class FwCfg {
  constructor(
    private readonly port: MachinePort,
    private readonly scratch: number,
  ) {}

  async files(): Promise<Map<string, FwCfgFile>> {
    const count = (await this.read({ key: KEY_FILE_DIR, size: 4 })).readUInt32BE(0);
    const directory = await this.read({ key: KEY_FILE_DIR, size: 4 + count * DIRECTORY_ENTRY_BYTES });
    return new Map(
      Array.from({ length: count }, (_, i) => {
        const at = 4 + i * DIRECTORY_ENTRY_BYTES;
        return [text(directory, at + 8), { size: directory.readUInt32BE(at), key: directory.readUInt16BE(at + 4) }] as const;
      }),
    );
  }

  async read({ key, size }: FwCfgFile): Promise<Buffer> {
    if (size > FILE_LIMIT) {
      throw new Refusal(`a file of fw_cfg claims ${size} bytes`);
    }
    const out = Buffer.alloc(size);
    const piece = 32 * 1024;
    for (let done = 0; done < size; done += piece) {
      const length = Math.min(piece, size - done);
      const control = (DMA_READ | (done === 0 ? (key << 16) | DMA_SELECT : 0)) >>> 0;
      const descriptor = Buffer.alloc(16);
      descriptor.writeUInt32BE(control, 0);
      descriptor.writeUInt32BE(length, 4);
      descriptor.writeBigUInt64BE(BigInt(this.scratch + 0x1000), 8);
      await this.port.writeMemory(this.scratch, descriptor);
      const address = Buffer.alloc(8);
      address.writeBigUInt64BE(BigInt(this.scratch));
      await this.port.write(DMA_ADDRESS, 8, address.readBigUInt64LE());
      const left = Buffer.from(await this.port.readMemory(this.scratch, 4)).readUInt32BE();
      if (left === control) {
        throw new Refusal("no fw_cfg device at 0x9020000, from which ACPI tables come", { found: "a DMA descriptor that nobody has taken", wouldWork: "QEMU's virt board; --firmware dt" });
      }
      if (left !== 0) {
        throw new Refusal("fw_cfg refuses to be read", { found: `control 0x${left.toString(16)} after a read of key 0x${key.toString(16)}`, wouldWork: "--firmware dt" });
      }
      out.set(await this.port.readMemory(this.scratch + 0x1000, length), done);
    }
    return out;
  }
}
