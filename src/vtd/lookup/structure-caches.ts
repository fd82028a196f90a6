import { ContextView } from "./context-entry.js";
import { PasidView } from "./pasid-entry.js";

/** A context entry as it was when it was fetched. */
export class CachedContext {
  readonly view = new ContextView();
  requesterId = 0;
  /** Legacy mode: high-word bits of an input address that are zero. */
  inputMask = 0;
}

/** A PASID entry as it was when it was fetched. */
export class CachedPasid {
  readonly view = new PasidView();
  /** What tags its translations beside the domain id; see `tagOf`. */
  tag = 0;
  /** High-word bits of an input address that are zero; for a first stage that are all equal, or it is not canonical. */
  inputMask = 0;

  constructor(
    readonly requesterId: number,
    readonly pasid: number,
  ) {}
}

/**
 * The context cache: looked up by requester id; invalidated by domain id too in legacy mode, whose entries have
 * one (Intel VT-d 5.10, table 17). Entries stay as they are, stale or not, until they are invalidated or others
 * need the room. Entries that fault are not held (6.2.2; with CAP.CM they might be).
 */
export class ContextCache {
  private readonly entries = new Map<number, CachedContext>();
  /** The entry found last. */
  private last: CachedContext | undefined = undefined;

  /** @param limit entries to hold */
  constructor(private readonly limit: number) {}

  get size(): number {
    return this.entries.size;
  }

  find(requesterId: number): CachedContext | undefined {
    const last = this.last;
    if (last !== undefined && last.requesterId === requesterId) {
      return last;
    }
    const found = this.entries.get(requesterId);
    if (found !== undefined) {
      this.last = found;
    }
    return found;
  }

  /** Holds an entry; the one held longest goes where there is no room. */
  hold(entry: CachedContext): void {
    this.entries.delete(entry.requesterId);
    if (this.entries.size >= this.limit) {
      for (const oldest of this.entries.keys()) {
        this.entries.delete(oldest);
        break;
      }
    }
    this.entries.set(entry.requesterId, entry);
    this.last = entry;
  }

  dropAll(): void {
    this.entries.clear();
    this.last = undefined;
  }

  /** Entries of a domain: those of scalable mode have none, and are all dropped (6.5.2.1). */
  dropDomain(domain: number): void {
    this.last = undefined;
    for (const [requesterId, { view }] of this.entries) {
      if (view.scalable || view.domain === domain) {
        this.entries.delete(requesterId);
      }
    }
  }

  /**
   * Entries of a requester, in legacy mode only where they are of the domain.
   *
   * @param functionMask bits of the function number that do not count
   */
  dropDevice(domain: number, requesterId: number, functionMask: number): void {
    this.last = undefined;
    const masked = requesterId & ~functionMask;
    for (let id = masked; id <= (masked | functionMask); id++) {
      const entry = this.entries.get(id);
      if ((id & ~functionMask) === masked && entry !== undefined && (entry.view.scalable || entry.view.domain === domain)) {
        this.entries.delete(id);
      }
    }
  }
}

/** A requester's part of the PASID cache. */
class RequesterPasids {
  readonly entries = new Map<number, CachedPasid>();
  last: CachedPasid | undefined = undefined;

  constructor(readonly requesterId: number) {}
}

/**
 * The PASID cache: looked up by requester id and PASID, invalidated by domain id and PASID (table 17). Entries
 * stay as they are until then, also when the context entry that led to them goes.
 */
export class PasidCache {
  private readonly requesters = new Map<number, RequesterPasids>();
  private last: RequesterPasids | undefined = undefined;
  private count = 0;

  /** @param limit entries to hold; one more drops all */
  constructor(private readonly limit: number) {}

  get size(): number {
    return this.count;
  }

  find(requesterId: number, pasid: number): CachedPasid | undefined {
    let requester = this.last;
    if (requester === undefined || requester.requesterId !== requesterId) {
      requester = this.requesters.get(requesterId);
      if (requester === undefined) {
        return undefined;
      }
      this.last = requester;
    }
    const last = requester.last;
    if (last !== undefined && last.pasid === pasid) {
      return last;
    }
    const found = requester.entries.get(pasid);
    if (found !== undefined) {
      requester.last = found;
    }
    return found;
  }

  hold(entry: CachedPasid): void {
    if (this.count >= this.limit) {
      this.dropAll();
    }
    let requester = this.requesters.get(entry.requesterId);
    if (requester === undefined) {
      requester = new RequesterPasids(entry.requesterId);
      this.requesters.set(entry.requesterId, requester);
    }
    if (!requester.entries.has(entry.pasid)) {
      this.count++;
    }
    requester.entries.set(entry.pasid, entry);
    requester.last = entry;
    this.last = requester;
  }

  dropAll(): void {
    this.requesters.clear();
    this.last = undefined;
    this.count = 0;
  }

  dropDomain(domain: number): void {
    for (const requester of this.requesters.values()) {
      for (const entry of requester.entries.values()) {
        this.drop(requester, entry, domain);
      }
    }
  }

  /** The work is one look-up a requester, whatever the number of entries. */
  dropPasid(domain: number, pasid: number): void {
    for (const requester of this.requesters.values()) {
      const entry = requester.entries.get(pasid);
      if (entry !== undefined) {
        this.drop(requester, entry, domain);
      }
    }
  }

  private drop(requester: RequesterPasids, entry: CachedPasid, domain: number): void {
    if (entry.view.domain === domain) {
      requester.entries.delete(entry.pasid);
      requester.last = undefined;
      this.count--;
    }
  }
}
