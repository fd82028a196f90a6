/** Makes structures out of their fields' values. */
import { type AddressField, type Field, put, putAddress } from "../../../src/support/index.js";

export { CONTEXT, PASID_DIRECTORY, PASID_ENTRY, ROOT, SM_CONTEXT, SM_ROOT } from "../../../src/vtd/spec/index.js";

export type Fields = Readonly<Record<string, Field | AddressField>>;
export type Values = Readonly<Record<string, number>>;

/** 32-bit words of a structure with these fields. */
export function build(layout: Fields, words: number, values: Values): Int32Array {
  const out = new Int32Array(words);
  for (const [name, value] of Object.entries(values)) {
    const f = layout[name];
    if ("mask" in f) {
      put(out, f, value);
    } else {
      putAddress(out, f, value);
    }
  }
  return out;
}
