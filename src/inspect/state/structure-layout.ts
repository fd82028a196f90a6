/** A structure in memory: its name, where the specification has it, its fields and what their values say. */
import { hex, highWord, lowWord, type Layout } from "../../support/index.js";
import type { FieldReport, Hex } from "../report/index.js";
import { decodeFields, type Meanings } from "./fields.js";

export interface StructureLayout {
  /** `STE`, `PASID table entry`. */
  readonly name: string;
  readonly section: string;
  /** By the specification's names. */
  readonly layout: Layout;
  readonly meanings: Meanings;
}

/** The fields of a structure, lowest bit first. `words` are 64-bit ones, or 32-bit ones as an Int32Array. */
export function decodeStructure({ layout, meanings }: StructureLayout, words: readonly bigint[] | Int32Array): FieldReport[] {
  return decodeFields(layout, words instanceof Int32Array ? words : halves(words), meanings);
}

/** 64-bit words as 32-bit ones. */
export function halves(words: readonly bigint[]): Int32Array {
  return Int32Array.from(words.flatMap((word) => [lowWord(word), highWord(word)]));
}

/** 64-bit words as reports have them. */
export function hexWords(words: readonly bigint[]): Hex[] {
  return words.map((word) => hex(word));
}

/** A flag that is told where it is set. */
export function whenSet(words: string): Readonly<Record<number, string>> {
  return { 1: words };
}
