import { BoundedCache } from "../../translation/index.js";
import { ContextView } from "./context-entry.js";
import { PasidView } from "./pasid-entry.js";

/** A context entry as it was when it was fetched. */
export class CachedContext {
  readonly view = new ContextView();
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
export class ContextCache extends BoundedCache<CachedContext> {
  /** Entries of a domain: those of scalable mode have none, and are all dropped (6.5.2.1). */
  dropDomain(domain: number): void {
    this.dropWhere((entry) => isOfDomain(entry, domain));
  }

  /**
   * Entries of a requester, in legacy mode only where they are of the domain.
   *
   * @param functionMask bits of the function number that do not count
   */
  dropDevice(domain: number, requesterId: number, functionMask: number): void {
    const masked = requesterId & ~functionMask;
    for (let id = masked; id <= (masked | functionMask); id++) {
      const entry = (id & ~functionMask) === masked ? this.find(id) : undefined;
      if (entry !== undefined && isOfDomain(entry, domain)) {
        this.drop(id);
      }
    }
  }
}

function isOfDomain({ view }: CachedContext, domain: number): boolean {
  return view.scalable || view.domain === domain;
}

/** A requester's part of the PASID cache, by PASID. */
type RequesterPasids = BoundedCache<CachedPasid>;

/**
 * The PASID cache: looked up by requester id and PASID, invalidated by domain id and PASID (table 17). Entries
 * stay as they are until then, also when the context entry that led to them goes.
 */
export class PasidCache {
  private readonly requesters = new BoundedCache<RequesterPasids>(2 ** 16);
  private count = 0;

  /** @param limit entries to hold; one more drops all */
  constructor(private readonly limit: number) {}

  get size(): number {
    return this.count;
  }

  find(requesterId: number, pasid: number): CachedPasid | undefined {
    return this.requesters.find(requesterId)?.find(pasid);
  }

  hold(entry: CachedPasid): void {
    if (this.count >= this.limit) {
      this.dropAll();
    }
    let requester = this.requesters.find(entry.requesterId);
    if (requester === undefined) {
      requester = new BoundedCache<CachedPasid>(this.limit);
      this.requesters.hold(entry.requesterId, requester);
    }
    this.count -= requester.size;
    requester.hold(entry.pasid, entry);
    this.count += requester.size;
  }

  /** All of them. */
  *held(): Generator<CachedPasid> {
    for (const requester of this.requesters.values()) {
      yield* requester.values();
    }
  }

  dropAll(): void {
    this.requesters.dropAll();
    this.count = 0;
  }

  dropDomain(domain: number): void {
    this.dropOfEach((requester) => requester.dropWhere(({ view }) => view.domain === domain));
  }

  /** The work is one look-up a requester, whatever the number of entries. */
  dropPasid(domain: number, pasid: number): void {
    this.dropOfEach((requester) => {
      if (requester.find(pasid)?.view.domain === domain) {
        requester.drop(pasid);
      }
    });
  }

  /** Requesters without entries are not looked at again. */
  private dropOfEach(drop: (requester: RequesterPasids) => void): void {
    this.requesters.dropWhere((requester) => {
      this.count -= requester.size;
      drop(requester);
      this.count += requester.size;
      return requester.size === 0;
    });
  }
}
