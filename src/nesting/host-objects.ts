import { type HostError, type Iommufd, refusalOf } from "../iommufd/index.js";
import type { Log } from "../support/index.js";

/** What waits is tried again beside another object, as far as this: the others have their turn with the next ones. */
const MOST_TRIED = 16;

/** Object ids that wait for their dependants to go: a failed DESTROY is tried again, never forgotten. */
export class Graveyard {
  private readonly waiting: Array<{ iommufd: Iommufd; id: number; what: string }> = [];

  /** `kind`: the key of the log's limit, such as "smmuv3.destroy". */
  constructor(
    private readonly log: Log,
    private readonly kind: string,
  ) {}

  /** Destroys an object, or keeps it for `retry`; what is kept from before comes first. */
  destroy(iommufd: Iommufd, id: number, what: string): void {
    this.retryFirst(MOST_TRIED);
    const refusal = refusalOf(() => iommufd.destroy(id));
    if (refusal !== null && !isGone(refusal)) {
      this.log.warnLimited(this.kind, `${what} (object ${id}) cannot be freed now: ${refusal.message}`);
      this.waiting.push({ iommufd, id, what });
    }
  }

  /** Tries all again, in the order in which they were given up, as long as that frees any. */
  retry(): void {
    let before: number;
    do {
      before = this.waiting.length;
      this.retryFirst(before);
    } while (this.waiting.length > 0 && this.waiting.length < before);
  }

  private retryFirst(most: number): void {
    for (const object of this.waiting.splice(0, most)) {
      const refusal = refusalOf(() => object.iommufd.destroy(object.id));
      if (refusal !== null && !isGone(refusal)) {
        this.waiting.push(object);
      }
    }
  }

  get size(): number {
    return this.waiting.length;
  }
}

/** Gone with what it belonged to, or with the whole iommufd. */
function isGone(error: HostError): boolean {
  return error.errno === "ENOENT" || error.errno === "EBADF";
}
