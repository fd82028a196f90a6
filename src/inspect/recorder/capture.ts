/** The state of a machine as changes from one row to the next. */
import type { WordMemory } from "../../memory/index.js";
import { hex } from "../../support/index.js";
import { type Batch, bytesOf, type Changes, type PageChange, type Side, type UnitChange } from "../recording/index.js";
import type { CachedEntry, NumbersRow } from "../report/index.js";
import { type InspectionSource, PAGE_BYTES, PAGE_WORDS, readPage, tablePages, type UnitState } from "../state/index.js";

/** Words of a page that are told one by one; of more the page as a whole. */
const WORDS_TOLD = 64;

export interface Captured {
  readonly source: InspectionSource;
  /** RAM that the machine has: guest-physical address and bytes. */
  ram(): ReadonlyArray<{ readonly address: number; readonly size: number }>;
  numbers(): readonly NumbersRow[];
}

interface KeptPage {
  readonly side: Side;
  readonly page: number;
  readonly words: Int32Array;
  /** Something answers there. */
  answers: boolean;
  /** It is in the recording. */
  told: boolean;
}

export class Capture {
  private map = "";
  private units: Array<{ readonly key: string; readonly registers: ReadonlyMap<string, bigint>; readonly batch: string }> = [];
  private cached: string[] = [];
  private streams = "";
  private places = "";
  private ram = "";
  private numbers = "";
  private pages = new Map<string, KeptPage>();
  private readonly fresh = new Int32Array(PAGE_WORDS);

  constructor(private readonly of: Captured) {}

  /** What has changed since the call before. @param whole all of the state instead */
  changes(whole: boolean): Changes {
    // All is read before anything is kept: where the machine is being changed it may not be to be told.
    const { source } = this.of;
    const map = source.map();
    const units = source.units();
    const entries = source.cached();
    const numbers = this.of.numbers();
    if (whole) {
      Object.assign(this, { map: "", units: [], cached: [], streams: "", places: "", ram: "", numbers: "", pages: new Map() });
    }
    const changes: { -readonly [K in keyof Changes]: Changes[K] } = {};
    this.map = onlyChanged(this.map, map, (value) => (changes.map = value));
    const addresses = new Set([...map.host.functions.map(({ address }) => address), ...map.functions.flatMap(({ host }) => host ?? [])]);
    const places = Object.fromEntries([...addresses].map((address) => [address, source.hostPlace(address)]));
    this.places = onlyChanged(this.places, places, (value) => (changes.places = value));
    const ram = this.of.ram().flatMap(({ address, size }) => {
      const host = source.hostAddressOf(address);
      return host === null ? [] : [address, size, host];
    });
    this.ram = onlyChanged(this.ram, ram, (value) => (changes.ram = value));
    const unitChanges = this.unitChanges(units);
    if (unitChanges !== null) {
      changes.units = unitChanges;
    }
    const cached = this.cachedChange(entries);
    if (cached !== null || whole) {
      changes.cached = cached ?? { first: 0, removed: 0, entries: [] };
    }
    this.numbers = onlyChanged(this.numbers, numbers, (value) => (changes.numbers = value));
    const streams = this.streamsChange(entries);
    // What tablePages begins at, besides pages.
    const elsewhere = unitChanges !== null || [changes.map, changes.places, changes.ram, streams].some((change) => change !== undefined);
    const pages = this.pageChanges(units, elsewhere);
    if (pages.length > 0) {
      changes.pages = pages;
    }
    return changes;
  }

  private unitChanges(units: readonly UnitState[]): Array<UnitChange | null> | null {
    const before = this.units;
    this.units = units.map(({ id, side, architecture, registers, batch }) => ({ key: `${side} ${architecture} ${id}`, registers, batch: JSON.stringify(batch) }));
    const changes = units.map(({ id, side, architecture, registers, batch }, at): UnitChange | null => {
      const own = this.units[at];
      const last = before.at(at);
      const told = { id, side, architecture, batch: batch as Batch };
      if (last?.key !== own.key || !sameNames(last.registers, registers)) {
        return { ...told, whole: true, registers: Object.fromEntries([...registers].map(([name, value]) => [name, hex(value)])) };
      }
      const changed = [...registers].filter(([name, value]) => last.registers.get(name) !== value);
      return changed.length === 0 && last.batch === own.batch ? null : { ...told, whole: false, registers: Object.fromEntries(changed.map(([name, value]) => [name, hex(value)])) };
    });
    return units.length !== before.length || changes.some((change) => change !== null) ? changes : null;
  }

  /** What is between the entries that have stayed at the beginning and those at the end. */
  private cachedChange(entries: readonly CachedEntry[]): Changes["cached"] | null {
    const before = this.cached;
    const after = entries.map((entry) => JSON.stringify(entry));
    this.cached = after;
    const most = Math.min(before.length, after.length);
    let first = 0;
    while (first < most && before[first] === after[first]) {
      first++;
    }
    let last = 0;
    while (last < most - first && before[before.length - 1 - last] === after[after.length - 1 - last]) {
      last++;
    }
    return before.length === after.length && first === before.length ? null : { first, removed: before.length - first - last, entries: entries.slice(first, after.length - last) };
  }

  /** The StreamIDs that caches hold entries of; undefined: they are what they were. */
  private streamsChange(entries: readonly CachedEntry[]): readonly string[] | undefined {
    const streams = [...new Set(entries.flatMap(({ side, iommu, streamId }) => (streamId === null ? [] : `${side} ${iommu} ${streamId}`)))].sort();
    let change: readonly string[] | undefined;
    this.streams = onlyChanged(this.streams, streams, (value) => (change = value));
    return change;
  }

  /** Tables are looked for anew where a page that is known has changed, or something else that leads to them (`elsewhere`). */
  private pageChanges(units: readonly UnitState[], elsewhere: boolean): PageChange[] {
    const memory = new Map<Side, WordMemory>(units.map((unit) => [unit.side, unit.memory]));
    const changes: PageChange[] = [];
    for (const kept of this.pages.values()) {
      this.compare(kept, memory.get(kept.side), changes);
    }
    if (elsewhere || changes.length > 0 || this.pages.size === 0) {
      const known = this.pages;
      const found = new Map<string, KeptPage>();
      const read = (side: Side, page: number): Int32Array | null => {
        const key = `${side} ${page}`;
        let kept = known.get(key);
        if (kept === undefined) {
          const words = new Int32Array(PAGE_WORDS);
          const from = memory.get(side);
          kept = { side, page, words, answers: from !== undefined && readPage(from, page, words), told: false };
          known.set(key, kept);
        }
        return kept.answers ? kept.words : null;
      };
      for (const { side, address } of tablePages(this.of.source, read)) {
        const page = address / PAGE_BYTES;
        read(side, page);
        const key = `${side} ${page}`;
        const kept = known.get(key)!;
        found.set(key, kept);
        if (!kept.told && kept.answers) {
          changes.push({ side, page, bytes: bytesOf(kept.words) });
        }
        kept.told = true;
      }
      for (const [key, { side, page, told }] of this.pages) {
        if (!found.has(key) && told) {
          changes.push({ side, page, gone: true });
        }
      }
      this.pages = found;
    }
    return changes;
  }

  private compare(kept: KeptPage, memory: WordMemory | undefined, changes: PageChange[]): void {
    const { side, page, words } = kept;
    const { fresh } = this;
    if (memory === undefined || !readPage(memory, page, fresh)) {
      if (kept.answers) {
        kept.answers = false;
        changes.push({ side, page, gone: true });
      }
      return;
    }
    const told: number[] = [];
    for (let at = 0; at < PAGE_WORDS; at++) {
      if (fresh[at] !== words[at]) {
        told.push(at, fresh[at]);
      }
    }
    if (!kept.answers || told.length > 2 * WORDS_TOLD) {
      changes.push({ side, page, bytes: bytesOf(fresh) });
    } else if (told.length > 0) {
      changes.push({ side, page, words: told });
    }
    kept.answers = true;
    words.set(fresh);
  }
}

function sameNames(before: ReadonlyMap<string, bigint>, after: ReadonlyMap<string, bigint>): boolean {
  return before.size === after.size && [...after.keys()].every((name) => before.has(name));
}

/** Calls `tell` where the value is another than the text before. @returns the text */
function onlyChanged<T>(before: string, value: T, tell: (value: T) => void): string {
  const text = JSON.stringify(value);
  if (text !== before) {
    tell(value);
  }
  return text;
}
