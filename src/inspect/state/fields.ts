/** Fields of registers and structures as a report tells them. */
import { AddressField, type Field, get, getWide, hex, type Layout } from "../../support/index.js";
import type { FieldReport } from "../report/index.js";

/** What values of fields say, by the field's name: by value, or worked out; null: the number says it. */
export type Meanings = Readonly<Record<string, Readonly<Record<number, string>> | ((value: number) => string | null)>>;

/**
 * The fields of a layout in their order from the lowest bit on.
 *
 * @param words 32-bit words of the register or structure, from index `base` on
 */
export function decodeFields(layout: Layout, words: ArrayLike<number>, meanings: Meanings = {}, base = 0): FieldReport[] {
  return Object.entries(layout)
    .map(([name, one]) => decodeField(name, one, words, meanings[name], base))
    .sort((a, b) => a.low - b.low);
}

function decodeField(name: string, one: Field | AddressField, words: ArrayLike<number>, meaning: Meanings[string] | undefined, base: number): FieldReport {
  if (one instanceof AddressField) {
    const low = 32 * one.word;
    return { name, high: low + one.top, low: low + one.bottom, value: hex(getWide(words, one, base)), meaning: null };
  }
  const value = get(words, one, base);
  const low = 32 * one.word + one.shift;
  const says = typeof meaning === "function" ? meaning(value) : (meaning?.[value] ?? null);
  return { name, high: low + one.width - 1, low, value: hex(value), meaning: says };
}
