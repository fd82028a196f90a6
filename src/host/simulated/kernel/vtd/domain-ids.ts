import type { VtdDriver } from "./driver.js";

/** One use of a domain by requests of a function: those without PASID (0), or with one. */
export interface Attachment {
  readonly driver: VtdDriver;
  readonly requesterId: number;
  readonly pasid: number;
  readonly domainId: number;
  /** Whether the function has a cache of its own that is in use. */
  readonly ats: boolean;
  /** Writes the PASID entry again as the domains now are, and drops what is cached of the old one. */
  rewrite(): void;
}

/**
 * The domain ids of a domain: one on each unit behind which it is attached (Linux domain_attach_iommu). What
 * the unit caches is tagged by them.
 */
export class DomainIds {
  private readonly ids = new Map<VtdDriver, { readonly id: number; users: number }>();

  /** The domain's id on a unit, counted. Throws HostError ENOSPC where the unit has none left. */
  take(driver: VtdDriver): number {
    const known = this.ids.get(driver);
    if (known !== undefined) {
      known.users++;
      return known.id;
    }
    const id = driver.domainIds.take();
    this.ids.set(driver, { id, users: 1 });
    return id;
  }

  give(driver: VtdDriver): void {
    const known = this.ids.get(driver)!;
    known.users--;
    if (known.users === 0) {
      this.ids.delete(driver);
      driver.domainIds.give(known.id);
    }
  }
}
