/** A bzImage: Linux's x86 kernel with its setup header (Linux Documentation/arch/x86/boot.rst). */
import { Refusal } from "../support/index.js";
import { foreignKind, SETUP_MAGIC, SETUP_MAGIC_AT } from "./kinds.js";

/** Byte offsets of the setup header, which stand in struct boot_params at the same places. */
export const HEADER = {
  SETUP_SECTS: 0x1f1,
  BOOT_FLAG: 0x1fe,
  JUMP: 0x200,
  MAGIC: SETUP_MAGIC_AT,
  VERSION: 0x206,
  TYPE_OF_LOADER: 0x210,
  LOADFLAGS: 0x211,
  RAMDISK_IMAGE: 0x218,
  RAMDISK_SIZE: 0x21c,
  CMD_LINE_PTR: 0x228,
  INITRD_ADDR_MAX: 0x22c,
  KERNEL_ALIGNMENT: 0x230,
  RELOCATABLE: 0x234,
  XLOADFLAGS: 0x236,
  CMDLINE_SIZE: 0x238,
  PREF_ADDRESS: 0x258,
  INIT_SIZE: 0x260,
} as const;

const BOOT_FLAG = 0xaa55;
/** XLF_KERNEL_64: there is an entry for 64-bit mode, 0x200 after the load address. */
const XLF_KERNEL_64 = 1 << 0;
export const ENTRY_64 = 0x200;
const SECTOR = 512;
/** Protocol 2.12, of Linux 3.8: the first that tells of the 64-bit entry. */
const OLDEST = 0x020c;

export interface BzImage {
  /** The setup header with what is around it, from offset 0x1f1 of the file to the end that it tells. */
  readonly header: Uint8Array;
  /** The protected-mode part, which is loaded. */
  readonly payload: Uint8Array;
  readonly preferredAddress: number;
  readonly alignment: number;
  /** Memory that the kernel needs from its load address on before it knows the memory map. */
  readonly initBytes: number;
  /** Bytes of a command line at the most, without its end. */
  readonly commandLineBytes: number;
  /** The last address that an initial ramdisk may take. */
  readonly lastRamdiskAddress: number;
  readonly relocatable: boolean;
}

/** Reads a kernel file. @throws Refusal where it is none that can be entered in 64-bit mode */
export function readBzImage(file: Uint8Array, name: string): BzImage {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const refuse = (found: string): never => {
    throw new Refusal(`linux kernel '${name}' cannot be started`, { found, wouldWork: "the bzImage (or vmlinuz) of an x86-64 Linux of 3.8 or newer" });
  };
  if (file.length < 0x400 || view.getUint16(HEADER.BOOT_FLAG, true) !== BOOT_FLAG || view.getUint32(HEADER.MAGIC, true) !== SETUP_MAGIC) {
    return refuse(foreignKind(file) ?? `${file.length} bytes without the boot flag and magic of a bzImage`);
  }
  const version = view.getUint16(HEADER.VERSION, true);
  if (version < OLDEST) {
    return refuse(`${name}: boot protocol ${version >> 8}.${version & 0xff}`);
  }
  if ((view.getUint16(HEADER.XLOADFLAGS, true) & XLF_KERNEL_64) === 0) {
    return refuse(`${name}: a kernel of 32 bits`);
  }
  const start = ((view.getUint8(HEADER.SETUP_SECTS) || 4) + 1) * SECTOR;
  if (start >= file.length) {
    return refuse(`${name}: ${file.length} bytes, its setup alone has ${start}`);
  }
  // The byte after the jump tells where the header ends.
  const end = HEADER.MAGIC + view.getUint8(HEADER.JUMP + 1);
  return {
    header: file.subarray(HEADER.SETUP_SECTS, Math.min(end, start)),
    payload: file.subarray(start),
    preferredAddress: Number(view.getBigUint64(HEADER.PREF_ADDRESS, true)),
    alignment: view.getUint32(HEADER.KERNEL_ALIGNMENT, true),
    initBytes: view.getUint32(HEADER.INIT_SIZE, true),
    commandLineBytes: view.getUint32(HEADER.CMDLINE_SIZE, true),
    lastRamdiskAddress: view.getUint32(HEADER.INITRD_ADDR_MAX, true),
    relocatable: view.getUint8(HEADER.RELOCATABLE) !== 0,
  };
}
