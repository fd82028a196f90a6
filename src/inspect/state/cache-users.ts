/** Whom entries of caches serve: streams and PASIDs by the tags that their configuration gives translations. */
import type { CachedEntry, MapReport } from "../report/index.js";
import type { FreshUnit } from "./fresh-unit.js";
import type { InspectionSource, UnitState } from "./source.js";

/** Streams and PASIDs of a unit that are looked at, at most. */
const MOST_USERS = 1024;

/** A stream of a unit, or one of its PASIDs. */
export interface CacheUser {
  readonly streamId: number;
  readonly pasid: number | null;
  /** The machine's functions of that stream. */
  readonly functions: readonly string[];
  /** Tags that its translations have by what the unit has cached, and by the tables; null: none. */
  readonly cached: Readonly<Record<string, number>> | null;
  readonly fresh: Readonly<Record<string, number>> | null;
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

function cachedTags({ architecture }: UnitState, held: ReadonlyMap<string, CachedEntry>, streamId: number, pasid: number | null): Readonly<Record<string, number>> | null {
  if (architecture === "vtd") {
    const own = held.get(`PASID entry ${streamId} ${pasid ?? 0}`) ?? held.get(`context entry ${streamId} null`);
    return own !== undefined && "DID" in own.tags ? own.tags : null;
  }
  const ste = held.get(`STE ${streamId} null`);
  const cd = held.get(`CD ${streamId} ${pasid ?? 0}`);
  return ste === undefined ? null : { ...ste.tags, ...cd?.tags };
}

/** Whether an entry with these tags, and of a PASID where the architecture tags by it, is one of a user's. */
export function serves(entry: CachedEntry, { pasid }: CacheUser, tags: Readonly<Record<string, number>> | null): boolean {
  return tags !== null && Object.entries(entry.tags).every(([name, value]) => tags[name] === value) && (entry.pasid === null || entry.pasid === (pasid ?? 0));
}
