/** What caches hold, whom it serves, whether the tables still say so, and what drops it. */
import type { CachedEntry, CachedEntryReport, CachesReport, FieldReport, MapReport } from "../report/index.js";
import { ACCESS_EXECUTE, ACCESS_PRIVILEGED, ACCESS_READ, ACCESS_WRITE } from "../../translation/index.js";
import { smmuCommands, vtdCommands, type Named } from "./cache-commands.js";
import { cacheUsers, type CacheUser, hasTags } from "./cache-users.js";
import { type FreshAnswer, type FreshUnit, freshUnit } from "./fresh-unit.js";
import { unknownName } from "./registers.js";
import { CD_LAYOUT, STE_LAYOUT } from "./smmuv3-fields.js";
import type { InspectionSource, UnitState } from "./source.js";
import { decodeStructure, type StructureLayout } from "./structure-layout.js";
import { CONTEXT_LAYOUT, PASID_ENTRY_LAYOUT, SM_CONTEXT_LAYOUT } from "./vtd-fields.js";

/** Entries told, at most. */
const MOST_TOLD = 512;

/** Which entries are meant; left out: all. */
export interface CachesQuestion {
  readonly iommu?: string;
  /** Those that serve this function of the machine. */
  readonly function?: string;
}

/** @throws Refusal where no IOMMU, or no function of the machine, has that name */
export function cachesReport(source: InspectionSource, question: CachesQuestion = {}): CachesReport {
  const map = source.map();
  const units = source.units();
  const known = [...units.map(({ id }) => id), ...map.host.iommus.map(({ id }) => id)];
  if (question.iommu !== undefined && !known.includes(question.iommu)) {
    throw unknownName("IOMMU", question.iommu, known);
  }
  if (question.function !== undefined && !map.functions.some((fn) => fn.function === question.function)) {
    throw unknownName("function", question.function, map.functions.map((fn) => fn.function));
  }
  const cached = source.cached();
  const entries: CachedEntryReport[] = [];
  let more = 0;
  for (const unit of units) {
    const own = cached.filter(({ iommu, side }) => iommu === unit.id && side === unit.side);
    if (own.length === 0 || (question.iommu !== undefined && question.iommu !== unit.id)) {
      continue;
    }
    const teller = new EntryTeller(unit, map, source, own);
    for (const entry of own) {
      const users = teller.usersOf(entry);
      const functions = [...new Set(users.flatMap((user) => user.functions))];
      if (question.function !== undefined && !functions.includes(question.function)) {
        continue;
      }
      if (entries.length === MOST_TOLD) {
        more++;
      } else {
        entries.push(teller.tell(entry, users, functions));
      }
    }
  }
  const seen = units.some(({ side }) => side === "host");
  return { entries, more, unknown: seen ? [] : [`caches of the host's IOMMUs, and of its functions: ${map.host.description} does not show them`] };
}

/** What the tables say of an entry. */
interface Verdict {
  readonly agrees: boolean | null;
  readonly tables: string;
}

const AGREES: Verdict = { agrees: true, tables: "" };

class EntryTeller {
  private readonly fresh: FreshUnit;
  private readonly users: readonly CacheUser[];
  private readonly configuration = new Map<string, ReturnType<FreshUnit["configuration"]>>();

  constructor(
    private readonly unit: UnitState,
    private readonly map: MapReport,
    source: InspectionSource,
    entries: readonly CachedEntry[],
  ) {
    this.fresh = freshUnit(unit, source);
    this.users = cacheUsers(unit, map, source, entries, this.fresh);
  }

  /** Streams and PASIDs that an entry answers for. */
  usersOf(entry: CachedEntry): readonly CacheUser[] {
    if (entry.streamId !== null) {
      return this.users.filter(({ streamId, pasid }) => streamId === entry.streamId && (entry.pasid === null || entry.kind === "STE" ? pasid === null : pasid === (entry.pasid === 0 ? null : entry.pasid)));
    }
    return this.users.filter((user) => hasTags(entry, user.cached ?? user.fresh));
  }

  tell(entry: CachedEntry, users: readonly CacheUser[], functions: readonly string[]): CachedEntryReport {
    return { ...entry, functions, fields: this.fields(entry), ...this.judge(entry, users), dropped: this.dropped(entry, users, functions) };
  }

  private fields({ words, kind }: CachedEntry): FieldReport[] {
    return words.length === 0 ? [] : decodeStructure(layoutOf(kind, words.length), words.map(BigInt));
  }

  private judge(entry: CachedEntry, users: readonly CacheUser[]): Verdict {
    if (entry.cache === "configuration") {
      return this.judgeConfiguration(entry);
    }
    if (users.length === 0) {
      return { agrees: null, tables: "no entry, cached or in the tables, has these tags" };
    }
    const verdicts = users.map((user) => this.judgeTranslation(entry, user));
    return verdicts.find(({ agrees }) => agrees === false) ?? verdicts[0];
  }

  private judgeConfiguration(entry: CachedEntry): Verdict {
    const streamId = entry.streamId ?? 0;
    const pasid = entry.pasid === 0 ? null : entry.pasid;
    const key = `${streamId} ${pasid}`;
    const read = this.configuration.get(key) ?? this.fresh.configuration(streamId, pasid);
    this.configuration.set(key, read);
    const now = read.find(({ kind, sourceId, pasid: of }) => kind === entry.kind && sourceId === streamId && of === entry.pasid);
    if (now === undefined) {
      return { agrees: false, tables: `the ${entry.kind} is not there, or lets nothing through` };
    }
    const words = now.words.map((word) => `0x${word.toString(16)}`);
    if (words.length === entry.words.length && words.every((word, index) => word === entry.words[index])) {
      return AGREES;
    }
    const layout = layoutOf(entry.kind, now.words.length);
    const before = new Map(this.fields(entry).map(({ name, value }) => [name, value]));
    const changed = decodeStructure(layout, now.words).filter(({ name, value }) => before.get(name) !== value);
    return { agrees: false, tables: changed.map(({ name, value, meaning }) => `${name} is ${meaning ?? value}`).join(", ") };
  }

  private judgeTranslation(entry: CachedEntry, { streamId, pasid, cached, fresh }: CacheUser): Verdict {
    const iova = BigInt(entry.iova ?? "0x0");
    const device = entry.cache === "device";
    if (!device && cached !== null && !hasTags(entry, fresh)) {
      return { agrees: false, tables: fresh === null ? `nothing translates StreamID 0x${streamId.toString(16)}` : `its translations are tagged ${tagText(fresh)}` };
    }
    const now = device ? this.fresh.completion(streamId, entry.pasid, iova, askedFor(entry)) : this.fresh.translation(streamId, pasid, iova);
    return typeof now === "string" ? { agrees: false, tables: now } : compare(entry, now, device);
  }

  private dropped(entry: CachedEntry, users: readonly CacheUser[], functions: readonly string[]): string[] {
    const guests = this.unit.side === "host" && this.reachesGuest(entry, functions);
    const fn = guests ? this.map.functions.find((one) => functions.includes(one.function)) : undefined;
    const streamId = fn?.streamId ?? entry.streamId ?? users[0]?.streamId ?? null;
    if (this.unit.architecture === "smmuv3") {
      const named: Named = { streamId, vmid: guests || !("VMID" in entry.tags) ? null : entry.tags.VMID, asid: entry.tags.ASID ?? null, domain: null };
      return smmuCommands(entry, named);
    }
    const domain = fn === undefined ? (entry.tags.DID ?? users[0]?.fresh?.DID ?? users[0]?.cached?.DID ?? null) : this.guestDomain(fn.host, fn.function, entry.pasid ?? users[0]?.pasid ?? null);
    return vtdCommands(entry, { streamId, vmid: null, asid: null, domain }, guests);
  }

  /** The guest's commands drop it: its functions are on a nested table, and the entry has a part of the guest's. */
  private reachesGuest(entry: CachedEntry, functions: readonly string[]): boolean {
    const nested = this.map.attachments.some(({ function: name, table }) => table === "nested" && functions.includes(name));
    return nested && entry.kind !== "stage 2" && entry.kind !== "second stage";
  }

  private guestDomain(host: string | null, name: string, pasid: number | null): number | null {
    const bindings = this.map.machine?.iommus.flatMap((iommu) => iommu.bindings) ?? [];
    return bindings.find((one) => (one.function === name || one.function === host) && one.pasid === (pasid === 0 ? null : pasid))?.domain ?? null;
  }
}

function compare({ iova, pageBits, output, permissions }: CachedEntry, now: FreshAnswer, device: boolean): Verdict {
  const bits = BigInt(Math.min(pageBits ?? 12, now.pageBits));
  // What the tables have may be a larger page, of which the entry is a part.
  const first = device ? now.output : now.output + (BigInt(iova ?? "0x0") & ((1n << BigInt(now.pageBits)) - 1n));
  const before = BigInt(output ?? "0x0");
  if (first >> bits !== before >> bits) {
    return { agrees: false, tables: `the address leads to 0x${((first >> bits) << bits).toString(16)}` };
  }
  if (now.pageBits < (pageBits ?? 12)) {
    return { agrees: false, tables: `the page is of 2^${now.pageBits} bytes` };
  }
  const same = device ? within(permissions ?? "---", now.permissions) : permissions === now.permissions;
  return same ? AGREES : { agrees: false, tables: `the permissions are ${now.permissions}` };
}

/** What a device has asked for: what it was given, at the least. ACCESS_* */
function askedFor({ kind, permissions }: CachedEntry): number {
  const has = (letter: string): boolean => permissions?.includes(letter) === true;
  return (has("r") ? ACCESS_READ : 0) | (has("w") ? ACCESS_WRITE : 0) | (has("x") ? ACCESS_READ | ACCESS_EXECUTE : 0) | (kind.startsWith("privileged") ? ACCESS_PRIVILEGED : 0);
}

/** A device was given what it asked for, which may be less than the tables permit. */
function within(given: string, permitted: string): boolean {
  return [..."rwx"].every((letter) => !given.includes(letter) || permitted.includes(letter));
}

function layoutOf(kind: string, words: number): StructureLayout {
  switch (kind) {
    case "STE":
      return STE_LAYOUT;
    case "CD":
      return CD_LAYOUT;
    case "PASID entry":
      return PASID_ENTRY_LAYOUT;
    default:
      return words > 2 ? SM_CONTEXT_LAYOUT : CONTEXT_LAYOUT;
  }
}

function tagText(tags: Readonly<Record<string, number>>): string {
  return Object.entries(tags).map(([name, value]) => `${name} ${value}`).join(", ");
}
