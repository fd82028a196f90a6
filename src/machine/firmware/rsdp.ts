import { ByteWriter, checksum, OEM } from "./acpi-table.js";

/** Root System Description Pointer, revision 2 (ACPI 6.5, 5.2.5.3). */
export const ACPI_RSDP_BYTES = 36;

/** The RSDP for an XSDT at a guest-physical address: one checksum over the first 20 bytes, one over all. */
export function rsdp(xsdtAddress: number): Uint8Array {
  const bytes = new ByteWriter()
    .text("RSD PTR ", 8)
    .int(0, 1)
    .text(OEM.id, 6)
    .int(2, 1)
    .int(0, 4) // no RSDT
    .int(ACPI_RSDP_BYTES, 4)
    .int(xsdtAddress, 8)
    .int(0, 1)
    .int(0, 3)
    .toBytes();
  bytes[8] = checksum(bytes, 0, 20);
  bytes[32] = checksum(bytes, 0, ACPI_RSDP_BYTES);
  return bytes;
}
