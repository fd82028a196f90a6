/** Whom entries of caches serve: streams and PASIDs by the tags that their configuration gives translations. */
import type { CachedEntry, MapReport } from "../report/index.js";
import { STE } from "../../smmuv3/spec/index.js";
import { get } from "../../support/index.js";
import { PASID_ENTRY, PGTT_FIRST_STAGE, PGTT_NESTED, PGTT_SECOND_STAGE } from "../../vtd/spec/index.js";
import type { FreshUnit } from "./fresh-unit.js";
import { halves } from "./structure-layout.js";
import type { InspectionSource, UnitState } from "./source.js";

/** Streams and PASIDs of a unit that are looked at, at most. */
const MOST_USERS = 1024;

/** VMID and ASID of a stream that stage 1 translates, else VMID; domain id, and PASID where a first stage translates. */
export type Tags = Readonly<Record<string, number>>;

/** A stream of a unit, or one of its PASIDs. */
export interface CacheUser {
  readonly streamId: number;
  readonly pasid: number | null;
  /** The machine's functions of that stream. */
  readonly functions: readonly string[];
  /** Tags that its translations have by what the unit has cached, and by the tables; null: none. */
  readonly cached: Tags | null;
  readonly fresh: Tags | null;
}

/** `entries`: those of the unit. */
export function cacheUsers(unit: UnitState, map: MapReport, source: InspectionSource, entries: readonly CachedEntry[], fresh: FreshUnit): CacheUser[] {
  const streams = streamsOf(unit, map, source);
  const pasids = new Map<number, Set<number | null>>([...streams.keys()].map((streamId) => [streamId, new Set<number | null>([null])]));
  for (const { streamId, pasid } of entries) {
    if (streamId !== null) {
      const known = pasids.get(streamId) ?? new Set<number | null>([null]);
      pasids.set(streamId, known.add(pasid === 0 ? null : pasid));
    }
  }
  const held = new Map(entries.filter(({ cache }) => cache === "configuration").map((entry) => [`${entry.kind} ${entry.streamId} ${entry.pasid}`, entry]));
  return [...pasids]
    .flatMap(([streamId, all]) => [...all].map((pasid) => ({ streamId, pasid })))
    .slice(0, MOST_USERS)
    .map(({ streamId, pasid }) => ({ streamId, pasid, functions: streams.get(streamId) ?? [], cached: cachedTags(unit, held, streamId, pasid), fresh: fresh.tags(streamId, pasid) }));
}

/** The machine's functions by the StreamID (source id) that the unit sees. */
export function streamsOf(unit: UnitState, map: MapReport, source: InspectionSource): Map<number, string[]> {
  const streams = new Map<number, string[]>();
  for (const fn of map.functions) {
    const place = unit.side === "guest" ? (fn.iommu === unit.id ? fn.streamId : null) : fn.host === null ? null : placeAt(unit, source.hostPlace(fn.host));
    if (place !== null) {
      streams.set(place, [...(streams.get(place) ?? []), fn.function]);
    }
  }
  return streams;
}

function placeAt(unit: UnitState, place: ReturnType<InspectionSource["hostPlace"]>): number | null {
  return place?.unit === unit.id ? place.streamId : null;
}

/** Of a cached STE whose context descriptor is not cached, and of a context entry of scalable mode, nothing is known. */
function cachedTags({ architecture }: UnitState, held: ReadonlyMap<string, CachedEntry>, streamId: number, pasid: number | null): Tags | null {
  if (architecture === "vtd") {
    const entry = held.get(`PASID entry ${streamId} ${pasid ?? 0}`);
    const own = entry ?? held.get(`context entry ${streamId} null`);
    if (own === undefined || !("DID" in own.tags)) {
      return null;
    }
    const type = entry === undefined ? PGTT_SECOND_STAGE : get(halves(entry.words.map(BigInt)), PASID_ENTRY.PGTT);
    return type === PGTT_FIRST_STAGE || type === PGTT_NESTED ? { ...own.tags, PASID: pasid ?? 0 } : own.tags;
  }
  const ste = held.get(`STE ${streamId} null`);
  if (ste === undefined) {
    return null;
  }
  const cd = held.get(`CD ${streamId} ${pasid ?? 0}`);
  const stage1 = (get(halves(ste.words.map(BigInt)), STE.CONFIG) & 1) !== 0;
  return !stage1 ? ste.tags : cd === undefined ? null : { ...ste.tags, ...cd.tags };
}

/** Whether a translation is one of those that have a user's tags: of a first stage by ASID or PASID, the global ones aside. */
export function hasTags({ kind, tags: own, pasid }: CachedEntry, tags: Tags | null): boolean {
  if (tags === null) {
    return false;
  }
  const first = kind !== "stage 2" && kind !== "second stage";
  return first === ("ASID" in tags || "PASID" in tags) && Object.entries(own).every(([name, value]) => tags[name] === value) && (pasid === null || tags.PASID === pasid);
}
