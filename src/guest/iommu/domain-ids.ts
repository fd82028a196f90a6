import { GuestFailure } from "../failure.js";

/** Gives the lowest free id of a domain: ASID, VMID or domain id. */
export class DomainIds {
  private readonly used = new Set<number>();

  constructor(
    private readonly what: string,
    private readonly first = 1,
  ) {}

  take(bits: number): number {
    for (let id = this.first; id < 2 ** bits; id++) {
      if (!this.used.has(id)) {
        this.used.add(id);
        return id;
      }
    }
    throw new GuestFailure(`all ${2 ** bits - this.first} ${this.what} are in use`);
  }

  /** Keeps an id that somebody else uses. */
  reserve(id: number): void {
    this.used.add(id);
  }

  release(id: number): void {
    this.used.delete(id);
  }
}
