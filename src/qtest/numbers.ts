/** Numbers of the protocol, read from and written to bytes without strings. */

const DIGITS = Buffer.from("0123456789abcdef", "latin1");

/** The value of each byte as a hexadecimal digit; -1: none. */
export const HEX_VALUE = new Int8Array(256).fill(-1);
for (let value = 0; value < 16; value++) {
  HEX_VALUE[DIGITS[value]] = value;
  HEX_VALUE[value.toString(16).toUpperCase().charCodeAt(0)] = value;
}

/** Two digits for each byte. */
export const BYTE_DIGITS = new Uint16Array(256);
for (let byte = 0; byte < 256; byte++) {
  BYTE_DIGITS[byte] = (DIGITS[byte >> 4] << 8) | DIGITS[byte & 15];
}

const ZERO = 0x30;
const LETTER_X = 0x78;
/** Hexadecimal digits whose value a number holds exactly. */
const EXACT_DIGITS = 13;

/**
 * An unsigned number in the usual spelling, `0x` and up to 13 hexadecimal digits or up to 15 decimal ones.
 * @returns -1 where it is spelled otherwise: `parseUnsigned` decides then
 */
export function parseFast(bytes: Uint8Array, start: number, end: number): number {
  if (end - start > 2 && bytes[start] === ZERO && bytes[start + 1] === LETTER_X) {
    if (end - start > EXACT_DIGITS + 2) {
      return -1;
    }
    let value = 0;
    for (let i = start + 2; i < end; i++) {
      const digit = HEX_VALUE[bytes[i]];
      if (digit < 0) {
        return -1;
      }
      value = value * 16 + digit;
    }
    return value;
  }
  if (end === start || end - start > 15 || (bytes[start] === ZERO && end - start > 1)) {
    return -1;
  }
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = bytes[i] - ZERO;
    if (digit < 0 || digit > 9) {
      return -1;
    }
    value = value * 10 + digit;
  }
  return value;
}

const U64 = 1n << 64n;

/** Digits of strtoul() with base 0: 0x or 0X hexadecimal, a leading 0 octal, else decimal. Null: not a number. */
function magnitude(digits: string): bigint | null {
  if (/^0[xX][0-9a-fA-F]+$/.test(digits) || /^(?:[1-9][0-9]*|0)$/.test(digits)) {
    return BigInt(digits.toLowerCase());
  }
  return /^0[0-7]+$/.test(digits) ? BigInt(`0o${digits}`) : null;
}

/** As strtoull() with base 0 over the whole of `text`: white space before it, a sign, wrapping where negative. Null: none, or beyond 64 bits. */
export function parseUnsigned(text: string): bigint | null {
  const match = /^[ \t\n\v\f\r]*([+-]?)(.*)$/s.exec(text)!;
  const value = match[2].length > 80 ? null : magnitude(match[2]);
  if (value === null || value >= U64) {
    return null;
  }
  return match[1] === "-" ? BigInt.asUintN(64, -value) : value;
}

/** As strtoll() with base 0. Null: none, or beyond 64 bits. */
export function parseSigned(text: string): bigint | null {
  const match = /^[ \t\n\v\f\r]*([+-]?)(.*)$/s.exec(text)!;
  const value = match[2].length > 80 ? null : magnitude(match[2]);
  if (value === null) {
    return null;
  }
  const signed = match[1] === "-" ? -value : value;
  return BigInt.asIntN(64, signed) === signed ? signed : null;
}

/** The 8 digits of a 32-bit word at `at`. */
export function putWord(out: Buffer, at: number, word: number): void {
  for (let i = 0; i < 4; i++) {
    const digits = BYTE_DIGITS[(word >>> (24 - 8 * i)) & 0xff];
    out[at + 2 * i] = digits >> 8;
    out[at + 2 * i + 1] = digits & 0xff;
  }
}
