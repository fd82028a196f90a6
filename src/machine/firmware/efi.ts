/**
 * What firmware by UEFI leaves to a kernel, as far as Linux on arm64 reads it (UEFI 2.10): the system table with the
 * configuration tables that lead to ACPI's, and the memory map. There are no runtime services.
 */
import { crc32 } from "node:zlib";
import { ByteWriter } from "./acpi-table.js";
import { guidBytes } from "./guid.js";

type Range = { readonly base: number; readonly size: number };

/** Bytes of the system table (4.3), and of an entry of the configuration table (4.6). */
const SYSTEM_TABLE_BYTES = 120;
const CONFIGURATION_BYTES = 24;
const SYSTEM_TABLE_SIGNATURE = 0x5453595320494249n;
/** 2.70 of the specification. */
const REVISION = (2 << 16) | 70;
const VENDOR = "viommu";

const GUIDS = {
  acpi20: "8868e871-e4f1-11d3-bc22-0080c73c8881",
  /** Linux: a list of ranges to keep, which the GIC's driver adds its tables to. */
  memoryReservations: "888eb0c6-8ede-4ff5-a8f0-9aee5cb977c2",
  /** Which runtime services there are (4.6.2). */
  runtimeProperties: "eb66918a-7eef-402a-842e-931d21c38ae9",
} as const;

/** Memory types and attributes (7.2.3). */
const CONVENTIONAL = 7;
const ACPI_RECLAIM = 9;
const WRITE_BACK = 8;
const DESCRIPTOR_BYTES = 40;
const PAGE = 4096;

export interface EfiImage {
  readonly bytes: Uint8Array;
  /** Guest-physical addresses. */
  readonly systemTable: number;
  readonly memoryMap: { readonly address: number; readonly size: number; readonly descriptorBytes: number; readonly version: number };
}

/**
 * @param base where the image will be, 8 bytes aligned, inside of `kept`
 * @param acpiRoot the RSDP
 * @param ram all of it, ascending
 * @param kept the part of RAM with ACPI's tables and this image: whole pages of 64 KiB
 */
export function buildEfi(base: number, acpiRoot: number, ram: readonly Range[], kept: Range): EfiImage {
  const align = (offset: number): number => Math.ceil(offset / 16) * 16;
  const entries = 3;
  const configuration = align(SYSTEM_TABLE_BYTES);
  const vendor = align(configuration + entries * CONFIGURATION_BYTES);
  const properties = align(vendor + 2 * (VENDOR.length + 1));
  const reservations = align(properties + 8);
  const map = align(reservations + 16);

  const systemTable = new ByteWriter()
    .raw(littleEndian(SYSTEM_TABLE_SIGNATURE))
    .int(REVISION, 4)
    .int(SYSTEM_TABLE_BYTES, 4)
    .int(0, 4) // CRC32, set below
    .int(0, 4)
    .int(base + vendor, 8)
    .int(0, 4) // firmware's revision
    .int(0, 4)
    .raw(new Uint8Array(48)) // consoles: of boot services
    .int(0, 8) // no runtime services
    .int(0, 8)
    .int(entries, 8)
    .int(base + configuration, 8)
    .toBytes();
  new DataView(systemTable.buffer).setUint32(16, crc32(systemTable), true);
  const tables = new ByteWriter();
  for (const [guid, address] of [
    [GUIDS.acpi20, acpiRoot],
    [GUIDS.memoryReservations, base + reservations],
    [GUIDS.runtimeProperties, base + properties],
  ] as const) {
    tables.raw(guidBytes(guid)).int(address, 8);
  }
  const descriptors = memoryMap(ram, kept);
  const bytes = new Uint8Array(map + descriptors.length);
  bytes.set(systemTable, 0);
  bytes.set(tables.toBytes(), configuration);
  bytes.set(Buffer.from(`${VENDOR}\0`, "utf16le"), vendor);
  // Version 1, 8 bytes, no service.
  bytes.set(new ByteWriter().int(1, 2).int(8, 2).int(0, 4).toBytes(), properties);
  bytes.set(descriptors, map);
  return { bytes, systemTable: base, memoryMap: { address: base + map, size: descriptors.length, descriptorBytes: DESCRIPTOR_BYTES, version: 1 } };
}

function memoryMap(ram: readonly Range[], kept: Range): Uint8Array {
  const out = new ByteWriter();
  const add = (type: number, from: number, to: number): void => {
    if (to > from) {
      out.int(type, 4).int(0, 4).int(from, 8).int(0, 8).int((to - from) / PAGE, 8).int(WRITE_BACK, 8);
    }
  };
  for (const { base, size } of ram) {
    const end = base + size;
    const [from, to] = [Math.min(Math.max(kept.base, base), end), Math.min(Math.max(kept.base + kept.size, base), end)];
    add(CONVENTIONAL, base, from);
    add(ACPI_RECLAIM, from, to);
    add(CONVENTIONAL, to, end);
  }
  return out.toBytes();
}

const littleEndian = (value: bigint): number[] => Array.from({ length: 8 }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn));
