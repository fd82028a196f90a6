/** ACPI system description tables: little-endian bytes behind a 36-byte header with a checksum (ACPI 6.5, 5.2.6). */
export interface Oem {
  /** 6 characters. */
  readonly id: string;
  /** 8 characters. */
  readonly tableId: string;
  /** 4 characters. */
  readonly creator: string;
}

export const OEM: Oem = { id: "VIOMMU", tableId: "VIOMMU  ", creator: "VIOM" };

export const HEADER_BYTES = 36;

/** Bytes in the order in which they are added. */
export class ByteWriter {
  private readonly bytes: number[] = [];

  get length(): number {
    return this.bytes.length;
  }

  /** `size` bytes of an unsigned value below 2^53, little-endian. */
  int(value: number, size: number): this {
    for (let i = 0; i < size; i++) {
      this.bytes.push(Math.floor(value / 2 ** (8 * i)) % 256);
    }
    return this;
  }

  text(text: string, size: number): this {
    for (let i = 0; i < size; i++) {
      this.bytes.push(i < text.length ? text.charCodeAt(i) & 0x7f : 0x20);
    }
    return this;
  }

  raw(bytes: Iterable<number>): this {
    this.bytes.push(...bytes);
    return this;
  }

  toBytes(): Uint8Array {
    return Uint8Array.from(this.bytes);
  }
}

/** A whole table: header, body, and the checksum that makes all bytes sum to zero. */
export function acpiTable(signature: string, revision: number, body: Uint8Array, oem: Oem = OEM): Uint8Array {
  const table = new ByteWriter()
    .text(signature, 4)
    .int(HEADER_BYTES + body.length, 4)
    .int(revision, 1)
    .int(0, 1)
    .text(oem.id, 6)
    .text(oem.tableId, 8)
    .int(1, 4)
    .text(oem.creator, 4)
    .int(1, 4)
    .raw(body)
    .toBytes();
  table[9] = checksum(table, 0, table.length);
  return table;
}

/** The byte that brings the sum of `length` bytes to zero modulo 256. */
export function checksum(bytes: Uint8Array, start: number, length: number): number {
  let sum = 0;
  for (let i = start; i < start + length; i++) {
    sum += bytes[i];
  }
  return -sum & 0xff;
}
