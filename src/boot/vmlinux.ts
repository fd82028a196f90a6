/** A vmlinux: Linux's x86-64 kernel as the linker leaves it, entered at once without what unpacks a bzImage (System V ABI, ELF-64). */
import { Refusal } from "../support/index.js";
import { ELF_MACHINE_AT, ELF_MAGIC, ELF_X86_64, foreignKind, SETUP_MAGIC } from "./kinds.js";
import { HEADER } from "./bz-image.js";

const ELF = { CLASS: 4, CLASS_64: 2, ENTRY: 24, PROGRAM_HEADERS: 32, ENTRY_BYTES: 54, COUNT: 56, HEADER_BYTES: 64 } as const;
const PROGRAM = { TYPE: 0, LOAD: 1, OFFSET: 8, PHYSICAL: 24, FILE_BYTES: 32, MEMORY_BYTES: 40, BYTES: 56 } as const;
/** Addresses that the entry's page tables map. */
const REACH = 2 ** 32;
/** What a bzImage's header would say of such a kernel (boot.rst): the protocol of Linux 5.6, its line, its ramdisk. */
const PROTOCOL = 0x020f;
const COMMAND_LINE_BYTES = 2047;
const LAST_RAMDISK_ADDRESS = 0x7fff_ffff;

export interface Vmlinux {
  /** A setup header as a bzImage has it, from offset 0x1f1 on. */
  readonly header: Uint8Array;
  /** In the order of the file; after `bytes` follow zeros up to `size`. Guest-physical addresses. */
  readonly segments: ReadonlyArray<{ readonly address: number; readonly bytes: Uint8Array; readonly size: number }>;
  readonly entry: number;
  readonly commandLineBytes: number;
  readonly lastRamdiskAddress: number;
}

/** @returns null: the file is no ELF. @throws Refusal where it is one that cannot be entered in 64-bit mode */
export function readVmlinux(file: Uint8Array, name: string): Vmlinux | null {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < ELF.HEADER_BYTES || view.getUint32(0, false) !== ELF_MAGIC) {
    return null;
  }
  const refuse = (found: string): never => {
    throw new Refusal(`linux kernel '${name}' cannot be started`, { found, wouldWork: "the vmlinux or bzImage of an x86-64 Linux" });
  };
  if (view.getUint8(ELF.CLASS) !== ELF.CLASS_64 || view.getUint16(ELF_MACHINE_AT, true) !== ELF_X86_64) {
    return refuse(foreignKind(file) ?? "an ELF file");
  }
  const headers = Number(view.getBigUint64(ELF.PROGRAM_HEADERS, true));
  const count = view.getUint16(ELF.COUNT, true);
  if (view.getUint16(ELF.ENTRY_BYTES, true) !== PROGRAM.BYTES || headers + count * PROGRAM.BYTES > file.length) {
    return refuse(`${name}: ${count} program headers at ${headers}, in ${file.length} bytes`);
  }
  const segments: Array<Vmlinux["segments"][number]> = [];
  for (let at = headers; at < headers + count * PROGRAM.BYTES; at += PROGRAM.BYTES) {
    if (view.getUint32(at + PROGRAM.TYPE, true) !== PROGRAM.LOAD) {
      continue;
    }
    const word = (offset: number): number => Number(view.getBigUint64(at + offset, true));
    const [offset, address, bytes, size] = [word(PROGRAM.OFFSET), word(PROGRAM.PHYSICAL), word(PROGRAM.FILE_BYTES), word(PROGRAM.MEMORY_BYTES)];
    if (offset + bytes > file.length || bytes > size || address + size > REACH) {
      return refuse(`${name}: a segment of ${bytes} bytes at ${offset} of ${file.length}, for ${size} bytes at 0x${address.toString(16)}`);
    }
    segments.push({ address, bytes: file.subarray(offset, offset + bytes), size });
  }
  const entry = Number(view.getBigUint64(ELF.ENTRY, true));
  if (!segments.some(({ address, bytes }) => entry >= address && entry < address + bytes.length)) {
    return refuse(`${name}: its entry 0x${entry.toString(16)} is in none of ${segments.length} segments (a physical address is expected)`);
  }
  return { header: setupHeader(), segments, entry, commandLineBytes: COMMAND_LINE_BYTES, lastRamdiskAddress: LAST_RAMDISK_ADDRESS };
}

function setupHeader(): Uint8Array {
  const parameters = Buffer.alloc(0x270);
  parameters.writeUInt16LE(0xaa55, HEADER.BOOT_FLAG);
  parameters.writeUInt32LE(SETUP_MAGIC, HEADER.MAGIC);
  parameters.writeUInt16LE(PROTOCOL, HEADER.VERSION);
  parameters.writeUInt32LE(COMMAND_LINE_BYTES, HEADER.CMDLINE_SIZE);
  parameters.writeUInt32LE(LAST_RAMDISK_ADDRESS, HEADER.INITRD_ADDR_MAX);
  return parameters.subarray(HEADER.SETUP_SECTS);
}
