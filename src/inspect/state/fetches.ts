/** Loads as fetches on two axes: structures and stage 1 down, stage 2 across. */
import { hex, lowWord } from "../../support/index.js";
import { levelShift, type Tables } from "../../translation/index.js";
import type { FetchReport } from "../report/index.js";
import { decodeStructure, hexWords, type StructureLayout } from "./structure-layout.js";
import type { Load } from "./told-walk.js";
import { descriptorKind, descriptorLayout } from "./vmsa-fields.js";
import { entryKind, entryLayout } from "./vtd-fields.js";

/** A structure that is read next. */
export interface StructureStep {
  readonly layout: StructureLayout;
  /** 64-bit words. */
  readonly count: number;
  /** What it decides, in words. */
  decides(words: readonly bigint[]): string;
}

/** The structures in the order in which they are read; each is given the words of the one before. */
export type StructureSteps = Generator<StructureStep, void, readonly bigint[]>;

/** Fetches that are told of one walk. */
export const MOST_FETCHES = 256;

const NOTHING_ANSWERS = "Nothing answers at this address: an external abort";

interface Fetch extends Omit<FetchReport, "number" | "column"> {
  /** Of stage 2: the level as walks count; null: the row's own. */
  readonly across: number | null;
}

/** All fetches of a request. Structures come before the first descriptor of stage 1: what is loaded again after that is not told. */
export function tellFetches(loads: readonly Load[], steps: StructureSteps, space: FetchReport["space"]): { fetches: FetchReport[]; cut: boolean } {
  const fetches: Fetch[] = [];
  let row = 0;
  let step = steps.next([]);
  let stage1 = false;
  for (let at = 0; at < loads.length; ) {
    const load = loads[at];
    const common = { row, space, address: hex(load.address), ipa: load.before === null ? null : hex(load.before) };
    if (load.descriptor === null) {
      if (step.done === true || stage1) {
        at++;
        continue;
      }
      const { layout, count, decides } = step.value;
      const words = loads.slice(at, at + count).flatMap(({ descriptor, word }) => (descriptor === null && word !== null ? [word] : []));
      const whole = words.length === count;
      fetches.push({
        ...common,
        name: layout.name,
        across: null,
        stage: "structure",
        level: null,
        words: hexWords(words),
        fields: whole ? decodeStructure(layout, words) : [],
        decides: whole ? decides(words) : NOTHING_ANSWERS,
        section: layout.section,
      });
      step = steps.next(words);
      at += whole ? count : words.length + 1;
      row++;
      continue;
    }
    const { stage, level, tables } = load.descriptor;
    const layout = layoutOf(load.word ?? 0n, stage, level, tables);
    fetches.push({
      ...common,
      name: layout.name,
      across: stage === 2 ? level : null,
      stage,
      level: shownLevel(level, tables),
      words: load.word === null ? [] : hexWords([load.word]),
      fields: load.word === null ? [] : decodeStructure(layout, [load.word]),
      decides: load.word === null ? NOTHING_ANSWERS : decided(load.word, stage, level, tables),
      section: layout.section,
    });
    if (stage === 1) {
      stage1 = true;
      row++;
    }
    at++;
  }
  const levels = fetches.flatMap(({ across }) => across ?? []);
  const first = Math.min(...levels);
  const own = levels.length === 0 ? 0 : Math.max(...levels) - first + 1;
  return {
    fetches: fetches.slice(0, MOST_FETCHES).map(({ across, ...fetch }, index) => ({ number: index + 1, ...fetch, column: across === null ? own : across - first })),
    cut: fetches.length > MOST_FETCHES,
  };
}

/** Of VT-d the specification's: 1 is a table of 4-KiB pages. */
export function shownLevel(level: number, tables: Tables): number {
  return tables.format === undefined ? level : 4 - level;
}

function layoutOf(word: bigint, stage: 1 | 2, level: number, tables: Tables): StructureLayout {
  const low = lowWord(word);
  return tables.format === undefined ? descriptorLayout(low, stage, level, tables.granuleBits) : entryLayout(low, tables.format, 4 - level);
}

/** A descriptor's address, and log2 bytes of what it maps; null: it is a table, or nothing. */
export function leafOf(word: bigint, level: number, tables: Tables): { readonly address: bigint; readonly bits: number } | null {
  const low = lowWord(word);
  const vmsa = tables.format === undefined;
  const kind = vmsa ? descriptorKind(low, level, tables.granuleBits) : entryKind(low, tables.format, 4 - level);
  if (kind !== "block" && kind !== "page") {
    return null;
  }
  const bits = levelShift(vmsa ? tables.granuleBits : 12, level);
  return { address: addressOf(word, bits, vmsa), bits };
}

/** The table that a descriptor leads to; null: it is none. */
export function tableOf(word: bigint, level: number, tables: Tables): bigint | null {
  const low = lowWord(word);
  const vmsa = tables.format === undefined;
  const kind = vmsa ? descriptorKind(low, level, tables.granuleBits) : entryKind(low, tables.format, 4 - level);
  return kind === "table" ? addressOf(word, vmsa ? tables.granuleBits : 12, vmsa) : null;
}

function addressOf(word: bigint, bits: number, vmsa: boolean): bigint {
  return ((word & ((1n << (vmsa ? 48n : 52n)) - 1n)) >> BigInt(bits)) << BigInt(bits);
}

function decided(word: bigint, stage: 1 | 2, level: number, tables: Tables): string {
  const next = tableOf(word, level, tables);
  if (next !== null) {
    return `A table at ${hex(next)}: level ${shownLevel(level + 1, tables)} follows`;
  }
  const leaf = leafOf(word, level, tables);
  if (leaf === null) {
    return tables.format === undefined ? "Not valid: a translation fault" : "Not present: a fault";
  }
  return `A page of ${sizeText(leaf.bits)} at ${hex(leaf.address)}: stage ${stage} ends here`;
}

/** 4K, 2M, 1G. */
export function sizeText(bits: number): string {
  const unit = Math.min(3, Math.floor(bits / 10));
  return `${2 ** (bits - 10 * unit)}${["", "K", "M", "G"][unit]}`;
}
