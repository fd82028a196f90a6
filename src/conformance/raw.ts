/** Structures and numbers of ioctls (linux/iommufd.h, linux/vfio.h) as bytes: what the methods cannot express. */

/** _IO(';', number): the ioctls of both interfaces have no direction and no size in their number. */
export function request(number: number): number {
  return 0x3b00 | number;
}

/** A field of a structure: its bytes (2, 4 or 8) and its value. */
export type RawField = readonly [bytes: 2 | 4 | 8, value: number | bigint];

/** A structure's bytes, little-endian; `tail` bytes of zero more. */
export function structure(fields: readonly RawField[], tail = 0): Uint8Array {
  const length = fields.reduce((sum, [bytes]) => sum + bytes, 0);
  const view = new DataView(new ArrayBuffer(length + tail));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 8) {
      view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
    } else if (bytes === 4) {
      view.setUint32(at, Number(value) >>> 0, true);
    } else {
      view.setUint16(at, Number(value), true);
    }
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

export function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at, true);
}

export function wide(bytes: Uint8Array, at: number): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(at, true);
}
