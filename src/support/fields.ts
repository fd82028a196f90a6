/**
 * Bit fields of registers and of the structures in memory. Structures are little-endian arrays of
 * 32-bit words (Int32Array); a field lies in one word, an address in two neighbouring ones.
 */

/** A field inside one 32-bit word. For a register, `word` is 0. */
export class Field {
  /** The field's bits moved down to bit 0; -1 for a whole word. */
  readonly mask: number;
  /** The field's bits where they are, as a signed 32-bit integer. */
  readonly inPlace: number;

  constructor(
    readonly word: number,
    readonly shift: number,
    readonly width: number,
  ) {
    this.mask = width === 32 ? -1 : (1 << width) - 1;
    this.inPlace = this.mask << shift;
  }
}

/** An address whose bits lie where they belong in the 64-bit word that starts at `word`: bits [`top`:`bottom`]. */
export class AddressField {
  readonly lowMask: number;
  readonly highMask: number;

  constructor(
    readonly word: number,
    readonly bottom: number,
    readonly top: number,
  ) {
    this.lowMask = -1 << bottom;
    this.highMask = top === 63 ? -1 : (1 << (top - 31)) - 1;
  }
}

/** Field at bits [`shift` + `width` - 1 : `shift`] of 32-bit word `word`. */
export function field(word: number, shift: number, width = 1): Field {
  return new Field(word, shift, width);
}

/** Field of a 32-bit register, or of the low word of a 64-bit one. */
export function bits(shift: number, width = 1): Field {
  return new Field(0, shift, width);
}

export function address(word: number, bottom: number, top: number): AddressField {
  return new AddressField(word, bottom, top);
}

/** The field's value (unsigned) in the structure that starts at word `base` of `words`. */
export function get(words: ArrayLike<number>, f: Field, base = 0): number {
  return ((words[base + f.word] >>> f.shift) & f.mask) >>> 0;
}

/** Stores the low bits of `value` into the field. */
export function put(words: Int32Array, f: Field, value: number, base = 0): void {
  const at = base + f.word;
  words[at] = (words[at] & ~f.inPlace) | ((value & f.mask) << f.shift);
}

/** The field's value (unsigned) in a register's value. */
export function extract(value: number, f: Field): number {
  return ((value >>> f.shift) & f.mask) >>> 0;
}

/** A register's value (signed 32 bits) with the field replaced. */
export function deposit(value: number, f: Field, fieldValue: number): number {
  return (value & ~f.inPlace) | ((fieldValue & f.mask) << f.shift);
}

/** A physical address field (bytes); exact, since the fields end at bit 55 and begin at bit 4 or higher. */
export function getAddress(words: ArrayLike<number>, f: AddressField, base = 0): number {
  const low = (words[base + f.word] & f.lowMask) >>> 0;
  return ((words[base + f.word + 1] & f.highMask) >>> 0) * 0x1_0000_0000 + low;
}

/** A 64-bit address field, such as a virtual address. */
export function getWide(words: ArrayLike<number>, f: AddressField, base = 0): bigint {
  const low = (words[base + f.word] & f.lowMask) >>> 0;
  return (BigInt((words[base + f.word + 1] & f.highMask) >>> 0) << 32n) | BigInt(low);
}

/** Stores an address; bits outside the field are dropped. */
export function putAddress(words: Int32Array, f: AddressField, value: number | bigint, base = 0): void {
  const wide = BigInt(value);
  const at = base + f.word;
  words[at] = (words[at] & ~f.lowMask) | (Number(BigInt.asIntN(32, wide)) & f.lowMask);
  words[at + 1] = (words[at + 1] & ~f.highMask) | (Number(BigInt.asIntN(32, wide >> 32n)) & f.highMask);
}

/** Names of fields with their places: one structure's layout. */
export type Layout = Readonly<Record<string, Field | AddressField>>;

/** Values for the fields of a layout; what is left out is zero. */
export type FieldValues<L extends Layout> = { readonly [K in keyof L]?: number | bigint | boolean };

/** Fills `words` (from `base` on) with the fields named in `values`. Throws RangeError where a value does not fit its field. */
export function pack<L extends Layout>(layout: L, words: Int32Array, values: FieldValues<L>, base = 0): Int32Array {
  for (const name of Object.keys(values)) {
    const value = values[name];
    if (value === undefined) {
      continue;
    }
    const f = layout[name];
    const wide = BigInt(value);
    if (f instanceof AddressField) {
      const span = (1n << BigInt(f.top + 1)) - (1n << BigInt(f.bottom));
      if ((wide & ~span) !== 0n) {
        throw new RangeError(`${name}: 0x${wide.toString(16)} has bits outside [${f.top}:${f.bottom}]`);
      }
      putAddress(words, f, wide, base);
    } else {
      if (wide < 0n || wide >> BigInt(f.width) !== 0n) {
        throw new RangeError(`${name}: 0x${wide.toString(16)} is wider than ${f.width} bits`);
      }
      put(words, f, Number(BigInt.asIntN(32, wide)), base);
    }
  }
  return words;
}

/** All fields by name, for logs and for `--json`: addresses as bigint, the rest as number. */
export function unpack<L extends Layout>(
  layout: L,
  words: ArrayLike<number>,
  base = 0,
): { [K in keyof L]: L[K] extends AddressField ? bigint : number } {
  const out: Record<string, number | bigint> = {};
  for (const name of Object.keys(layout)) {
    const f = layout[name];
    out[name] = f instanceof AddressField ? getWide(words, f, base) : get(words, f, base);
  }
  return out as { [K in keyof L]: L[K] extends AddressField ? bigint : number };
}
