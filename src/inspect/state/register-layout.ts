import type { Field, Layout } from "../../support/index.js";

/** A register of a unit: where it is and what is in it. */
export interface RegisterLayout {
  /** As `UnitState.registers` has it. */
  readonly name: string;
  /** Bytes from the first register page. */
  readonly offset: number;
  /** 64: two words, the low one at `offset`. */
  readonly bits: 32 | 64;
  /** Where the specification says what it is. */
  readonly section: string;
  readonly layout: Layout;
  /** It is there where this field of IDR0 is set, or of ECAP; left out: always. */
  readonly needs?: Field;
}
