/** What a row has changed of the state, as a recording has it, and the state that it comes to. Loads in a browser. */
import { PAGE_BYTES, PAGE_WORDS } from "../state/index.js";
import type { CachedEntry, MapReport, NumbersRow, TimelineRow } from "../report/index.js";

export type Side = "guest" | "host";

/** The last batch of a unit's queue, as `UnitState` has it. */
export type Batch = { readonly first: number | null; readonly entries: number; readonly handled: number; readonly error: string | null } | null;

/** A unit as it is from a row on. Values of registers are hexadecimal with 0x. */
export interface UnitChange {
  readonly id: string;
  readonly side: Side;
  readonly architecture: "smmuv3" | "vtd";
  /** All registers where `whole`, else those that have changed. */
  readonly registers: Readonly<Record<string, string>>;
  readonly whole: boolean;
  readonly batch: Batch;
}

/** Contents of a page of 4 KiB: base64 of its bytes; words by their index; null: nothing answers there any more, or no table is there. */
export interface PageChange {
  readonly side: Side;
  /** Address divided by 4096. */
  readonly page: number;
  readonly bytes?: string;
  /** Pairs: index of a 32-bit word, its value. */
  readonly words?: readonly number[];
  readonly gone?: true;
}

/** Each member: what is so from this row on; absent: as before. */
export interface Changes {
  readonly map?: MapReport;
  /** Units by place; null: this one is as before. As many as there are from now on. */
  readonly units?: ReadonlyArray<UnitChange | null>;
  /** `first` entries stay, `removed` go, `entries` come, the rest stays. */
  readonly cached?: { readonly first: number; readonly removed: number; readonly entries: readonly CachedEntry[] };
  /** The host's unit and StreamID by the host's address of a function. */
  readonly places?: Readonly<Record<string, { readonly unit: string; readonly streamId: number } | null>>;
  /** RAM: guest-physical address, bytes, address in the host's memory, of each range, in one list. */
  readonly ram?: readonly number[];
  readonly pages?: readonly PageChange[];
  readonly numbers?: readonly NumbersRow[];
}

/** A line of a chunk. */
export type RecordedLine = readonly [row: TimelineRow, changes: Changes];

export interface RecordedUnit {
  readonly id: string;
  readonly side: Side;
  readonly architecture: "smmuv3" | "vtd";
  readonly registers: ReadonlyMap<string, bigint>;
  readonly batch: Batch;
}

/** The state at a row. It is not changed: the next row's shares with it what has stayed. */
export interface RecordedState {
  readonly map: MapReport | null;
  readonly units: readonly RecordedUnit[];
  readonly cached: readonly CachedEntry[];
  readonly places: Readonly<Record<string, { readonly unit: string; readonly streamId: number } | null>>;
  readonly ram: readonly number[];
  /** Words of pages by page number. */
  readonly pages: Readonly<Record<Side, ReadonlyMap<number, Int32Array>>>;
  readonly numbers: readonly NumbersRow[];
}

export const EMPTY_STATE: RecordedState = { map: null, units: [], cached: [], places: {}, ram: [], pages: { guest: new Map(), host: new Map() }, numbers: [] };

export function applyChanges(state: RecordedState, changes: Changes): RecordedState {
  const { map, units, cached, places, ram, pages, numbers } = changes;
  return {
    map: map ?? state.map,
    units: units === undefined ? state.units : units.map((unit, at) => (unit === null ? state.units[at] : applyUnit(state.units.at(at), unit))).filter((unit) => unit !== undefined),
    cached: cached === undefined ? state.cached : state.cached.toSpliced(cached.first, cached.removed, ...cached.entries),
    places: places ?? state.places,
    ram: ram ?? state.ram,
    pages: pages === undefined ? state.pages : applyPages(state.pages, pages),
    numbers: numbers ?? state.numbers,
  };
}

function applyUnit(before: RecordedUnit | undefined, { id, side, architecture, registers, whole, batch }: UnitChange): RecordedUnit {
  const values = new Map(whole ? [] : before?.registers);
  for (const [name, value] of Object.entries(registers)) {
    values.set(name, BigInt(value));
  }
  return { id, side, architecture, registers: values, batch };
}

function applyPages(before: RecordedState["pages"], changes: readonly PageChange[]): RecordedState["pages"] {
  const after = { guest: new Map(before.guest), host: new Map(before.host) };
  for (const { side, page, bytes, words, gone } of changes) {
    const pages = after[side];
    if (gone === true) {
      pages.delete(page);
    } else if (bytes !== undefined) {
      pages.set(page, wordsOf(bytes));
    } else if (words !== undefined) {
      const own = Int32Array.from(pages.get(page) ?? new Int32Array(PAGE_WORDS));
      for (let at = 0; at + 1 < words.length; at += 2) {
        own[words[at]] = words[at + 1];
      }
      pages.set(page, own);
    }
  }
  return after;
}

/** A page without a word other than 0 is the empty text. */
export function bytesOf(words: Int32Array): string {
  return words.every((word) => word === 0) ? "" : btoa(String.fromCharCode(...new Uint8Array(words.buffer, words.byteOffset, words.byteLength)));
}

function wordsOf(text: string): Int32Array {
  const bytes = new Uint8Array(PAGE_BYTES);
  const decoded = atob(text);
  for (let at = 0; at < Math.min(decoded.length, PAGE_BYTES); at++) {
    bytes[at] = decoded.charCodeAt(at);
  }
  return new Int32Array(bytes.buffer);
}
