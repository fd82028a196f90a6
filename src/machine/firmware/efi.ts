/**
 * What firmware by UEFI leaves to a kernel, as far as Linux on arm64 reads it (UEFI 2.10): the system table with the
 * configuration tables that lead to ACPI's, the memory map, and of the runtime services the clock.
 */
import { crc32 } from "node:zlib";
import { littleEndianBytes } from "../../support/index.js";
import { ByteWriter } from "./acpi-table.js";
import { CLOCK_VIRTUAL, CODE_VIRTUAL, runtimeCode, runtimeTable, TABLE_VIRTUAL, TIME_SERVICES } from "./efi-runtime.js";
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
const RUNTIME_CODE = 5;
const RUNTIME_DATA = 6;
const CONVENTIONAL = 7;
const ACPI_RECLAIM = 9;
const MAPPED_IO = 11;
const UNCACHED = 1n << 0n;
const WRITE_BACK = 1n << 3n;
const RUNTIME = 1n << 63n;
/** What has other attributes has pages of its own, whatever pages the kernel has. */
const LARGE_PAGE = 0x1_0000;
const DESCRIPTOR_BYTES = 40;
const PAGE = 4096;

export interface EfiImage {
  readonly bytes: Uint8Array;
  /** Guest-physical addresses. */
  readonly systemTable: number;
  readonly memoryMap: { readonly address: number; readonly size: number; readonly descriptorBytes: number; readonly version: number };
}

export interface EfiRequest {
  /** Where the image will be, 16 bytes aligned, inside of `kept`. */
  readonly base: number;
  /** The RSDP. */
  readonly acpiRoot: number;
  /** All of it, in one piece. */
  readonly ram: Range;
  /** The part of RAM with ACPI's tables and the system table: whole pages of 64 KiB. Two such pages behind it are taken for the services. */
  readonly kept: Range;
  /** Registers that tell the time (EfiClock of the board), a page of 64 KiB. */
  readonly clock: Range;
}

/** Everything is guest-physical, but for what the memory map gives virtual addresses. */
export function buildEfi({ base, acpiRoot, ram, kept, clock }: EfiRequest): EfiImage {
  const align = (offset: number): number => Math.ceil(offset / 16) * 16;
  const entries = 3;
  const configuration = align(SYSTEM_TABLE_BYTES);
  const vendor = align(configuration + entries * CONFIGURATION_BYTES);
  const properties = align(vendor + 2 * (VENDOR.length + 1));
  const reservations = align(properties + 8);
  const map = align(reservations + 16);

  const systemTable = new ByteWriter()
    .raw(littleEndianBytes(SYSTEM_TABLE_SIGNATURE, 8))
    .int(REVISION, 4)
    .int(SYSTEM_TABLE_BYTES, 4)
    .int(0, 4) // CRC32, set below
    .int(0, 4)
    .int(base + vendor, 8)
    .int(0, 4) // firmware's revision
    .int(0, 4)
    .raw(new Uint8Array(48)) // consoles: of boot services
    .int(TABLE_VIRTUAL, 8)
    .int(0, 8) // no boot services any more
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
  const code = kept.base + kept.size;
  const descriptors = memoryMap(ram, kept, code, clock);
  const table = runtimeTable();
  const bytes = new Uint8Array(code + LARGE_PAGE + table.length - base);
  bytes.set(systemTable, 0);
  bytes.set(tables.toBytes(), configuration);
  bytes.set(Buffer.from(`${VENDOR}\0`, "utf16le"), vendor);
  // Version 1, 8 bytes.
  bytes.set(new ByteWriter().int(1, 2).int(8, 2).int(TIME_SERVICES, 4).toBytes(), properties);
  bytes.set(descriptors, map);
  bytes.set(runtimeCode(), code - base);
  bytes.set(table, code + LARGE_PAGE - base);
  return { bytes, systemTable: base, memoryMap: { address: base + map, size: descriptors.length, descriptorBytes: DESCRIPTOR_BYTES, version: 1 } };
}

function memoryMap(ram: Range, kept: Range, code: number, clock: Range): Uint8Array {
  const out = new ByteWriter();
  const add = (type: number, from: number, size: number, attributes: bigint, virtual = 0): void => {
    out.int(type, 4).int(0, 4).int(from, 8).int(virtual, 8).int(size / PAGE, 8).raw(littleEndianBytes(attributes, 8));
  };
  const rest = code + 2 * LARGE_PAGE;
  add(MAPPED_IO, clock.base, clock.size, UNCACHED | RUNTIME, CLOCK_VIRTUAL);
  add(CONVENTIONAL, ram.base, kept.base - ram.base, WRITE_BACK);
  add(ACPI_RECLAIM, kept.base, kept.size, WRITE_BACK);
  add(RUNTIME_CODE, code, LARGE_PAGE, WRITE_BACK | RUNTIME, CODE_VIRTUAL);
  add(RUNTIME_DATA, code + LARGE_PAGE, LARGE_PAGE, WRITE_BACK | RUNTIME, TABLE_VIRTUAL);
  add(CONVENTIONAL, rest, ram.base + ram.size - rest, WRITE_BACK);
  return out.toBytes();
}

