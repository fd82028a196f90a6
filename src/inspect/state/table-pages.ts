/** The pages of memory that a walk of any request, or a look at the queues, may read: for who keeps them, such as a recording. */
import type { WordMemory } from "../../memory/index.js";
import { CD_ILLEGAL, CdView, decodeCd, decodeSte, STREAM_FOUND, type StreamTranslator, SteView } from "../../smmuv3/lookup/index.js";
import { CD, STE_CONFIG_NESTED, STE_CONFIG_S1, STE_WORDS } from "../../smmuv3/spec/index.js";
import { get } from "../../support/index.js";
import { levelShift, type Tables } from "../../translation/index.js";
import { ContextView, PasidView, StructureReader, type VtdTranslator } from "../../vtd/lookup/index.js";
import { PASID_DIRECTORY, PASID_ENTRY } from "../../vtd/spec/index.js";
import { PAGE_BYTES, PAGE_WORDS, PagedMemory, type PageReader, readPage } from "./pages.js";
import { queuesReport } from "./queues.js";
import type { InspectionSource, UnitState } from "./source.js";
import { smmuTranslator, vtdTranslator } from "./unit-models.js";

/** Pages that are told at most: a guest may have as many tables as it likes. */
const MOST_PAGES = 8192;

export interface TablePage {
  readonly side: "guest" | "host";
  /** A multiple of 4096. */
  readonly address: number;
}

/** Where a table is, by the address that it is named by; null: nothing is known to be there. */
type Physical = (address: number) => number | null;

/** Of all units and all functions of the machine. @param read gives pages that are known, and reads others */
export function tablePages(source: InspectionSource, read: PageReader = readerOf(source.units())): TablePage[] {
  const pages = new Pages(read);
  const memoryOf = (side: TablePage["side"]): WordMemory =>
    new PagedMemory((page) => {
      pages.add(side, page * PAGE_BYTES);
      return read(side, page);
    });
  const memory = { guest: memoryOf("guest"), host: memoryOf("host") };
  const units = source.units().map((unit): UnitState => ({ ...unit, memory: memory[unit.side] }));
  // What looks at the queues notes what it reads.
  queuesReport({ ...source, units: () => units });
  const physical: Physical = (address) => source.hostAddressOf(address);
  for (const unit of units) {
    const streams = streamsOf(unit, source);
    if (unit.architecture === "smmuv3") {
      const translator = smmuTranslator(unit, unit.memory);
      streams.forEach((streamId) => ofStream(unit, translator, streamId, pages, physical));
    } else {
      const translator = vtdTranslator(unit, source, unit.memory);
      streams.forEach((sourceId) => ofSource(unit, translator, sourceId, pages, physical));
    }
  }
  return pages.list;
}

function readerOf(units: readonly UnitState[]): PageReader {
  const known = { guest: new Map<number, Int32Array | null>(), host: new Map<number, Int32Array | null>() };
  const memory = new Map(units.map((unit) => [unit.side, unit.memory]));
  return (side, page) => {
    let words = known[side].get(page);
    if (words === undefined) {
      const fresh = new Int32Array(PAGE_WORDS);
      const from = memory.get(side);
      words = from !== undefined && readPage(from, page, fresh) ? fresh : null;
      known[side].set(page, words);
    }
    return words;
  };
}

class Pages {
  readonly list: TablePage[] = [];
  private readonly known = { guest: new Set<number>(), host: new Set<number>() };
  private readonly tables = new Set<string>();

  constructor(private readonly read: PageReader) {}

  get full(): boolean {
    return this.list.length >= MOST_PAGES;
  }

  add(side: TablePage["side"], address: number): void {
    const page = Math.floor(address / PAGE_BYTES);
    const known = this.known[side];
    if (!this.full && !known.has(page)) {
      known.add(page);
      this.list.push({ side, address: page * PAGE_BYTES });
    }
  }

  /** Words of the page that an address is in, which is one of those told from now on; null: nothing answers. */
  words(side: TablePage["side"], address: number): Int32Array | null {
    this.add(side, address);
    return this.read(side, Math.floor(address / PAGE_BYTES));
  }

  /** False: that table has been looked through already. */
  enter(side: TablePage["side"], address: number, level: number): boolean {
    const key = `${side} ${address} ${level}`;
    return !this.tables.has(key) && this.tables.add(key) !== undefined && !this.full;
  }
}

/** StreamIDs, or source ids, of the machine's functions behind a unit, and of what its caches hold. */
function streamsOf(unit: UnitState, source: InspectionSource): Set<number> {
  const { functions } = source.map();
  const streams = new Set<number>();
  for (const { host, iommu, streamId } of functions) {
    const place = unit.side === "host" && host !== null ? source.hostPlace(host) : null;
    if (place?.unit === unit.id) {
      streams.add(place.streamId);
    } else if (unit.side === "guest" && iommu === unit.id && streamId !== null) {
      streams.add(streamId);
    }
  }
  for (const { iommu, side, streamId } of source.cached()) {
    if (side === unit.side && iommu === unit.id && streamId !== null) {
      streams.add(streamId);
    }
  }
  return streams;
}

// ---- SMMUv3 (Arm IHI 0070, 3.3 and 5) ----

function ofStream(unit: UnitState, { table, features }: StreamTranslator, streamId: number, pages: Pages, behindStage2: Physical): void {
  const words = new Int32Array(STE_WORDS);
  const ste = new SteView();
  if (table.fetch(streamId, words) !== STREAM_FOUND) {
    return;
  }
  const kind = decodeSte(words, features, ste);
  if (ste.stage2 !== undefined) {
    ofTables(unit, ste.stage2, pages, (address) => address);
  }
  if (kind === STE_CONFIG_S1 || kind === STE_CONFIG_NESTED) {
    const physical: Physical = kind === STE_CONFIG_NESTED ? behindStage2 : (address) => address;
    const view = new CdView();
    for (const at of contextTables(pages, unit.side, ste, physical)) {
      const table = pages.words(unit.side, at.address);
      for (let n = 0; table !== null && n < at.count && !pages.full; n++) {
        const cd = (at.address % PAGE_BYTES) / 4 + n * 16;
        if (get(table, CD.V, cd) !== 0 && decodeCd(table, features, view, cd) !== CD_ILLEGAL) {
          [view.lower, view.upper].forEach((tables) => tables !== undefined && ofTables(unit, tables, pages, physical));
        }
      }
    }
  }
}

/** Leaf tables of CDs: physical address and number of CDs (5.2 S1Fmt, 5.3). */
function* contextTables(pages: Pages, side: TablePage["side"], { cdBits, cdSplit, contextPointer }: SteView, physical: Physical): Generator<{ readonly address: number; readonly count: number }> {
  if (cdSplit === 0) {
    yield* pieces(aligned(contextPointer, cdBits + 6), 2 ** cdBits, physical);
    return;
  }
  const base = aligned(contextPointer, Math.max(6, cdBits - cdSplit + 3));
  const entries = 2 ** Math.max(0, cdBits - cdSplit);
  for (let done = 0; done < entries; done += PAGE_BYTES / 8) {
    const at = physical(base + done * 8);
    const words = at === null ? null : pages.words(side, at);
    for (let n = 0; words !== null && n < Math.min(entries - done, PAGE_BYTES / 8); n++) {
      const place = (at! % PAGE_BYTES) / 4 + 2 * n;
      if ((words[place] & 1) !== 0) {
        yield* pieces(aligned((words[place + 1] & 0xff_ffff) * 0x1_0000_0000 + ((words[place] & ~0xfff) >>> 0), cdSplit + 6), 2 ** cdSplit, physical);
      }
    }
  }
}

/** A table of CDs by pages: what is one piece behind stage 2 need not be one before it. */
function* pieces(base: number, count: number, physical: Physical): Generator<{ readonly address: number; readonly count: number }> {
  for (let done = 0; done < count; done += 64) {
    const address = physical(base + done * 64);
    if (address !== null) {
      yield { address, count: Math.min(64, count - done) };
    }
  }
}

// ---- VT-d (Intel VT-d, 3.4 and 9) ----

function ofSource(unit: UnitState, translator: VtdTranslator, sourceId: number, pages: Pages, behindStage2: Physical): void {
  const { memory, side } = unit;
  const reader = new StructureReader(memory, translator.features, side === "guest");
  const context = new ContextView();
  if (reader.readContext(translator, sourceId, context) !== 0) {
    return;
  }
  if (context.stage2 !== undefined) {
    ofTables(unit, context.stage2, pages, (address) => address);
  }
  const entry = new PasidView();
  let directory: Int32Array | null = null;
  for (let index = 0; context.scalable && index < Math.ceil(context.pasidLimit / 64) && !pages.full; index++) {
    directory = index % (PAGE_BYTES / 8) === 0 ? pages.words(side, context.directory + index * 8) : directory;
    if (directory === null || get(directory, PASID_DIRECTORY.P, 2 * (index % (PAGE_BYTES / 8))) === 0) {
      continue;
    }
    const table = reader.readDirectory(context, index, entry);
    const words = table < 0 ? null : pages.words(side, table);
    for (let n = 0; words !== null && n < 64; n++) {
      if (get(words, PASID_ENTRY.P, 16 * n) === 0) {
        continue;
      }
      reader.readEntry(table, n, entry);
      const { stage1, stage2 } = entry;
      if (stage2 !== undefined) {
        ofTables(unit, stage2, pages, (address) => address);
      }
      if (stage1 !== undefined) {
        ofTables(unit, stage1, pages, stage2 === undefined ? (address) => address : behindStage2);
      }
    }
  }
}

// ---- tables of either family ----

function ofTables(unit: UnitState, tables: Tables, pages: Pages, physical: Physical): void {
  const base = tables.baseHigh * 0x1_0000_0000 + (tables.baseLow >>> 0);
  if (tables.format === undefined) {
    const { granuleBits, startLevel, inputBits } = tables;
    const entries = 2 ** Math.max(0, inputBits - levelShift(granuleBits, startLevel));
    descend(unit, pages, physical, { granuleBits, isTable: (low, level) => level < 3 && (low & 3) === 3 }, aligned(base, Math.max(4, Math.log2(entries) + 3)), entries, startLevel);
  } else {
    const present = tables.format === "first" ? 1 : 3;
    descend(unit, pages, physical, { granuleBits: 12, isTable: (low, level) => level < 3 && (low & present) !== 0 && (low & 0x80) === 0 }, aligned(base, 12), 512, 4 - tables.levels);
  }
}

interface Format {
  readonly granuleBits: number;
  isTable(low: number, level: number): boolean;
}

function descend(unit: UnitState, pages: Pages, physical: Physical, format: Format, base: number, entries: number, level: number): void {
  const { side } = unit;
  for (let done = 0; done < entries; done += PAGE_BYTES / 8) {
    const address = physical(base + done * 8);
    if (address === null || !pages.enter(side, address, level)) {
      continue;
    }
    const words = pages.words(side, address);
    const count = words === null || level >= 3 ? 0 : Math.min(entries - done, PAGE_BYTES / 8);
    for (let n = 0, at = (address % PAGE_BYTES) / 4; n < count; n++, at += 2) {
      const low = words![at];
      const high = words![at + 1];
      if (format.isTable(low, level)) {
        const next = (high & 0xf_ffff) * 0x1_0000_0000 + (low >>> 0);
        descend(unit, pages, physical, format, aligned(next % (format.granuleBits === 12 ? 2 ** 52 : 2 ** 48), format.granuleBits), 2 ** (format.granuleBits - 3), level + 1);
      }
    }
  }
}

function aligned(address: number, bits: number): number {
  return address - (address % 2 ** bits);
}
