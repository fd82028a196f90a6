/**
 * Starts Linux on x86 without firmware: kernel, initial ramdisk, command line, struct boot_params with the memory map
 * and the ACPI root, page tables and descriptors for the 64-bit entry (Linux Documentation/arch/x86/boot.rst).
 */
import { Refusal } from "../support/index.js";
import { type BzImage, ENTRY_64, HEADER } from "./bz-image.js";
import type { Vmlinux } from "./vmlinux.js";

/** Guest memory as a loader writes it. False: a part of it is no RAM. */
export type WriteMemory = (address: number, bytes: Uint8Array) => boolean;

/** A range as INT 15h, E820h gives it: 1 usable RAM. */
export interface MapEntry {
  readonly base: number;
  readonly size: number;
  readonly type: number;
}

export interface X86LinuxRequest {
  readonly kernel: BzImage | Vmlinux;
  readonly ramdisk: Uint8Array | null;
  readonly commandLine: string;
  readonly memoryMap: readonly MapEntry[];
  /** Guest-physical address of the RSDP; null: the machine has no ACPI. */
  readonly acpiRoot: number | null;
  /** The descriptors that the entry wants, as the processor's side has them. */
  readonly descriptors: readonly bigint[];
}

/** Where the first processor begins, and with what. Guest-physical addresses. */
export interface X86LinuxEntry {
  readonly instruction: number;
  readonly bootParameters: number;
  readonly pageTables: number;
  readonly descriptors: number;
}

/** Low memory, which the kernel takes over when it has read it. */
const DESCRIPTORS = 0x500;
const BOOT_PARAMETERS = 0x7000;
const PAGE_TABLES = 0x9000;
const COMMAND_LINE = 0x2_0000;
const PAGE = 0x1000;
const LARGE_PAGE = 0x20_0000;
/** Low memory that is mapped one to one. */
const MAPPED = 4 * 2 ** 30;

/** struct boot_params, beside the setup header. */
const PARAMETERS = { BYTES: PAGE, ACPI_RSDP: 0x070, EXT_RAMDISK_IMAGE: 0x0c0, EXT_RAMDISK_SIZE: 0x0c4, E820_ENTRIES: 0x1e8, E820_TABLE: 0x2d0 } as const;
const E820_ENTRY_BYTES = 20;
const MOST_E820_ENTRIES = 128;
/** type_of_loader: none that is registered. */
const LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 1 << 0;
const RAM = 1;

/** Page table entries (SDM 3A, 4.5): present and writable; a page of 2 MiB. */
const TABLE = 0x3n;
const LARGE = 0x83n;

/** Writes everything. @throws Refusal where something has no place, nothing is to be run then */
export function loadX86Linux(request: X86LinuxRequest, write: WriteMemory): X86LinuxEntry {
  const { kernel, ramdisk, commandLine, memoryMap } = request;
  const line = new TextEncoder().encode(`${commandLine}\0`);
  if (line.length - 1 > kernel.commandLineBytes) {
    throw new Refusal("the kernel's command line is too long", { found: `${line.length - 1} bytes`, wouldWork: `${kernel.commandLineBytes} bytes at the most, which this kernel takes` });
  }
  const { pieces, instruction, end: kernelEnd } = placed(kernel, memoryMap);
  const disk = ramdisk === null || ramdisk.length === 0 ? null : { address: placeRamdisk(ramdisk.length, kernelEnd, kernel, memoryMap), bytes: ramdisk };
  const put = (what: string, address: number, bytes: Uint8Array): void => {
    if (!write(address, bytes)) {
      throw new Refusal(`there is no memory for ${what}`, { found: `${bytes.length} bytes at 0x${address.toString(16)}`, wouldWork: "a larger -m" });
    }
  };
  for (const { address, bytes, size } of pieces) {
    put("the kernel", address, bytes);
    // A machine that was reset has what was there before.
    if (size > bytes.length) {
      put("the kernel", address + bytes.length, new Uint8Array(size - bytes.length));
    }
  }
  if (disk !== null) {
    put("the initial ramdisk", disk.address, disk.bytes);
  }
  put("the kernel's command line", COMMAND_LINE, line);
  put("the boot parameters", BOOT_PARAMETERS, bootParameters(request, disk));
  put("page tables", PAGE_TABLES, identityTables());
  put("descriptors", DESCRIPTORS, new Uint8Array(BigUint64Array.from(request.descriptors).buffer));
  return { instruction, bootParameters: BOOT_PARAMETERS, pageTables: PAGE_TABLES, descriptors: DESCRIPTORS };
}

/** Where which bytes of a kernel go, its first instruction, and the end of what it needs before it knows the memory map. */
function placed(kernel: BzImage | Vmlinux, memoryMap: readonly MapEntry[]): { pieces: Vmlinux["segments"]; instruction: number; end: number } {
  if ("segments" in kernel) {
    return { pieces: kernel.segments, instruction: kernel.entry, end: Math.max(...kernel.segments.map(({ address, size }) => address + size)) };
  }
  const load = placeKernel(kernel, memoryMap);
  return {
    pieces: [{ address: load, bytes: kernel.payload, size: kernel.payload.length }],
    instruction: load + ENTRY_64,
    end: load + Math.max(kernel.initBytes, kernel.payload.length),
  };
}

/** The preferred address where RAM is there, else the first that the alignment allows. */
function placeKernel(kernel: BzImage, memoryMap: readonly MapEntry[]): number {
  const need = Math.max(kernel.initBytes, kernel.payload.length);
  const fits = (address: number): boolean => memoryMap.some(({ base, size, type }) => type === RAM && address >= base && address + need <= base + size);
  if (fits(kernel.preferredAddress)) {
    return kernel.preferredAddress;
  }
  const first = Math.ceil(0x10_0000 / kernel.alignment) * kernel.alignment;
  if (kernel.relocatable && fits(first)) {
    return first;
  }
  const most = memoryMap.reduce((size, entry) => (entry.type === RAM ? Math.max(size, entry.size) : size), 0);
  throw new Refusal("the kernel does not fit into memory", {
    found: `it needs ${need} bytes at 0x${kernel.preferredAddress.toString(16)}; the largest piece of RAM has ${most}`,
    wouldWork: "a larger -m",
  });
}

/** As high below 4 GiB as RAM and the kernel's own limit allow. */
function placeRamdisk(bytes: number, kernelEnd: number, kernel: BzImage | Vmlinux, memoryMap: readonly MapEntry[]): number {
  let best = -1;
  for (const { base, size, type } of memoryMap) {
    const end = Math.min(base + size, kernel.lastRamdiskAddress + 1, MAPPED);
    const address = Math.floor((end - bytes) / PAGE) * PAGE;
    if (type === RAM && address >= Math.max(base, kernelEnd)) {
      best = Math.max(best, address);
    }
  }
  if (best < 0) {
    throw new Refusal("the initial ramdisk does not fit into memory", { found: `${bytes} bytes, above the kernel's end at 0x${kernelEnd.toString(16)}`, wouldWork: "a larger -m, or a smaller -initrd" });
  }
  return best;
}

function bootParameters(request: X86LinuxRequest, disk: { address: number; bytes: Uint8Array } | null): Uint8Array {
  const { kernel, memoryMap, acpiRoot } = request;
  const out = Buffer.alloc(PARAMETERS.BYTES);
  out.set(kernel.header, HEADER.SETUP_SECTS);
  out.writeUInt8(LOADER_UNDEFINED, HEADER.TYPE_OF_LOADER);
  out.writeUInt8(out.readUInt8(HEADER.LOADFLAGS) | LOADED_HIGH, HEADER.LOADFLAGS);
  out.writeUInt32LE(COMMAND_LINE, HEADER.CMD_LINE_PTR);
  if (disk !== null) {
    out.writeUInt32LE(disk.address, HEADER.RAMDISK_IMAGE);
    out.writeUInt32LE(disk.bytes.length >>> 0, HEADER.RAMDISK_SIZE);
    out.writeUInt32LE(Math.floor(disk.bytes.length / 2 ** 32), PARAMETERS.EXT_RAMDISK_SIZE);
  }
  if (acpiRoot !== null) {
    out.writeBigUInt64LE(BigInt(acpiRoot), PARAMETERS.ACPI_RSDP);
  }
  if (memoryMap.length > MOST_E820_ENTRIES) {
    throw new RangeError(`a memory map of ${memoryMap.length} entries: struct boot_params holds ${MOST_E820_ENTRIES}`);
  }
  out.writeUInt8(memoryMap.length, PARAMETERS.E820_ENTRIES);
  memoryMap.forEach(({ base, size, type }, index) => {
    const at = PARAMETERS.E820_TABLE + index * E820_ENTRY_BYTES;
    out.writeBigUInt64LE(BigInt(base), at);
    out.writeBigUInt64LE(BigInt(size), at + 8);
    out.writeUInt32LE(type, at + 16);
  });
  return out;
}

/** A level 4, a level 3 and four level 2 tables: the first 4 GiB by pages of 2 MiB. */
function identityTables(): Uint8Array {
  const directories = MAPPED / 2 ** 30;
  const tables = new BigUint64Array(((2 + directories) * PAGE) / 8);
  tables[0] = BigInt(PAGE_TABLES + PAGE) | TABLE;
  for (let n = 0; n < directories; n++) {
    tables[PAGE / 8 + n] = BigInt(PAGE_TABLES + (2 + n) * PAGE) | TABLE;
  }
  for (let n = 0; n < MAPPED / LARGE_PAGE; n++) {
    tables[(2 * PAGE) / 8 + n] = BigInt(n * LARGE_PAGE) | LARGE;
  }
  return new Uint8Array(tables.buffer);
}
