/** Numbers as they are read: addresses in groups, sizes, times. */

/** The digits of `0x12345678` in fours from the right: `1234`, `5678`. Null: it is no such number, or a short one. */
export function groups(hex: string): readonly string[] | null {
  const digits = /^0x([0-9a-f]{5,})$/i.exec(hex)?.[1];
  return digits === undefined ? null : digits.match(/^.{1,3}(?=(?:.{4})+$)|.{4}/g)!;
}

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** `4 KiB` for 12. */
export function sizeOfBits(bits: number): string {
  const unit = Math.min(Math.floor(bits / 10), UNITS.length - 1);
  return `${2 ** (bits - unit * 10)} ${UNITS[unit]}`;
}

/** `3.2 MiB`, in as few digits as tell it. */
export function sizeOf(bytes: number): string {
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) {
    value /= 1024;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** `12,345`: the same in every place. */
export function count(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** `1.2k`, `34M`: for an axis or a small cell. */
export function short(value: number): string {
  for (const [bound, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (value >= bound) {
      return `${(value / bound).toFixed(value / bound < 10 ? 1 : 0)}${letter}`;
    }
  }
  return value === 0 || value >= 10 ? Math.round(value).toString() : value.toFixed(1).replace(/\.0$/, "");
}

/** Microseconds as seconds with all six places: `1.234567`. */
export function seconds(microseconds: number): string {
  const whole = Math.floor(microseconds / 1e6);
  return `${whole}.${Math.floor(microseconds % 1e6).toString().padStart(6, "0")}`;
}

/** `{first, last}` of a translation of `bits` around `iova`, as hex. */
export function rangeOf(iova: string, bits: number): { readonly first: bigint; readonly last: bigint } | null {
  if (!/^0x[0-9a-f]+$/i.test(iova)) {
    return null;
  }
  const first = (BigInt(iova) >> BigInt(bits)) << BigInt(bits);
  return { first, last: first + (1n << BigInt(bits)) - 1n };
}

/** The number that a user typed, in hexadecimal with `0x` or decimal; null: none. */
export function typed(text: string): bigint | null {
  const bare = text.trim().replace(/[\s_]/g, "");
  return /^(?:0x[0-9a-f]+|\d+)$/i.test(bare) ? BigInt(bare) : null;
}
