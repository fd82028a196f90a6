/** A GUID or UUID in the byte order of EFI and ACPI: the first three fields are little-endian (UEFI 2.10, appendix A; ACPI 6.5, 19.6.142). */
export function guidBytes(text: string): number[] {
  const hex = text.replaceAll("-", "");
  return [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map((n) => parseInt(hex.slice(2 * n, 2 * n + 2), 16));
}
