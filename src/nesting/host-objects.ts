import { HostError, type Iommufd } from "../iommufd/index.js";
import type { Log } from "../support/index.js";

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
    this.retry();
    try {
      iommufd.destroy(id);
    } catch (error) {
      if (!(error instanceof HostError)) {
        throw error;
      }
      if (isGone(error)) {
        return;
      }
      this.log.warnLimited(this.kind, `${what} (object ${id}) cannot be freed now: ${error.message}`);
      this.waiting.push({ iommufd, id, what });
    }
  }

  /** Tries all again, in the order in which they were given up. */
  retry(): void {
    const again = this.waiting.splice(0);
    for (const object of again) {
      try {
        object.iommufd.destroy(object.id);
      } catch (error) {
        if (!(error instanceof HostError)) {
          throw error;
        }
        if (!isGone(error)) {
          this.waiting.push(object);
        }
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
