/** A type of interrupt controller structure that nobody knows. */
const UNKNOWN = 0x7f;
/** Offset of the first structure, and of the checksum (ACPI 6.5, 5.2.12). */
const STRUCTURES = 44;
const CHECKSUM = 9;

/** Hides the structures of some types in every MADT among the bytes, whose checksums stay right. */
export function renameMadtEntries(tables: Buffer, types: readonly number[]): void {
  for (let at = tables.indexOf("APIC"); at >= 0; at = tables.indexOf("APIC", at + 4)) {
    const length = at + STRUCTURES <= tables.length ? tables.readUInt32LE(at + 4) : 0;
    const table = tables.subarray(at, at + length);
    if (length < STRUCTURES || table.length < length || table.reduce((total, byte) => (total + byte) & 0xff, 0) !== 0) {
      continue;
    }
    for (let entry = STRUCTURES; entry + 2 <= length && table[entry + 1] >= 2; entry += table[entry + 1]) {
      const type = table[entry];
      if (types.includes(type)) {
        table[entry] = UNKNOWN;
        table[CHECKSUM] = (table[CHECKSUM] - (UNKNOWN - type)) & 0xff;
      }
    }
  }
}
