/** Former ids that a table is still reached by, at the most. */
const MOST_FORMER = 4;

const NONE: readonly number[] = [];

/**
 * The domain ids by which a guest's invalidations reach one table of the host: that of the entry as it was read
 * last, and those that it had before. Software invalidates by the id of the entry that hardware has cached
 * (Intel VT-d 5.10, 6.5.3.3), which may be the old one however early the new one was read here.
 */
export class GuestDomains {
  private former: readonly number[] = NONE;

  constructor(private latest: number) {}

  get current(): number {
    return this.latest;
  }

  has(domain: number): boolean {
    return domain === this.latest || this.former.includes(domain);
  }

  /** The entry names this domain now. */
  change(domain: number): void {
    if (domain !== this.latest) {
      this.former = [this.latest, ...this.former.filter((one) => one !== domain)].slice(0, MOST_FORMER);
      this.latest = domain;
    }
  }

  /** The same ids for another table in the place of this one, whose entry names a domain. */
  succeededBy(domain: number): GuestDomains {
    const next = new GuestDomains(this.latest);
    next.former = this.former;
    next.change(domain);
    return next;
  }
}
