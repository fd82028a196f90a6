/**
 * ACPI tables as QEMU hands them to firmware: files with pointers that are offsets, and a script that places them
 * (include/hw/acpi/bios-linker-loader.h of QEMU 11.1).
 */
import type { AcpiImage } from "./acpi.js";
import { ByteWriter } from "./acpi-table.js";

export const RSDP_FILE = "etc/acpi/rsdp";
export const TABLES_FILE = "etc/acpi/tables";
export const LOADER_FILE = "etc/table-loader";

const ENTRY_BYTES = 128;
const NAME_BYTES = 56;
const ALLOCATE = 1;
const ADD_POINTER = 2;
const ADD_CHECKSUM = 3;
const ZONE_HIGH = 1;
const ZONE_FSEG = 2;
/** Fields of an RSDP and of a table's header. */
const RSDP_CHECKSUM = 8;
const RSDP_XSDT = 24;
const RSDP_EXTENDED_CHECKSUM = 32;
const TABLE_CHECKSUM = 9;

/** @param make the image for a base: pointers are its offsets from there */
export function loaderFiles(make: (base: number) => AcpiImage): Map<string, Uint8Array> {
  const { xsdtOffset } = make(0);
  const image = make(-xsdtOffset);
  const rsdp = image.tables.get("RSDP")!;
  const tables = image.bytes.slice(xsdtOffset);
  const script = new ByteWriter();
  const entry = (command: number, fill: (out: ByteWriter) => void): void => {
    const start = script.length;
    script.int(command, 4);
    fill(script);
    for (let i = script.length - start; i < ENTRY_BYTES; i++) {
      script.int(0, 1);
    }
  };
  const name = (out: ByteWriter, file: string): ByteWriter => out.raw(Array.from({ length: NAME_BYTES }, (_unused, i) => (i < file.length ? file.charCodeAt(i) : 0)));
  const pointer = (file: string, target: string, offset: number, size: number): void =>
    entry(ADD_POINTER, (out) => void name(name(out, file), target).int(offset, 4).int(size, 1));
  const checksum = (file: string, offset: number, start: number, length: number): void =>
    entry(ADD_CHECKSUM, (out) => void name(out, file).int(offset, 4).int(start, 4).int(length, 4));

  entry(ALLOCATE, (out) => void name(out, RSDP_FILE).int(16, 4).int(ZONE_FSEG, 1));
  entry(ALLOCATE, (out) => void name(out, TABLES_FILE).int(64, 4).int(ZONE_HIGH, 1));
  for (const { offset, size } of image.pointers) {
    pointer(TABLES_FILE, TABLES_FILE, offset - xsdtOffset, size);
  }
  for (const { start, length } of image.checksums) {
    checksum(TABLES_FILE, start - xsdtOffset + TABLE_CHECKSUM, start - xsdtOffset, length);
  }
  pointer(RSDP_FILE, TABLES_FILE, RSDP_XSDT, 8);
  checksum(RSDP_FILE, RSDP_CHECKSUM, 0, 20);
  checksum(RSDP_FILE, RSDP_EXTENDED_CHECKSUM, 0, rsdp.length);
  return new Map([
    [RSDP_FILE, rsdp],
    [TABLES_FILE, tables],
    [LOADER_FILE, script.toBytes()],
  ]);
}
