/** What the tables say for what a cache holds: a fresh read, to tell entries that are stale. */
import { CD_OK, CdView, CONTEXT_FOUND, ContextTable, decodeCd, decodeSte, keptCd, keptSte, STREAM_FOUND, SteView } from "../../smmuv3/lookup/index.js";
import { CD_WORDS, STE_WORDS } from "../../smmuv3/spec/index.js";
import { hex, highWord, lowWord, toBigInt } from "../../support/index.js";
import { PageWalker, permissionText, PERM_PRIVILEGED_WRITE, PERM_WRITE, type Tables, WALK_OK, wideWords } from "../../translation/index.js";
import { ContextView, keptContext, keptPasid, PasidView, StructureReader } from "../../vtd/lookup/index.js";
import { TTM_SCALABLE } from "../../vtd/spec/index.js";
import type { CachedEntry, MapReport } from "../report/index.js";
import type { InspectionSource, UnitState } from "./source.js";
import { NotedMemory } from "./told-walk.js";
import { accessOf } from "./unit-walk.js";
import { smmuTranslator, vtdTranslator } from "./unit-models.js";
import { walkUnit } from "./walk-unit.js";

export interface FreshAnswer {
  /** Whether the tables say what the entry says; null: it cannot be told which tables it is of. */
  readonly agrees: boolean | null;
  /** What they say; empty where they agree. */
  readonly tables: string;
}

const AGREES: FreshAnswer = { agrees: true, tables: "" };
const UNKNOWN: FreshAnswer = { agrees: null, tables: "" };

/** CDs and PASID entries of one function that are looked at for the tags of a translation, beside those that are cached. */
const MOST_CONTEXTS = 64;
/** Pages of a mapping that are compared with an entry that is larger. */
const MOST_PAGES = 512;

/** A stage's tables that a translation of certain tags may come from. */
interface Candidate {
  readonly stage1: Tables | undefined;
  readonly stage2: Tables | undefined;
}

export function freshTranslation(source: InspectionSource, entry: CachedEntry): FreshAnswer {
  return new FreshTables(source).compare(entry);
}

/** The tables of all units at one moment: each word is read once, for however many entries. */
export class FreshTables {
  private readonly units = new Map<string, UnitTables>();
  private readonly cached: readonly CachedEntry[];

  constructor(private readonly source: InspectionSource) {
    const map = source.map();
    this.cached = source.cached();
    for (const unit of source.units()) {
      this.units.set(`${unit.side} ${unit.id}`, new UnitTables(source, map, unit, this.cached.filter(({ iommu, side }) => iommu === unit.id && side === unit.side)));
    }
  }

  compare(entry: CachedEntry): FreshAnswer {
    const tables = this.units.get(`${entry.side} ${entry.iommu}`);
    if (tables === undefined) {
      return UNKNOWN;
    }
    if (entry.cache === "device") {
      return deviceEntry(this.source, tables.unit, entry);
    }
    if (entry.cache === "configuration") {
      return tables.configuration(entry);
    }
    return entry.iova === null || entry.output === null || entry.pageBits === null || entry.permissions === null ? UNKNOWN : tables.translation(entry);
  }
}

/** One unit's tables. */
class UnitTables {
  private readonly walker: PageWalker;
  private readonly smmu: SmmuReader | null;
  private readonly vtd: VtdReader | null;
  private readonly streams: readonly number[];
  /** By kind, tags and range: those that a translation may come from. */
  private readonly candidates = new Map<string, Candidate[]>();

  constructor(
    source: InspectionSource,
    map: MapReport,
    readonly unit: UnitState,
    private readonly cached: readonly CachedEntry[],
  ) {
    const memory = new NotedMemory(unit.memory, false);
    this.walker = new PageWalker(memory);
    this.smmu = unit.architecture === "smmuv3" ? new SmmuReader(unit, memory) : null;
    this.vtd = unit.architecture === "vtd" ? new VtdReader(source, unit, memory) : null;
    this.streams = streamsOf(source, map, unit, cached);
  }

  configuration(entry: CachedEntry): FreshAnswer {
    return this.smmu !== null ? smmuConfiguration(this.smmu, entry) : vtdConfiguration(this.vtd!, entry);
  }

  translation(entry: CachedEntry): FreshAnswer {
    const upper = (highWord(BigInt(entry.iova!)) & 0x0080_0000) !== 0;
    const key = JSON.stringify([entry.kind, entry.tags, entry.pasid, upper]);
    let candidates = this.candidates.get(key);
    if (candidates === undefined) {
      candidates = this.smmu !== null ? [...smmuCandidates(this.smmu, this.streams, this.cached, entry, upper)] : [...vtdCandidates(this.vtd!, this.streams, this.cached, entry)];
      this.candidates.set(key, candidates);
    }
    let first: FreshAnswer | null = null;
    for (const candidate of candidates) {
      const answer = compareWalk(this.walker, candidate, entry);
      if (answer.agrees === true) {
        return answer;
      }
      first ??= answer;
    }
    return first ?? { agrees: false, tables: "no entry of a function has these tags" };
  }
}

function compareWords(entry: CachedEntry, words: Int32Array, what: string): FreshAnswer {
  const fresh = wideWords(words);
  const differs = fresh.some((word, index) => word !== BigInt(entry.words[index] ?? "0x0"));
  return differs ? { agrees: false, tables: fresh.every((word) => word === 0n) ? `${what} in memory lets nothing through` : `${what} in memory is another: ${fresh.map(hex).join(" ")}` } : AGREES;
}

function smmuConfiguration(reader: SmmuReader, entry: CachedEntry): FreshAnswer {
  if (entry.streamId === null) {
    return UNKNOWN;
  }
  const ste = reader.ste(entry.streamId);
  if (ste === null) {
    return { agrees: false, tables: "the stream table has no such STE" };
  }
  if (entry.kind === "STE") {
    return compareWords(entry, keptSte(ste), "the STE");
  }
  const cd = ste.kind < 0 || (ste.kind & 1) === 0 ? null : reader.cd(ste, entry.pasid ?? 0);
  return cd === null ? { agrees: false, tables: "the STE leads to no such CD" } : compareWords(entry, keptCd(cd), "the CD");
}

function vtdConfiguration(reader: VtdReader, entry: CachedEntry): FreshAnswer {
  if (entry.streamId === null) {
    return UNKNOWN;
  }
  const context = reader.context(entry.streamId);
  if (entry.kind === "context entry") {
    return context.reason === 0 ? compareWords(entry, keptContext(context), "the context entry") : { agrees: false, tables: "the context entry in memory lets nothing through" };
  }
  if (context.reason !== 0 || !context.scalable || entry.pasid === null || entry.pasid >= context.pasidLimit) {
    return { agrees: false, tables: "the context entry in memory leads to no such PASID entry" };
  }
  return compareWords(entry, keptPasid(reader.pasid(context, entry.pasid)), "the PASID entry");
}

/** What a function's own cache holds is what the unit would answer. */
function deviceEntry(source: InspectionSource, unit: UnitState, entry: CachedEntry): FreshAnswer {
  const place = entry.hostFunction === null ? null : source.hostPlace(entry.hostFunction);
  const streamId = entry.streamId ?? place?.streamId ?? null;
  if (streamId === null || entry.iova === null || entry.output === null) {
    return UNKNOWN;
  }
  const access = accessOf({ function: "", pasid: null, iova: entry.iova, access: entry.permissions?.includes("w") === true ? "write" : "read", privileged: false, kind: "ats-request" });
  const { end } = walkUnit(unit, source, { streamId, pasid: entry.pasid ?? -1, iova: BigInt(entry.iova), access, kind: "ats-request" });
  if (end.output === null) {
    return { agrees: false, tables: end.reason };
  }
  if (end.output !== entry.output) {
    return { agrees: false, tables: `the tables lead to ${end.output}` };
  }
  const [had, has] = [(entry.permissions ?? "---").slice(0, 2), (end.permissions ?? "---").slice(0, 2)];
  const lost = [...had].some((letter, index) => letter !== "-" && has[index] === "-");
  return lost ? { agrees: false, tables: `the tables permit ${end.permissions}` } : AGREES;
}

/** Walks of one TLB entry's pages: all of them lead to where the entry does. */
function compareWalk(walker: PageWalker, { stage1, stage2 }: Candidate, entry: CachedEntry): FreshAnswer {
  const [iova, output, size] = [BigInt(entry.iova!), BigInt(entry.output!), 1n << BigInt(entry.pageBits!)];
  let done = 0n;
  for (let pages = 0; done < size && pages < MOST_PAGES; pages++) {
    const at = iova + done;
    const [high, low] = [highWord(at), lowWord(at)];
    const code =
      stage1 === undefined ? walker.walkStage2(stage2!, high, low, 0) : stage2 === undefined ? walker.walkStage1(stage1, high, low, 0) : walker.walkNested(stage1, stage2, high, low, 0);
    if (code !== WALK_OK) {
      return { agrees: false, tables: `${hex(at)} is not mapped: stage ${walker.faultStage}, level ${walker.faultLevel}` };
    }
    const found = toBigInt(walker.outHigh, walker.outLow);
    if (found !== output + done) {
      return { agrees: false, tables: `${hex(at)} leads to ${hex(found)}` };
    }
    const permissions = permissionText(walker.outPermissions);
    // Who caches a clean page leaves the write permissions out.
    const clean = permissionText(walker.outPermissions & ~(PERM_WRITE | PERM_PRIVILEGED_WRITE));
    if (permissions !== entry.permissions && clean !== entry.permissions) {
      return { agrees: false, tables: `${hex(at)} permits ${permissions}` };
    }
    done += 1n << BigInt(walker.outPageBits);
  }
  return AGREES;
}

/** StreamIDs (source ids) of functions behind a unit, and of its cached entries. */
function streamsOf(source: InspectionSource, map: MapReport, unit: UnitState, cached: readonly CachedEntry[]): number[] {
  const own =
    unit.side === "guest"
      ? map.functions.flatMap(({ iommu, streamId }) => (iommu === unit.id && streamId !== null ? [streamId] : []))
      : map.host.functions.flatMap(({ address }) => {
          const place = source.hostPlace(address);
          return place?.unit === unit.id ? [place.streamId] : [];
        });
  return [...new Set([...own, ...cached.flatMap(({ streamId }) => streamId ?? [])])].sort((a, b) => a - b);
}

function cachedContexts(cached: readonly CachedEntry[], ofStream: number): number[] {
  return cached.flatMap(({ streamId, pasid }) => (streamId === ofStream && pasid !== null ? [pasid] : []));
}

const FIRST_CONTEXTS = Array.from({ length: MOST_CONTEXTS }, (_none, index) => index);

function* smmuCandidates(reader: SmmuReader, streams: readonly number[], cached: readonly CachedEntry[], { kind, tags }: CachedEntry, upper: boolean): Generator<Candidate> {
  for (const streamId of streams) {
    const ste = reader.ste(streamId);
    if (ste === null || ste.kind < 0 || (tags.VMID !== undefined && ste.vmid !== tags.VMID)) {
      continue;
    }
    if (kind === "stage 2") {
      if (ste.stage2 !== undefined) {
        yield { stage1: undefined, stage2: ste.stage2 };
      }
      continue;
    }
    if ((ste.kind & 1) === 0) {
      continue;
    }
    for (const index of new Set([...FIRST_CONTEXTS, ...cachedContexts(cached, streamId)])) {
      const cd = index < 2 ** ste.cdBits ? reader.cd(ste, index) : null;
      const tables = upper ? cd?.upper : cd?.lower;
      if (cd !== null && cd.code === CD_OK && tables !== undefined && (tags.ASID === undefined || tags.ASID === cd.asid)) {
        yield { stage1: tables, stage2: ste.stage2 };
      }
    }
  }
}

function* vtdCandidates(reader: VtdReader, streams: readonly number[], cached: readonly CachedEntry[], { kind, tags, pasid }: CachedEntry): Generator<Candidate> {
  for (const streamId of streams) {
    const context = reader.context(streamId);
    if (context.reason !== 0) {
      continue;
    }
    if (!context.scalable) {
      if (context.domain === tags.DID && context.stage2 !== undefined) {
        yield { stage1: undefined, stage2: context.stage2 };
      }
      continue;
    }
    const known = [context.ridPasid, ...cachedContexts(cached, streamId), ...FIRST_CONTEXTS];
    for (const one of new Set(pasid === null ? known : [pasid])) {
      const view = one < context.pasidLimit ? reader.pasid(context, one) : null;
      if (view === null || view.kind <= 0 || view.domain !== tags.DID) {
        continue;
      }
      if (kind === "second stage" ? view.stage1 === undefined && view.stage2 !== undefined : view.stage1 !== undefined) {
        yield { stage1: view.stage1, stage2: view.stage2 };
      }
    }
  }
}

/** STEs and CDs as they are in memory. */
class SmmuReader {
  private readonly translator;
  private readonly contexts: ContextTable;

  constructor(unit: UnitState, memory: NotedMemory) {
    this.translator = smmuTranslator(unit, memory);
    this.contexts = new ContextTable(memory, this.translator.features, new PageWalker(memory));
  }

  /** Null: the table has none. */
  ste(streamId: number): SteView | null {
    const words = new Int32Array(STE_WORDS);
    if (!this.translator.enabled || this.translator.table.fetch(streamId, words) !== STREAM_FOUND) {
      return null;
    }
    const view = new SteView();
    decodeSte(words, this.translator.features, view);
    return view;
  }

  cd(ste: SteView, index: number): CdView | null {
    const words = new Int32Array(CD_WORDS);
    if (this.contexts.fetch(ste, index, words) !== CONTEXT_FOUND) {
      return null;
    }
    const view = new CdView();
    decodeCd(words, this.translator.features, view);
    return view;
  }
}

/** Context and PASID entries as they are in memory. */
class VtdReader {
  private readonly reader: StructureReader;
  private readonly translator;

  constructor(source: InspectionSource, unit: UnitState, memory: NotedMemory) {
    this.translator = vtdTranslator(unit, source, memory);
    this.reader = new StructureReader(memory, this.translator.features, unit.side === "guest");
  }

  context(sourceId: number): ContextView {
    const view = new ContextView();
    if (!this.translator.enabled || this.translator.mode > TTM_SCALABLE) {
      view.reason = -1;
      return view;
    }
    this.reader.readContext(this.translator, sourceId, view);
    return view;
  }

  pasid(context: ContextView, pasid: number): PasidView {
    const view = new PasidView();
    this.reader.readPasid(context, pasid, view);
    return view;
  }
}
