/**
 * 64-bit values as two signed 32-bit words. Hot loops use the words as they are; the edges use these.
 */

/** Low word of `value` (number up to 2^53 or bigint) as a signed 32-bit integer. */
export function lowWord(value: number | bigint): number {
  return typeof value === "bigint" ? Number(BigInt.asIntN(32, value)) : (value % 0x1_0000_0000) | 0;
}

/** High word of `value` (number up to 2^53 or bigint) as a signed 32-bit integer. */
export function highWord(value: number | bigint): number {
  return typeof value === "bigint" ? Number(BigInt.asIntN(32, value >> 32n)) : Math.floor(value / 0x1_0000_0000) | 0;
}

/** Two words as an unsigned 64-bit bigint. */
export function toBigInt(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** Two words as a number; exact for values below 2^53. */
export function toNumber(high: number, low: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

/** `0x` and the digits of an unsigned value. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Bytes as the number that they are, the lowest first. */
export function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** The `count` lowest bytes of a number, the lowest first. */
export function littleEndianBytes(value: bigint, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_unused, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
