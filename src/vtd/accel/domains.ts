/** Former ids that a table is still reached by, at the most. */
const MOST_FORMER = 4;

/**
 * The domain ids by which a guest's invalidations reach one table of the host: that of the entry as it was read
 * last, and those that it had before. Software invalidates by the id of the entry that hardware has cached
 * (Intel VT-d 5.10, 6.5.3.3), which may be the old one however early the new one was read here.
 */
export class GuestDomains {
  private readonly former: number[] = [];

  constructor(private latest: number) {}

  get current(): number {
    return this.latest;
  }

  has(domain: number): boolean {
    return domain === this.latest || this.former.includes(domain);
  }

  /** All of them, the current one first. */
  get all(): readonly number[] {
    return [this.latest, ...this.former];
  }

  /** The entry names this domain now. */
  change(domain: number): void {
    const at = this.former.indexOf(domain);
    if (at >= 0) {
      this.former.splice(at, 1);
    }
    if (domain !== this.latest) {
      this.former.unshift(this.latest);
      this.former.length = Math.min(this.former.length, MOST_FORMER);
      this.latest = domain;
    }
  }

  /** The same ids for another table in the place of this one, whose entry names a domain. */
  succeededBy(domain: number): GuestDomains {
    const next = new GuestDomains(this.latest);
    next.former.push(...this.former);
    next.change(domain);
    return next;
  }
}
